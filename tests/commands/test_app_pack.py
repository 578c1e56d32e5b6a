"""``app.py pack``: what it refuses, and a bundle whose weights are bits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from app_helpers import MODEL, app, refusal

from secateur.pruners.bundle import Bundle

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


def test_a_network_of_a_kind_is_packed_without_a_bundle(here: Path) -> None:
    result = app("pack", *BINARY, "BinaryConnect", "-o", "made", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["packed"]["layers"] == ["conv1", "conv2", "ip1", "ip2"]
    assert sorted(p.name for p in Path("made").iterdir()) == [
        "model.py", "plan.json", "report.html", "summary.json", "weights.pth",
    ]  # fmt: skip
