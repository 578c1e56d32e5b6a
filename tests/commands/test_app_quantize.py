"""The command line of quantization after training: what is refused, measured, found and written."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path

import pytest
import torch
from app_helpers import NETWORK, app, refusal

from secateur.commands import quantize, quantizing
from secateur.pruners.bundle import import_text
from secateur.pruners.bundle.folder import import_network
from secateur.training.data import load_data
from secateur.training.fit import evaluate

OWN = ("--model", "own_small.py:small")
DATA = (*OWN, "--data", "digits", "--weights", "own.pt", "-q")
ODD = '''
import torch
from torch import Tensor, nn
from own_small import Small


class Odd(Small):
    """Decides by what it sees, and insists on 32 bits."""

    def forward(self, x: Tensor) -> Tensor:
        out = super().forward(x if x.sum() > 0 else -x)
        return out @ torch.eye(10)


def broken() -> Small:
    made = Small()
    made.conv1.weight.data[0] = float("nan")
    return made


class Regression(Small):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).mean()
'''


@cache
def trained() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    network, images = import_text(NETWORK, "small"), load_data("digits").train
    optimizer = torch.optim.Adam(network.parameters(), 0.02)
    for batch, labels in [*images.batches(128)] * 4:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(batch), labels).backward()
        optimizer.step()
    return network.state_dict()


@pytest.fixture
def own(here: Path) -> Path:
    """The folder with a trained network of somebody's own."""
    (here / "own_odd.py").write_text(ODD)
    torch.save(trained(), here / "own.pt")
    return here


def values(*words: str) -> dict[str, object]:
    result = app("quantize", *words, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param(
            (), "say what to look at: a bundle's folder, --arch NAME or --model FILE.py:FACTORY", id="nothing"
        ),
        pytest.param(("x", "--arch", "lenet5"), "say what to look at: a bundle's", id="two things"),
        pytest.param((*OWN, "--input-shape", "1,8,8"), "images of known classes: add --data", id="no images"),
        pytest.param((*OWN, "--bits", "8,one"), "--bits 8,one: write numbers from 2 to 16, such as 8,6,4", id="a word"),
        pytest.param((*OWN, "--bits", "1"), "--bits 1: write numbers from 2 to 16, such as 8,6,4", id="one bit"),
        pytest.param((*OWN, "--bits", ""), "--bits : write numbers from 2 to 16, such as 8,6,4", id="no bits"),
        pytest.param((*OWN, "-o", "q"), "-o says where, --save half or --save fixed says what", id="what to save"),
        pytest.param((*OWN, "--save", "half"), "--save half: say where, with -o DIR", id="where to save"),
        pytest.param((*OWN, "--save", "int8", "-o", "q"), "take --save fixed --bits 8, which do", id="int8"),
        pytest.param((*OWN, "--save", "fixed", "-o", "q"), "with one --bits and one --scope", id="which"),
        pytest.param(
            (*OWN, "--save", "half", "-o", "full"), "full exists and is no bundle, it holds mine.txt", id="held"
        ),
        pytest.param(
            (*OWN, "--save", "half", "-o", "full", "--force"),
            "full exists and is no bundle, it holds mine.txt: only a bundle is ever written over",
            id="something else in the folder",
        ),
        pytest.param(("--model", "own_odd.py:broken", "--data", "digits"), "conv1.weight holds NaN", id="no numbers"),
        pytest.param(
            ("--model", "own_odd.py:Regression", "--data", "digits"), "one row of class scores", id="no classes"
        ),
    ],
)
def test_what_is_refused(here: Path, words: tuple[str, ...], message: str) -> None:
    (here / "own_odd.py").write_text(ODD)
    (here / "full").mkdir()
    (here / "full" / "mine.txt").write_text("mine")
    code, said = refusal("quantize", *words, "-q")
    assert code == 2
    assert message in said.splitlines()[-1]
    assert (here / "full" / "mine.txt").read_text() == "mine"
    assert not (here / "q").exists()


def test_the_table_of_a_network_and_its_files(own: Path) -> None:
    found = values(*DATA, "--bits", "8,3", "--scope", "layer")
    rows = {row["name"]: row for row in found["rows"]}
    assert list(rows) == [
        "float32", "half", "fixed point, 8 bits per layer", "fixed point, 3 bits per layer", "int8 static"
    ]  # fmt: skip
    score = evaluate(torch_network(own), load_data("digits").test)
    assert rows["float32"]["accuracy"] == score.top1
    assert not any(row["reason"] for row in rows.values())
    for name, words in {
        "half": ("--save", "half"),
        "fixed point, 3 bits per layer": ("--save", "fixed", "--bits", "3", "--scope", "layer"),
    }.items():
        assert app("quantize", *DATA, *words, "-o", name).exit_code == 0
        assert os.path.getsize(own / name / "weights.pth") == rows[name]["file_bytes"]
        measured = evaluate(torch_network(own, own / name / "weights.pth"), load_data("digits").test).top1
        assert measured == pytest.approx(rows[name]["accuracy"], abs=0.003)  # half runs in 32 bits here
    assert rows["int8 static"]["file_bytes"] is None


def torch_network(folder: Path, weights: Path | None = None) -> torch.nn.Module:
    network = import_network(folder / "own_small.py", "small")
    content = torch.load(weights or folder / "own.pt", weights_only=True)
    network.load_state_dict(content, strict=True)
    return network.eval()


def test_the_written_numbers_are_integers_times_a_power_of_two(own: Path) -> None:
    assert app("quantize", *DATA, "--save", "fixed", "--bits", "3", "--scope", "kernel", "-o", "q").exit_code == 0
    facts = json.loads((own / "q" / "quantization.json").read_text())
    state = torch.load(own / "q" / "weights.pth", weights_only=True)
    assert (facts["bits"], facts["scope"], len(facts["exponents"]["conv2.weight"])) == (3, "kernel", 8)
    for key, exponents in facts["exponents"].items():
        for row, exponent in zip(state[key], exponents, strict=True):
            whole = row / 2.0**exponent
            assert torch.equal(whole, whole.round())
            assert whole.min() >= -4 and whole.max() <= 3
    before = torch.load(own / "own.pt", weights_only=True)
    assert {k for k in before if not torch.equal(before[k], state[k])} == set(facts["exponents"])


def test_half_is_written_in_16_bits_and_overwritten_by_force_alone(own: Path) -> None:
    words = ("quantize", *DATA, "--save", "half", "--bits", "8", "-o", "q")
    assert app(*words).exit_code == 0
    state = torch.load(own / "q" / "weights.pth", weights_only=True)
    assert {str(t.dtype) for t in state.values() if t.is_floating_point()} == {"torch.float16"}
    assert app(*words).exit_code == 2
    assert app(*words, "--force").exit_code == 0
    again = app("evaluate", *OWN, "--data", "digits", "--weights", "q/weights.pth", "-q")
    assert again.exit_code == 0, again.stderr


def test_the_fewest_bits_are_decided_on_validation_images(own: Path) -> None:
    words = (*DATA, "--bits", "12", "--max-loss", "2")
    found = values(*words, "--save", "fixed", "-o", "q")
    rows = {row["name"]: row for row in found["rows"]}
    val, network = load_data("digits").val, torch_network(own)
    start = evaluate(network, val).top1
    assert rows["float32"]["validation_accuracy"] == start
    assert set(found["fewest_bits"]) == {"net", "layer", "kernel"}
    for scope, bits in found["fewest_bits"].items():
        row = rows[f"fixed point, {bits} bits per {scope}"]
        assert row["meets"] and row["validation_accuracy"] >= start - 0.02 - 1e-9
    saved = json.loads((own / "q" / "quantization.json").read_text())
    smallest = min(r["size_bytes"] for r in rows.values() if r["kind"] == "fixed" and r["meets"])
    assert saved["size_bytes"] == smallest
    assert evaluate(torch_network(own, own / "q" / "weights.pth"), val).top1 == saved["validation_accuracy"]
    shown = app("quantize", *words).stdout
    assert "validation images (which decide; test images only report)" in shown
    assert "validation, within 2" in shown


def test_nothing_is_saved_that_loses_too_much(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantizing, "enough_bits", lambda *_: None)
    monkeypatch.setattr(quantizing, "within", lambda *_: False)
    result = app("quantize", *DATA, "--bits", "4", "--max-loss", "0", "--save", "fixed", "-o", "q")
    assert result.exit_code == 2
    assert "nothing is saved: no such form keeps the loss within 0 points" in result.stderr
    assert "none per net, none per layer, none per kernel up to 16" in result.stdout
    assert not (own / "q").exists()


def test_forms_that_can_not_be_had_say_why(own: Path) -> None:
    words = ("--model", "own_odd.py:Odd", "--data", "digits", "--weights", "own.pt", "--bits", "8", "-q")
    result = app("quantize", *words)
    assert result.exit_code == 0, result.stderr
    assert "Traceback" not in result.stderr
    lines = result.stdout.splitlines()
    assert any(line.startswith("half: RuntimeError: ") and "own_odd.py:" in line for line in lines)
    assert any(line.startswith("int8 static: TraceError: ") and "own_odd.py:" in line for line in lines)
    refused = app("quantize", *words, "--save", "half", "-o", "q")
    assert refused.exit_code == 2
    assert "nothing is saved: RuntimeError: " in refused.stderr


def test_layers_of_few_bits_stay_and_are_named(here: Path) -> None:
    lenet = ("--arch", "lenet5", "--network", "XnorNet", "--data", "digits")
    assert app("train", *lenet, "--epochs", "2", "-q").exit_code == 0
    result = app("quantize", *lenet, "--bits", "8", "--save", "fixed", "--scope", "layer", "-o", "q", "-q")
    assert result.exit_code == 0, result.stderr
    assert (
        "layers that quantize their weights themselves stay, and count with their own bits: conv2, ip1" in result.stdout
    )
    assert "int8 static: layers that quantize their weights themselves have no 8-bit form: conv2" in result.stdout
    assert set(json.loads((here / "q" / "quantization.json").read_text())["exponents"]) == {
        "conv1.weight",
        "ip2.weight",
    }
    again = app("evaluate", *lenet, "--weights", "q/weights.pth", "-q")
    assert again.exit_code == 0, again.stderr


def test_a_bundle_is_measured_on_its_own_data(own: Path) -> None:
    words = ("--ratio", "0.3", "--final-epochs", "1", "-o", "bundle")
    assert app("prune", *DATA, *words).exit_code == 0
    found = values("bundle", "--bits", "8", "--scope", "net", "-q")
    assert (found["name"], found["data"], len(found["rows"])) == ("bundle", "digits", 4)
    assert found["rows"][0]["accuracy"] == json.loads(Path("bundle/summary.json").read_text())["accuracy"]["retrained"]


def test_calibration_sees_training_images_alone(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(
        quantizing, "measured", lambda form, model, *more: seen.append(more[1]) or real(form, model, *more)
    )
    values(*DATA, "--bits", "8", "--scope", "net")
    images = torch.cat([images for images, _ in seen[0]])
    known = {i.numpy().tobytes() for batch, _ in load_data("digits").train.batches(256) for i in batch}
    assert len(images) == quantizing.CALIBRATION_IMAGES
    assert all(image.numpy().tobytes() in known for image in images)


real = quantizing.measured


def test_a_full_disk_leaves_nothing(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(quantize, "write_file", full)
    result = app("quantize", *DATA, "--bits", "8", "--save", "half", "-o", "q")
    assert result.exit_code == 2
    assert "q can't be written: the disk is full" in result.stderr
    assert not [p for p in own.iterdir() if p.name == "q" or p.name.startswith(".q")]
