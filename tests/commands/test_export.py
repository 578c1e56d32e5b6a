"""``app.py export``: what it refuses, and files that their own runtimes open."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from app_helpers import MODEL, NETWORK, app, refusal
from torch import nn

from secateur.commands.cli import export_files
from secateur.commands.cli.names import EXPORTS
from secateur.pruners.bundle import Bundle
from secateur.training import exporting

OTHERS = '''

class Two(nn.Module):
    """Two inputs, and outputs by name."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.out = nn.Linear(6, 8), nn.Linear(5, 8), nn.Linear(8, 4)

    def forward(self, a: Tensor, b: Tensor) -> dict[str, Tensor]:
        x = (self.left(a) + self.right(b)).relu()
        return {"scores": self.out(x), "inner": x}


class Fixed(Two):
    """Takes one image or three."""

    def forward(self, a: Tensor) -> Tensor:
        return self.left(a).view(1 if a.shape[0] == 1 else 3, -1, 8)


class Branch(Two):
    """Computes something else where a number says so."""

    def forward(self, a: Tensor) -> Tensor:
        return self.left(a) if a.sum() > 0 else self.left(a).relu()


class Large(Two):
    """Holds a number that float16 doesn't."""

    def forward(self, a: Tensor) -> Tensor:
        return self.left(a)


def large():
    network = Large()
    nn.init.constant_(network.left.bias, 1e6)
    return network


def both():
    import torch

    return {"b": torch.randn(2, 5), "a": torch.randn(2, 6)}
'''
TWO = ("--model", "own_small.py:Two", "--example", "own_small.py:both")
SUFFIX = {name: form.suffix for name, form in export_files.FORMS.items()}


def needing(*packages: str) -> pytest.MarkDecorator:
    missing = [package for package in packages if not find_spec(package)]
    return pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)}")


CASES = [pytest.param(name, marks=needing(*export_files.FORMS[name].packages)) for name in EXPORTS]
ONNX = pytest.param("onnx", marks=needing("onnx", "onnxruntime", "onnxscript"))


@pytest.fixture(scope="module")
def pruned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pruned")
    (folder / "own_small.py").write_text(NETWORK)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        result = app("prune", *MODEL, "--ratio", "0.5", "-q", "-o", "small")
        assert result.exit_code == 0, result.stderr
    return folder / "small"


@pytest.fixture
def bundle(here: Path, pruned: Path) -> Path:
    """A bundle in an empty folder, with a file of more networks."""
    (here / "own_small.py").write_text(NETWORK + OTHERS)
    return shutil.copytree(pruned, here / "small")


def names_in(folder: Path) -> list[str]:
    """All files but those that Python keeps."""
    found = (p.relative_to(folder) for p in folder.rglob("*"))
    return sorted(p.as_posix() for p in found if "__pycache__" not in p.parts)


# -- what is refused


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--to", "onnx"), "say what to look at"),
        (("nowhere", "--to", "onnx"), "nowhere is not a bundle"),
        (("small", "--to", "onx"), "did you mean 'onnx'?"),
        (("small", "--to", "onnx", "--int8", "--half"), "--int8 and --half are two precisions"),
        (("small", "--to", "safetensors", "--int8"), "holds weights alone"),
        (("small", "--to", "onnx", "-o", "small.pt2"), "the name of an ONNX file ends in .onnx"),
        (("small", "--to", "onnx", "-o", "folder.onnx"), "folder.onnx is a folder: name a file in it"),
        (("small", "--to", "onnx", "-o", "link.onnx", "--force"), "link.onnx is a link"),
        (("small", "--to", "onnx", "-o", "mine.onnx", "--force"), "mine.onnx exists and is not an ONNX file"),
        (("small", "--to", "onnx", "-o", "mine.onnx/x.onnx"), "mine.onnx"),
        (("--model", "own_small.py:Fixed", "--input-shape", "6", "--to", "torch_export"), "fixes the batch"),
        (("--model", "own_small.py:Branch", "--input-shape", "6", "--to", "torch_export"), "own_small.py:"),
        (("--model", "own_small.py:large", "--input-shape", "6", "--to", "torch_export", "--half"), "left.bias holds"),
        ((*TWO, "--to", "torch_export", "--int8"), "--int8 is for networks that take one tensor of numbers"),
    ],
)  # fmt: skip
def test_refusals_come_in_one_line_and_leave_nothing(
    arguments: tuple[str, ...], said: str, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_files, "find_spec", lambda name: True)
    (bundle.parent / "mine.onnx").write_text("my own notes")
    (bundle.parent / "folder.onnx").mkdir()
    (bundle.parent / "link.onnx").symlink_to("mine.onnx")
    before = names_in(bundle.parent)
    code, line = refusal("export", *arguments, "-q")
    assert (code, line.count("\n")) == (2, 0), line
    assert said in line
    assert names_in(bundle.parent) == before
    assert (bundle.parent / "mine.onnx").read_text() == "my own notes"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--to", "onnx"), "--to onnx needs onnx, onnxruntime, onnxscript: pip install \"secateur[export]\""),
        (("--to", "executorch"), "--to executorch needs executorch, torchao: pip install executorch"),
        (("--to", "torch_export", "--int8"), "--int8 needs torchao: pip install \"secateur[export]\""),
    ],
)  # fmt: skip
def test_a_missing_package_is_told_at_once(
    arguments: tuple[str, ...], said: str, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_files, "find_spec", lambda name: None)
    assert refusal("export", "small", *arguments) == (2, f"error: {said}")


def test_weights_as_bits_are_refused_where_there_is_no_operation_for_them(
    here: Path, without_numba: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_files, "find_spec", lambda name: True)
    binary = ("--arch", "lenet5", "--network", "BinaryNet", "--input-shape", "1,16,16")
    assert app("pack", *binary, "-q", "-o", "packed").exit_code == 0
    code, line = refusal("export", "packed", "--to", "onnx", "-q")
    assert code == 2 and "holds weights as bits (" in line and "for which onnx has no operation" in line
    result = app("export", "packed", "--to", "torch_export", "--json")
    assert result.exit_code == 0, result.stderr
    assert "packed_signs::convolve_v1" in result.stderr and json.loads(result.stdout)["max_rel_diff"] < 1e-6


def test_what_differs_is_not_published(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = exporting.Target.opened

    def off(self: exporting.Target, path: Path, program: exporting.Program) -> nn.Module:
        file = opened(self, path, program)
        file.register_forward_hook(lambda module, given, out: out * 1.01)
        return file

    monkeypatch.setattr(exporting.Target, "opened", off)
    result = app("export", "small", "--to", "torch_export", "-q")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "the file computes something else than the network: outputs differ by 0.01" in result.stderr
    assert [n for n in names_in(bundle.parent) if not n.startswith("small/")] == ["own_small.py", "small"]


# -- what is written


def by_onnx(path: Path, network: nn.Module, x: torch.Tensor) -> torch.Tensor:
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    [given] = session.get_inputs()
    assert given.shape == ["batch", 1, 8, 8]
    return torch.from_numpy(session.run(None, {given.name: x.numpy()})[0])


def by_torch_export(path: Path, network: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return torch.export.load(path).module()(x)


def by_safetensors(path: Path, network: nn.Module, x: torch.Tensor) -> torch.Tensor:
    from safetensors.torch import load_file

    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    network.load_state_dict(load_file(path))
    return network(x)


def by_executorch(path: Path, network: nn.Module, x: torch.Tensor) -> torch.Tensor:
    from executorch.runtime import Runtime

    return Runtime.get().load_program(path).load_method("forward").execute([x])[0]


READERS: dict[str, Callable[[Path, nn.Module, torch.Tensor], torch.Tensor]] = {
    "executorch": by_executorch, "onnx": by_onnx, "safetensors": by_safetensors, "torch_export": by_torch_export,
}  # fmt: skip


def test_the_names_are_those_of_the_targets() -> None:
    assert set(EXPORTS) == set(exporting.TARGETS) == set(export_files.FORMS) == set(READERS)


@pytest.mark.parametrize("target", CASES)
def test_its_own_runtime_opens_it_with_any_batch(target: str, bundle: Path) -> None:
    result = app("export", "small", "--to", target, "--json")
    assert result.exit_code == 0, result.stderr
    told, file = json.loads(result.stdout), bundle.with_suffix(SUFFIX[target])
    assert told["file"] == file.name and told["size_bytes"]["after"] == file.stat().st_size
    assert told["max_rel_diff"] <= told["tolerance"] and len(told["batches"]) == 2
    assert (told["ms"] is None) == (target == "safetensors")
    network = Bundle.open(bundle).model
    for batch in (1, 7):
        x = torch.randn(batch, 1, 8, 8)
        with torch.no_grad():
            expected = network(x)
            assert torch.allclose(READERS[target](file, Bundle.open(bundle).model, x), expected, atol=1e-4)

    assert f"{file.name} exists" in refusal("export", "small", "--to", target, "-q")[1]
    before = file.stat().st_ino
    assert app("export", "small", "--to", target, "-q", "--force").exit_code == 0
    assert file.stat().st_ino != before  # exchanged in one step
    assert [n for n in names_in(bundle.parent) if n.startswith("small.")] == [file.name]


def test_a_bundle_that_is_the_current_folder_and_numbers_of_16_bits(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (bundle / "model.py").open("a") as source:
        source.write("\n\nwide = small\n\n\ndef small():\n    return wide().half()\n")
    monkeypatch.chdir(bundle)
    result = app("export", ".", "--to", "torch_export", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["precision"] == "float16" and bundle.with_suffix(".pt2").is_file()


@pytest.mark.parametrize("target", [ONNX, "torch_export"])
def test_several_inputs_and_outputs_by_name(target: str, bundle: Path) -> None:
    name = f"new/folder/two{SUFFIX[target]}"
    result = app("export", *TWO, "--to", target, "-o", name, "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["batches"] == [1, 2, 6] and Path(name).is_file()


@pytest.mark.parametrize(
    ("target", "precision"),
    [
        pytest.param("onnx", "--half", marks=ONNX.marks),
        ("torch_export", "--half"),
        pytest.param("onnx", "--int8", marks=[*ONNX.marks, needing("torchao")]),
    ],
)
def test_fewer_bits(target: str, precision: str, bundle: Path) -> None:
    result = app("export", "small", "--to", target, precision, "--json")
    assert result.exit_code == 0, result.stderr
    told: dict[str, Any] = json.loads(result.stdout)
    assert told["file"] == f"small_{precision[2:]}{SUFFIX[target]}"
    if precision == "--int8":
        import onnx

        kinds = {node.op_type for node in onnx.load(told["file"]).graph.node}
        assert "DequantizeLinear" in kinds and told["precision"] == "int8"
        assert told["agreement"] > 0.8 and told["accuracy"] is None and told["calibration"] == "synthetic"
    else:
        assert told["precision"] == "float16" and told["max_rel_diff"] < 0.02


@needing("torchao")
def test_accuracy_is_told_before_and_after_where_there_are_labels(here: Path) -> None:
    result = app("export", "--arch", "lenet5", "--to", "torch_export", "--int8", "--json")
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert told["calibration"] == "digits" and told["inputs"] == 360
    assert abs(told["accuracy"]["before"] - told["accuracy"]["after"]) < 0.05


def test_a_models_folder_takes_any_batch_and_any_length(here: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
        vocab_size=50,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config).eval()
    model.save_pretrained("llama")
    assert "holds its weights as safetensors already" in refusal(
        "export", "--model", "hf:llama", "--to", "safetensors", "-q"
    )[1]
    result = app("export", "--model", "hf:llama", "--to", "torch_export", "-o", "llama.pt2", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["any_length"] is True
    tokens = torch.randint(50, (3, 9))
    given = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "use_cache": False}
    with torch.no_grad():
        out = torch.export.load("llama.pt2").module()(**given)
        assert torch.allclose(out.logits, model(**given).logits, atol=1e-5)
