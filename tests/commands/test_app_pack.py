"""``app.py pack``: what it refuses, and a bundle whose weights are bits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from app_helpers import MODEL, app, refusal

from secateur.pruners.bundle import Bundle
from secateur.training.data import load_data

BINARY = ("--arch", "lenet5", "--input-shape", "1,16,16", "--network")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nowhere",), "nowhere is not a bundle"),
        ((), "say what to look at"),
        (MODEL, "has no layers with weights of one bit"),
        ((*BINARY, "SemiReal"), "SemiRealConv2d: the weights that it computes with have more than one bit"),
        ((*BINARY, "DoReFa", "--kind-arg", "weight_bits=3"), "have more than one bit"),
        ((*BINARY, "BinaryConnect", "--kind-arg", "stochastic=True"), "have more than one bit"),
    ],
    ids=["a folder that is none", "nothing", "a network without binary layers", "real weights on signs", "three bits",
         "random signs"],
)  # fmt: skip
def test_refusals_come_in_one_line_and_leave_nothing(arguments: tuple[str, ...], said: str, here: Path) -> None:
    before = sorted(p.name for p in here.iterdir())
    code, line = refusal("pack", *arguments, "-q")
    assert (code, line.count("\n")) == (2, 0), line
    assert said in line
    assert sorted(p.name for p in here.iterdir()) == before


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "lenet"
    result = app("prune", *BINARY, "XnorNet", "--ratio", "0.5", "-q", "-o", str(folder))
    assert result.exit_code == 0, result.stderr
    return folder


def test_a_bundle_is_packed_beside_itself(bundle: Path) -> None:
    result = app("pack", str(bundle), "--json")
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert told["packed"]["layers"] == ["conv2", "ip1"]
    bits = (25 * -(-25 * 10 // 8), 250 * -(-25 // 8))  # of conv2 and ip1: eight to a byte
    numbers = 16 * (25 + 250)  # a scale and an offset for each output
    assert told["packed"]["bytes"] == {"before": 4 * 25 * (250 + 250), "after": sum(bits) + numbers}
    folder = bundle.with_name("lenet_packed")
    assert (folder / "weights.pth").stat().st_size == told["size_bytes"]["after"] < told["size_bytes"]["before"] / 2
    x = torch.randn(3, 1, 16, 16)
    with torch.no_grad():
        assert torch.allclose(Bundle.open(folder).model(x), Bundle.open(bundle).model(x), rtol=1e-5, atol=1e-6)

    assert refusal("pack", str(bundle))[0] == 2  # there already
    for command in ("pack", "retrain"):
        code, line = refusal(command, str(folder), "-q")
        assert code == 2 and "is packed" in line
    result = app("evaluate", str(folder), "--data", "digits")
    assert result.exit_code == 2  # images of another shape: the packed network is a network like others
    assert "Traceback" not in result.stderr


def test_a_network_of_a_kind_is_packed_without_a_bundle(here: Path, without_numba: None) -> None:
    result = app("pack", *BINARY, "BinaryConnect", "-o", "made", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["packed"]["layers"] == ["conv1", "conv2", "ip1", "ip2"]
    assert sorted(p.name for p in Path("made").iterdir()) == [
        "model.py", "plan.json", "report.html", "summary.json", "weights.pth",
    ]  # fmt: skip


def test_parameters_are_written_as_text_that_gives_the_same_signs(here: Path, without_numba: None) -> None:
    """What the lines say is computed anew in whole numbers, without the packed layers."""
    words = ("--arch", "lenet5", "--network", "XnorNet", "--data", "digits", "--epochs", "1", "-q", "-o", "w.pt")
    assert app("train", *words).exit_code == 0
    made = app("pack", *words[:6], "--weights", "w.pt", "-q", "-o", "made", "--text", "text")
    assert made.exit_code == 0, made.stderr
    network = Bundle.open(here / "made").model
    [images] = [x[:3] for x, _ in load_data("digits").test.batches(3)][:1]
    inputs: dict[str, torch.Tensor] = {}
    for name in ("conv2", "ip1"):
        network.get_submodule(name).register_forward_pre_hook(lambda _, x, name=name: inputs.setdefault(name, x[0]))
    with torch.no_grad():
        network(images)
    for name in ("conv2", "ip1"):
        lines = (here / f"text/{name}.weights.txt").read_text().split()
        rows = [[1 if bit == "1" else -1 for bit in line] for line in lines]
        offsets = [int(line, 16) for line in (here / f"text/{name}.offsets.txt").read_text().split()]
        offsets = [n - 2**16 if n >= 2**15 else n for n in offsets]
        signs = torch.where(inputs[name] >= 0, 1.0, -1.0).double()
        weight = torch.tensor(rows, dtype=torch.float64)
        if name == "conv2":
            sums = torch.nn.functional.conv2d(signs, weight.view(50, 20, 5, 5), padding=2).flatten(2)
        else:
            sums = (signs @ weight.T).unsqueeze(2)
        given = sums + torch.tensor(offsets, dtype=torch.float64).view(-1, 1) >= 0
        for number in range(3):
            lines = (here / f"text/pattern{number + 1}/{name}.txt").read_text().split()
            assert lines == ["".join("1" if bit else "0" for bit in row) for row in given[number].tolist()]
    assert len((here / "text/conv1.weight.txt").read_text().split()) == 20 * 25
    assert refusal("pack", *words[:6], "--weights", "w.pt", "-o", "other", "--text", "text")[0] == 2
