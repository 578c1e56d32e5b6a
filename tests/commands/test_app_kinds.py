"""The command line with --network: kinds of networks trained, started from each other, pruned, applied, retrained."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from app_helpers import app, uncoded

from secateur.app import cli
from secateur.training.binarization.comparison import rendered, table
from secateur.training.binarization.kinds import KINDS
from secateur.training.binarization.post_training import to_fixed_point

PAGE = (Path(__file__).parents[2] / "docs" / "network_kinds.md").read_text("utf-8")
LENET = ("--arch", "lenet5", "--network")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param(
            ("evaluate", *LENET, "XnorNett"), "unknown network kind 'XnorNett', did you mean 'XnorNet'? known are BWN, "
            "BinaryConnect, BinaryNet, DoReFa, IENet, IRNet, Real, SemiReal, XnorNet", id="unknown"
        ),
        pytest.param(
            ("evaluate", "--arch", "lenet5", "--init-from", "x.pt"),
            "--init-from belongs to a network kind: add --network KIND",
            id="a start without a kind",
        ),
        pytest.param(
            ("inspect", "--arch", "squeezenet", "--network", "BWN"),
            "squeezenet has no form for binary layers: take one of alexnet_binary, lenet5_binary, nin_binary, "
            "resnet14_binary, resnet18_binary, resnet20_binary, vgg11_binary, vgg_small, vgg_small_irnet",
            id="a network whose layers are fixed",
        ),
        pytest.param(
            ("inspect", "--model", "own_small.py:net", "--network", "BWN"),
            "--network is for bundled networks, whose layers can be chosen: take --arch, not --model",
            id="a network of the user's own",
        ),
        pytest.param(
            ("inspect", *LENET, "DoReFa", "--kind-arg", "bits=2"),
            "network kind DoReFa has no option 'bits': it has weight_bits, activation_bits, gradient_bits",
            id="an option that the kind does not have",
        ),
        pytest.param(
            ("inspect", *LENET, "BWN", "--last-layer", "none"),
            "--last-layer none: must be real or binary",
            id="a last layer that is neither",
        ),
        pytest.param(
            ("evaluate", *LENET, "BWN", "--weights", "a.pt", "--init-from", "b.pt"),
            "give --weights to go on with a network of this kind, or --init-from for another, not both",
            id="two beginnings",
        ),
    ],
)
def test_refused_in_one_line(words: tuple[str, ...], message: str, here: Path) -> None:
    result = app(*words)
    assert result.exit_code == 2
    assert uncoded(result.stderr).splitlines()[-1] == f"error: {message}"


def test_weights_of_another_kind_start_a_network_only_when_asked_to(here: Path) -> None:
    trained = app("train", *LENET, "Real", "--epochs", "1", "-q")
    assert trained.exit_code == 0, trained.stderr
    path = "pretrained/model_digits_lenet5_binary_Real.pt"
    assert torch.load(path, weights_only=True)["network"]["kind"] == "Real"

    refused = app("evaluate", *LENET, "XnorNet", "--weights", path)
    assert refused.exit_code == 2
    assert uncoded(refused.stderr).splitlines()[-1] == (
        f"error: {path} holds the weights of a Real network, this one is XnorNet: start from them with "
        f"--network XnorNet --init-from {path}, or take --network Real"
    )
    assert app("evaluate", *LENET, "Real", "--weights", path, "--data", "digits").exit_code == 0
    last = path
    for kind in ("SemiReal", "XnorNet", "IENet"):
        result = app("train", *LENET, kind, "--init-from", last, "--epochs", "1", "-q")
        assert result.exit_code == 0, result.stderr
        last = f"pretrained/model_digits_lenet5_binary_{kind}.pt"
    assert Path(last).exists()


def test_a_network_of_few_bits_is_pruned_applied_and_retrained(here: Path) -> None:
    kind = (*LENET, "DoReFa", "--kind-arg", "weight_bits=1")
    weights = "pretrained/model_digits_lenet5_binary_DoReFa.pt"
    assert app("train", *kind, "--epochs", "1", "-q").exit_code == 0
    made = app(
        "prune", *kind, "--weights", weights, "--data", "digits", "--ratio", "0.5", "--final-epochs", "1", "-q",
        "-o", "out", "--json",
    )  # fmt: skip
    assert made.exit_code == 0, made.stderr
    told = json.loads(made.stdout)
    assert told["verified"] is True
    assert told["bits"]["before"] < told["params"]["before"] * 8
    assert json.loads(Path("out/plan.json").read_text())["provenance"]["network"] == {
        "kind": "DoReFa",
        "options": {"weight_bits": 1, "activation_bits": 2, "gradient_bits": 32},
        "first_layer": "real",
        "last_layer": "real",
    }

    applied = app("apply", "out/plan.json", "-o", "again", "-q")
    assert applied.exit_code == 0, applied.stderr
    for name in ("model.py", "weights.pth", "plan.json"):
        assert Path("again", name).read_bytes() == Path("out", name).read_bytes()

    assert "MicroNet score 0.0" in app("profile", "out").stdout
    shown = json.loads(app("profile", "out", "--json").stdout)
    assert shown["total"]["bops"] == sum(r["bops"] for r in shown["layers"]) < 1024 * shown["total"]["macs"]
    assert shown["micronet"]["baseline"] == "cifar100"
    bits = {row["name"]: row["bits"] / row["params"] for row in shown["layers"] if row["params"]}
    assert 1 <= bits["ip1"] < 1.5  # signs, and biases of 32 bits
    assert bits["ip2"] == 32
    retrained = app("retrain", "out", "--epochs", "1", "-q")
    assert retrained.exit_code == 0, retrained.stderr


def test_the_ends_of_a_network_are_binary_when_asked(here: Path) -> None:
    for words in (("IRNet", "--epochs", "2"), ("IRNet", "--epochs", "2", "--first-layer", "binary", "-o", "b.pt")):
        assert app("train", *LENET, *words, "-q").exit_code == 0
    one = torch.load("pretrained/model_digits_lenet5_binary_IRNet.pt", weights_only=True)
    two = torch.load("b.pt", weights_only=True)
    assert one["network"]["first_layer"] == "real"
    assert two["network"]["first_layer"] == "binary"


def test_the_page_about_kinds_lists_all_with_their_options_and_its_commands_parse() -> None:
    rows = {row[0]: row[1] for row in re.findall(r"^\| `(\w+)` (\|.*)$", PAGE, re.MULTILINE)}
    assert set(rows) == set(KINDS)
    for name, kind in KINDS.items():
        assert all(f"{option}=" in rows[name] for option in kind.options), name
    for name, words in re.findall(r"app\.py (train|prune|quantize) ([^`\n]*)", PAGE):
        cli.commands[name].make_context(name, words.split())


def test_the_example_of_quantizing_after_training_runs(capsys: pytest.CaptureFixture[str]) -> None:
    code = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[0]
    assert all(f.__name__ in code for f in (rendered, table, to_fixed_point))
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)).eval()
    images = torch.randn(4, 1, 8, 8)
    given = {"network": network, "evaluate": lambda n: 1.0, "batches": [images], "images": images}
    given["kind"] = KINDS["Real"]
    exec(compile(code, "network_kinds.md", "exec"), given)
    assert "int8 static" in capsys.readouterr().out
