"""Loss and accuracy against the pruned share of each layer: points by hand, kernels, resuming, the command."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from app_helpers import app, refusal
from hand_graphs import grouped, plain, slice_by_hand
from torch import Tensor, nn

from secateur.pruners.errors import Interrupted, UsageError
from secateur.pruners.graph import ChannelGraph
from secateur.pruners.metrics import rank
from secateur.pruners.metrics.binary import kernel_distances
from secateur.pruners.search import Ledger, Point, mean_curve, series_of, sweep
from secateur.pruners.slicing import zero_kernels
from secateur.training.binarization.kinds import KINDS

IMAGES = torch.randn(8, 3, 4, 4, generator=torch.Generator().manual_seed(0))


def evaluate(model: nn.Module) -> tuple[float, float]:
    with torch.no_grad():
        out = model.eval()(IMAGES)
    return out.square().mean().item(), (out.argmax(1) == 0).float().mean().item()


def series(built: tuple[nn.Module, ChannelGraph], metrics: Any = ("l1",), **more: Any) -> Any:
    model, graph = built
    return series_of(model, graph, lambda m, kept: slice_by_hand(m, graph, kept), metrics, **more)


class Binary(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.conv2 = KINDS[kind].conv(4, 5, kernel_size=3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x)).mean((2, 3))


NO_CHANNELS = ChannelGraph((), (), {}, (), None)


# -- refusals


def test_unknown_names_are_refused() -> None:
    with pytest.raises(UsageError, match="unknown metric 'angel', did you mean 'angle'"):
        series(plain(), ["angel"])
    with pytest.raises(UsageError, match="unknown ranking 'small', known are smallest, largest, random"):
        series(plain(), rankings=["small"])


def test_kernels_of_a_real_network_are_refused() -> None:
    with pytest.raises(UsageError, match="metric angles_kernel is for convolutions that quantize their weights, this"):
        series(plain(), ["angles_kernel"])


def test_the_command_refuses_in_one_line(here: Path) -> None:
    words = ("curves", "--arch", "lenet5")
    assert refusal(*words, "--input-shape", "1,8,8") == (2, "error: curves are measured on images: add --data")
    Path("out").mkdir()
    Path("out/curves.jsonl").touch()
    exists = "error: out/curves.jsonl exists: go on with --resume, or start anew with --force"
    assert refusal(*words, "-o", "out") == (2, exists)


# -- points


def test_points_are_the_losses_of_networks_pruned_by_hand() -> None:
    model, graph = plain()
    points = sweep(series((model, graph), ["l1", "fpgm"]), evaluate, Ledger(None, {}))
    assert len(points) == 2 * (2 * 2 + 1) * 10  # widths x (metrics x rankings + random) x ratios
    sizes = {"conv1": 8, "conv2": 6}
    for p in points:
        assert (p.size, p.removed) == (sizes[p.layer], min(round(sizes[p.layer] * p.ratio / 100), p.size - 1))
        order = rank(model, graph, p.metric, first=p.ranking).order[p.layer]
        small = slice_by_hand(model, graph, {p.layer: sorted(order[p.removed :])})  # the other width is whole
        assert (p.loss, p.accuracy) == evaluate(small)
    scores = rank(model, graph, "l1").scores["conv1"]
    first = {r: rank(model, graph, "l1", first=r).order["conv1"][0] for r in ("smallest", "largest")}
    assert first == {"smallest": scores.argmin(), "largest": scores.argmax()}


def test_a_network_is_measured_once() -> None:
    seen: list[nn.Module] = []
    found = series(plain())
    sweep(found, lambda m: (seen.append(m), evaluate(m))[1], Ledger(None, {}))
    assert len(seen) == 1 + len({(s.layer, s.removed(r)) for s in found for r in range(10, 100, 10) if s.removed(r)})


def test_groups_stay_equal() -> None:
    model, graph = grouped()
    for s in series((model, graph)):
        for ratio in range(0, 100, 10):
            assert len(s.removed(ratio)) % 4 == 0
            s.without(s.removed(ratio))(IMAGES)


def test_losses_that_are_not_finite_leave_a_gap() -> None:
    points = sweep(series(plain(), rankings=["random"]), lambda m: (float("inf"), 0.5), Ledger(None, {}))
    assert {p.loss for p in points} == {None}
    assert mean_curve(points, "loss") == {}
    assert mean_curve(points, "accuracy") == dict.fromkeys(range(0, 100, 10), 0.5)
    two = [Point("a", "l1", "random", 10, 1, 9, loss, 0.0) for loss in (1.0, 2.0, None)]
    assert mean_curve(two, "loss") == {10: 1.5}


# -- kernels


@pytest.mark.parametrize("kind", ["BinaryNet", "XnorNet", "DoReFa", "IRNet"])
def test_a_kernel_that_is_gone_adds_nothing(kind: str) -> None:
    model = Binary(kind).eval()
    out = zero_kernels(model, "conv2", [0, 6])(IMAGES)  # output 0 without input 0, output 1 without input 2
    seen: list[tuple[Tensor, Tensor]] = []
    model.conv2._conv_forward = lambda x, w, b: (seen.append((x, w)), nn.functional.conv2d(x, w, b))[1]
    full = model(IMAGES)
    x, weight = seen[0][0], seen[0][1].clone()
    weight[0, 0], weight[1, 2] = 0, 0
    torch.testing.assert_close(out, nn.functional.conv2d(x, weight, model.conv2.bias).mean((2, 3)))
    assert torch.equal(out[:, 2:], full[:, 2:])
    assert not torch.equal(out[:, :2], full[:, :2])


def test_kernels_go_in_the_order_of_their_metric() -> None:
    model = Binary("XnorNet")
    found = series_of(model, NO_CHANNELS, lambda m, k: m, ["distances_kernel"])
    values = kernel_distances(model.conv2).flatten()
    assert [(s.layer, s.metric, s.ranking) for s in found] == [
        ("conv2", "distances_kernel", "smallest"), ("conv2", "distances_kernel", "largest"),
        ("conv2", "random_kernel", "random"),
    ]  # fmt: skip
    smallest, largest, random = (values[list(s.order)] for s in found)
    assert (smallest.diff() >= 0).all()
    assert (largest.diff() <= 0).all()
    assert sorted(found[2].order) == list(range(20))
    assert not (random.diff() >= 0).all()
    assert len(found[0].removed(50)) == 10


# -- resuming, the command


def test_an_interrupted_sweep_goes_on(tmp_path: Path) -> None:
    def interrupted(point: Point) -> None:
        if (point.layer, point.ranking, point.ratio) == ("conv2", "smallest", 30):
            os.kill(os.getpid(), signal.SIGINT)

    file, settings = tmp_path / "curves.jsonl", {"seed": 0}
    with Ledger(file, settings, what="sweep") as ledger, pytest.raises(Interrupted, match="after 14 of 60 points"):
        sweep(series(plain()), evaluate, ledger, watch=interrupted)
    done: list[nn.Module] = []
    with Ledger(file, settings, resume=True, what="sweep") as ledger:
        points = sweep(series(plain()), lambda m: (done.append(m), evaluate(m))[1], ledger)
    assert points == sweep(series(plain()), evaluate, Ledger(None, {}))
    assert len(file.read_text().splitlines()) == 61
    with pytest.raises(UsageError, match="belongs to a sweep with other settings"):
        Ledger(file, {"seed": 1}, resume=True, what="sweep")


def test_the_command_writes_points_and_resumes(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    made = app("train", "--arch", "lenet5", "--network", "BinaryNet", "--epochs", "1", "-o", "start.pt", "-q")
    assert made.exit_code == 0, made.output
    words = ("curves", "--arch", "lenet5", "--network", "BinaryNet", "--weights", "start.pt", "--data", "digits")
    more = ("--metric", "angle", "--metric", "angles_kernel", "--ranking", "largest", "-o", "out", "--json")
    result = app(*words, *more)
    assert result.exit_code == 0, result.output
    assert "need a package: pip install -e" in result.stderr
    values = json.loads(result.stdout)
    lines = [json.loads(line) for line in Path("out/curves.jsonl").read_text().splitlines()]
    assert lines[0]["settings"]["metrics"] == ["angle", "angles_kernel"]
    assert [{k: v for k, v in line.items() if k != "event"} for line in lines[1:]] == values["points"]
    layers = {(p["layer"], p["metric"]) for p in values["points"]}
    assert layers == {("conv1", "angle"), ("conv2", "angle"), ("ip1", "angle"), ("conv2", "angles_kernel")}
    before = Path("out/curves.jsonl").read_bytes()
    again = app(*words, *more, "--resume")
    assert json.loads(again.stdout) == values
    assert Path("out/curves.jsonl").read_bytes() == before
    assert "mean accuracy over the layers" in app(*words, *more[:-1], "--resume").stdout


def test_pictures_are_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from secateur.commands.show.pictures import draw_curves

    points = sweep(series(plain(), ["l1", "fpgm"]), evaluate, Ledger(None, {}))
    points.append(Point("conv9", "l1", "smallest", 10, 1, 9, None, None))
    files = draw_curves(points, "plain", tmp_path)
    assert [f.name for f in files] == ["l1.png", "fpgm.png"]
    assert all(f.read_bytes().startswith(b"\x89PNG") for f in files)
