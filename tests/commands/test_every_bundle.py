"""Every command of the manual on every kind of bundle: it works, or says in one line why it can't."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from app_helpers import NETWORK, app, uncoded
from PIL import Image

INPUTS = '''

class Colours(nn.Module):
    """Three channels in, two classes out."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.out = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 8, 3), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.b(self.a(x).relu()).relu().mean((2, 3)))


class Words(nn.Module):
    """A bag of words."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 8)
        self.up = nn.Linear(8, 12)
        self.out = nn.Linear(12, 4)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.out(self.up(self.embed(tokens).mean(1)).relu())


class Two(nn.Module):
    """Two inputs, one of them by name."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.out = nn.Linear(6, 8), nn.Linear(5, 8), nn.Linear(8, 4)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.out((self.left(a) + self.right(b)).relu())


def tokens():
    import torch

    return torch.randint(20, (2, 7))


def both():
    import torch

    return {"a": torch.randn(2, 6), "b": torch.randn(2, 5)}
'''
OWN = ("--model", "own_bundles.py:small")
LABELLED, LOOSE = ("--data", "folder:labelled"), ("--data", "folder:loose")
KINDS = {
    "without images": (*OWN, "--input-shape", "1,8,8"),
    "with images": (*OWN, "--data", "digits", "--macs", "0.6", "--final-epochs", "1", "--calibration", "64"),
    "with the user's images": ("--model", "own_bundles.py:Colours", *LABELLED, "--macs", "0.6", "--final-epochs", "1"),
    "with images without labels": ("--model", "own_bundles.py:Colours", *LOOSE, "--macs", "0.6"),
    "of tokens": ("--model", "own_bundles.py:Words", "--example", "own_bundles.py:tokens"),
    "of two inputs": ("--model", "own_bundles.py:Two", "--example", "own_bundles.py:both"),
    "of a bundled network": ("--arch", "lenet5", "--input-shape", "1,8,8"),
    "of few bits": ("--arch", "lenet5", "--network", "XnorNet", "--input-shape", "1,8,8"),
}
NAMES = {kind: f"b{i}" for i, kind in enumerate((*KINDS, "made by apply", "made by retrain"))}


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder, before, path = tmp_path_factory.mktemp("bundles"), Path.cwd(), list(sys.path)
    os.chdir(folder)
    Path("own_bundles.py").write_text(NETWORK + INPUTS)
    for i in range(24):
        for part in ("labelled/train/a", "labelled/train/b", "labelled/test/a", "labelled/test/b", "loose"):
            Path(part).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (i * 10, 100 if part.endswith("a") else 0, 0)).save(f"{part}/{i}.png")
    for kind, words in KINDS.items():
        budget = () if "--macs" in words else ("--ratio", "0.5")
        made(app("prune", "-q", *words, *budget, "-o", NAMES[kind]))
    made(app("apply", f"{NAMES['without images']}/plan.json", "-q", *OWN, "-o", NAMES["made by apply"]))
    retrained = NAMES["made by retrain"]
    made(app("retrain", NAMES["without images"], "-q", "--data", "digits", "--epochs", "1", "-o", retrained))
    yield folder
    os.chdir(before)
    sys.path[:] = path
    for name in [n for n in sys.modules if n.startswith("own_bundles")]:
        del sys.modules[name]


def made(result: object) -> None:
    assert result.exit_code == 0, result.stderr  # type: ignore[attr-defined]


def commands(kind: str) -> dict[str, tuple[str, ...]]:
    name = NAMES[kind]
    words = list(KINDS.get(kind, KINDS["without images"]))
    source = words[: 4 if "--network" in words else 2]
    file = f"{name}/model.py:{factory(words)}"
    inputs = tuple(w for i, w in enumerate(words) if w in ("--input-shape", "--example") or words[i - 1] in (
        "--input-shape", "--example"
    ))  # fmt: skip
    inputs = inputs or ("--input-shape", "1,8,8" if "digits" in words else "3,8,8")
    data = ("--data", "digits") if "3,8,8" not in inputs else LABELLED
    if "folder:loose" in words:
        data = LABELLED
    again = ("--model", file, "--weights", f"{name}/weights.pth", *inputs)
    return {
        "evaluate": ("evaluate", name),
        "evaluate on images": ("evaluate", name, *data),
        "quantize": ("quantize", name, *data),
        "profile": ("profile", name, "--repeats", "1", *(inputs if "--example" in inputs else ())),
        "retrain": ("retrain", name, *data, "--epochs", "1", "-o", "again"),
        "retrain on its own images": ("retrain", name, "--epochs", "1", "-o", "again"),
        "apply": ("apply", f"{name}/plan.json", *source, *(inputs if "--example" in inputs else ()), "-o", "again"),
        "inspect": ("inspect", *again),
        "prune again": ("prune", *again, "--ratio", "0.3", "-o", "again"),
    }


def factory(words: list[str]) -> str:
    """What a bundle's file offers; a network of few bits is another one."""
    return words[1].partition(":")[2] or words[1] + "_binary" * ("--network" in words)


ALWAYS = {"inspect", "prune again", "apply", "profile"}
IMAGES = {"evaluate on images", "quantize", "retrain"}


@pytest.mark.parametrize("command", commands("without images"))
@pytest.mark.parametrize("kind", NAMES)
def test_every_command_on_every_bundle(bundles: Path, kind: str, command: str) -> None:
    shutil.rmtree("again", ignore_errors=True)
    words = commands(kind)[command]
    result = app(words[0], "-q", *words[1:])
    assert result.exit_code in (0, 2), result.stderr
    assert "fault of this tool" not in result.stderr
    takes_images = kind not in ("of tokens", "of two inputs")
    own = kind in ("with images", "with the user's images")
    if command in ALWAYS or (command in IMAGES and takes_images) or own:
        assert result.exit_code == 0, result.stderr
    if result.exit_code:
        assert len(uncoded(result.stderr).splitlines()) == 1
