"""Weights by least squares: what is refused and left, exact cases, sums, and no layer ever worse than its slices."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from exact_cases import EXACT_CASES, Leftovers, Residual, Signs, chain, halved, noise, same, settled
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from secateur import prune
from secateur.pruners.costs import register_precision
from secateur.pruners.errors import UsageError
from secateur.pruners.least_squares import Gram, Reconstruction, Settings, as_system, reconstruct
from secateur.pruners.least_squares.affine_paths import Follower, Trail
from secateur.pruners.least_squares.gram import Rows
from secateur.pruners.least_squares.linear_layers import inputs_at, outputs_at, positions
from secateur.pruners.least_squares.solve import solved
from secateur.pruners.slicing import slice_model
from secateur.pruners.trace.trace import trace
from secateur.pruners.transfer import Transfer, transfer

EXACT = Settings(ridge=0.0)


def fitted(model: nn.Module, x: Tensor, setting: Settings = EXACT, only: str = "") -> tuple[nn.Module, Reconstruction]:
    graph, kept, pruned = halved(model, x, only)
    found = reconstruct(model, pruned, graph, kept, x.split(8), setting)
    pruned.load_state_dict(found.state)
    return pruned.eval(), found


# ---------------------------------------------------------------------------------------------- refusals


def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 5, 3), nn.ReLU(), nn.Flatten(),
                         nn.Linear(5 * 16, 3))  # fmt: skip


@pytest.mark.parametrize(
    "batches, message",
    [(None, "--transfer lstsq looks at images: add --data"), ([], "--transfer lstsq got no batches")],
    ids=["no batches", "an empty list"],
)
def test_least_squares_without_images_is_refused(batches: Any, message: str) -> None:
    model = settled(small())
    graph, kept, pruned = halved(model, noise(2, 3, 6, 6))
    with pytest.raises(UsageError, match=message):
        transfer("lstsq", Transfer(pruned=pruned, original=model, graph=graph, kept=kept, batches=batches))


def test_too_few_images_are_told_with_how_many_it_takes() -> None:
    model = settled(small())
    _, found = fitted(model, noise(8, 3, 6, 6), Settings())
    linear = next(f for f in found.fitted if f.layer == "5")
    assert (linear.samples, linear.unknowns) == (8, 3 * 16 + 1)
    words = "8 images are too few for 1 of 2 layers (5 has 49 unknowns for each output and 8 samples): 49"
    assert words in found.shortage
    assert fitted(model, noise(64, 3, 6, 6), Settings())[1].shortage == ""


register_precision(Signs, quantize=lambda weight, layer: weight.sign())


def test_consumers_that_are_not_fitted_are_named() -> None:
    torch.manual_seed(0)
    _, found = fitted(settled(Leftovers()), noise(16, 3, 4), only="first")
    assert dict(found.left) == {
        "signs": "Signs quantizes its weights",
        "scaled": "Scaled is no plain convolution or linear layer",
        "used": "it doesn't run as a layer of its own",
        "one": "its weight is another layer's, too",
        "back": "ConvTranspose1d is no plain convolution or linear layer",
    }
    assert not found.fitted


class SignConv(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight.sign())


register_precision(SignConv, quantize=lambda weight, layer: weight.sign())


def test_behind_a_layer_of_few_bits_statistics_are_taken_anew() -> None:
    torch.manual_seed(0)
    model = settled(nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), SignConv(8, 4, 1, bias=False), nn.BatchNorm2d(4)))
    x = noise(32, 3, 4, 4)
    pruned, found = fitted(model, x)
    with torch.no_grad():
        y = pruned[:3](x)
    assert torch.allclose(pruned[3].running_mean, y.mean((0, 2, 3)))
    assert pruned[3].momentum == 0.1
    assert dict(found.left) == {"2": "SignConv quantizes its weights"}
    assert torch.equal(pruned[2].weight, model[2].weight[:, ::2])


# ---------------------------------------------------------------------------------------------- exact cases


@pytest.mark.parametrize("memory", [2**30, 0], ids=["all at once", "in batches"])
@pytest.mark.parametrize("case", EXACT_CASES)
def test_channels_that_others_can_stand_for_go_without_any_loss(case: str, memory: int) -> None:
    torch.manual_seed(0)
    make, only = EXACT_CASES[case]
    model, x = settled(make()), noise(64, 3, 6, 6)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    _, _, sliced = halved(model, x, only)
    pruned, found = fitted(model, x, Settings(ridge=0.0, memory=memory), only)
    assert same(model, sliced, x) > 1e-3
    assert same(model, pruned, noise(5, 3, 6, 6, seed=9)) < 1e-8
    assert not found.left
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_one_and_three_dimensions() -> None:
    for dims, conv in ((1, nn.Conv1d), (3, nn.Conv3d)):
        torch.manual_seed(0)
        model = settled(chain(conv(2, 4, 3, padding=1), nn.ReLU(), conv(4, 3, 3, stride=2, padding=1)))
        x = noise(16, 2, *[5] * dims)
        pruned, _ = fitted(model, x)
        assert same(model, pruned, x) < 1e-8


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.again, self.last = nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(self.again(torch.tanh(self.again(torch.tanh(self.first(x)))))))


def test_a_layer_that_runs_twice_is_fitted_once_to_both_runs() -> None:
    torch.manual_seed(0)
    model = settled(Shared())
    _, found = fitted(model, noise(64, 4), Settings())
    again = next(f for f in found.fitted if f.layer == "again")
    assert again.samples == 2 * 64
    assert [f.layer for f in found.fitted] == ["again", "last"]


# ---------------------------------------------------------------------------------------------- single parts


def test_the_target_is_what_the_sum_lacks_seen_from_the_layer() -> None:
    """y -> 3 y + 1, laid out anew, plus what is lost: by hand."""
    y, other = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[3.0, 6.0], [9.0, 12.0]])
    factor = nn.Parameter(torch.tensor([[3.0], [0.0]]))
    seen: list[Tensor] = []
    follower = Follower([factor], lambda trail, added: seen.append(trail.pulled(added)))
    with torch.no_grad(), follower:
        follower.follow(Trail("layer", y, y))
        _ = (F.dropout(y.t() * factor + 1, 0.5, False)) + other
    # transposed: row 0 of y.t() is column 0 of y; row 1 has no slope, so nothing can be asked of it
    assert seen[0].tolist() == [[1.0, 0.0], [2.0, 0.0]]


@pytest.mark.parametrize("function", [
    lambda y, x: torch.relu(y) + x, lambda y, x: y * x + x, lambda y, x: y + 1, lambda y, x: y + x[:, :1].expand(2, 4),
    lambda y, x: torch.add(y, x, alpha=2), lambda y, x: F.dropout(y, 0.5, True) + x,
], ids=["relu", "a product of data", "a number", "a broadcast layer", "alpha", "dropout in training"])  # fmt: skip
def test_what_is_no_plain_way_to_a_sum_is_not_followed(function: Any) -> None:
    y, x, seen = torch.ones(2, 1), torch.ones(2, 4), []
    if "broadcast" not in str(function):
        y = torch.ones(2, 4) if function(torch.ones(2, 4), x).shape != (2, 4) else y
    follower = Follower([], lambda trail, other: seen.append(other))
    with torch.no_grad(), follower:
        follower.follow(Trail("layer", y, y))
        function(y, x)
    assert not seen


def samples(count: int, groups: int = 2) -> tuple[Tensor, Tensor]:
    return noise(count, groups, 3, seed=3), noise(count, groups, 2, seed=4)


@pytest.mark.parametrize("shifted", [True, False])
def test_sums_in_parts_rows_and_torch_agree(shifted: bool) -> None:
    x, y = samples(40)
    once, parts, rows = Gram.empty(2, 3, 2), Gram.empty(2, 3, 2), Rows()
    once.add(x, y)
    for a, b in zip(x.split(7), y.split(7), strict=True):
        parts.add(a, b)
        rows.add(a, b)
    changes = [solved(s, ridge=1e-3, shifted=shifted) for s in (once, parts, rows)]
    for change in changes[1:]:
        assert torch.allclose(change.weight, changes[0].weight, atol=1e-12)
        assert torch.allclose(change.shift, changes[0].shift, atol=1e-12)
    assert math.isclose(rows.loss(*_of(changes[0])), once.loss(*_of(changes[0])), rel_tol=1e-9)
    free = solved(once, ridge=0.0, shifted=shifted)
    design = torch.cat([x, torch.ones(40, 2, 1).double()], 2) if shifted else x
    expected = torch.linalg.lstsq(design.transpose(0, 1), y.transpose(0, 1)).solution
    assert torch.allclose(free.weight.mT, expected[:, :3], atol=1e-10)
    assert torch.allclose(free.shift, expected[:, 3] if shifted else torch.zeros(2, 2).double(), atol=1e-10)


def _of(change: Any) -> tuple[Tensor, Tensor]:
    return change.weight, change.shift


def test_a_ridge_pulls_towards_the_slices() -> None:
    x, y = samples(40)
    gram = Gram.empty(2, 3, 2)
    gram.add(x, y)
    sizes = [float(solved(gram, ridge=r).weight.norm()) for r in (0.0, 1e-2, 1.0, 1e3, 1e12)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < 1e-10


def test_a_singular_system_leaves_what_it_can_not_tell_apart() -> None:
    x, y = samples(40)
    gram = Gram.empty(2, 3, 2)
    x[..., 2] = 0
    gram.add(x, y)
    change = solved(gram, ridge=0.0)
    assert change.condition == math.inf
    assert change.weight[..., 2].abs().max() == 0
    assert gram.loss(change.weight, change.shift) < float(gram.yy.sum())


@pytest.mark.parametrize(
    "layer, shape",
    [
        (nn.Conv2d(4, 6, (3, 2), stride=2, padding=1, groups=2), (3, 4, 7, 6)),
        (nn.Conv2d(4, 6, 3, padding="same", dilation=2, padding_mode="circular"), (3, 4, 7, 6)),
        (nn.Conv1d(4, 6, 4, padding=2, stride=3), (3, 4, 9)),
        (nn.Conv3d(4, 4, 2, groups=4), (2, 4, 3, 4, 5)),
        (nn.Conv2d(4, 6, 3), (4, 7, 6)),
        (nn.Linear(4, 6), (2, 3, 4)),
        (nn.Linear(4, 6), (4,)),
    ],
    ids=["strides and groups", "same and circular", "an even kernel", "depth-wise", "one image", "tokens", "a vector"],
)
def test_a_layer_is_its_system(layer: Any, shape: tuple[int, ...]) -> None:
    layer, x = layer.double(), noise(*shape)
    total = math.prod(positions(layer, x))
    rows = torch.arange(0, total, 2)
    found = torch.einsum("ngk,gmk->ngm", inputs_at(layer, x, rows), as_system(layer, layer.weight))
    with torch.no_grad():
        y = layer(x)
    assert y.numel() == total * len(layer.weight)
    assert torch.allclose(found.reshape(len(rows), -1) + layer.bias, outputs_at(layer, y, rows), atol=1e-12)


# ---------------------------------------------------------------------------------------------- properties


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), images=st.integers(1, 20), ridge=st.sampled_from([0.0, 1e-6, 1e-3, 1.0]),
       late=st.booleans(), memory=st.sampled_from([0, 2**30]), large=st.sampled_from([10, 6000]))  # fmt: skip
def test_no_layer_is_worse_than_its_slices(
    seed: int, images: int, ridge: float, late: bool, memory: int, large: int
) -> None:
    torch.manual_seed(seed)
    model = settled(Residual(late))
    _, found = fitted(model, noise(images, 3, 5, 5, seed=seed), Settings(ridge=ridge, memory=memory, large=large))
    assert {f.layer for f in found.fitted} >= {"block.conv2", "head"}
    for fit in found.fitted:
        assert fit.after <= fit.before


def test_the_same_seed_gives_the_same_weights_and_batches_hardly_matter() -> None:
    torch.manual_seed(0)
    model = settled(Residual(late=True))
    x = noise(32, 3, 6, 6)
    states = [fitted(model, x, Settings(memory=m))[1].state for m in (2**30, 2**30, 0, 0)]
    for key, value in states[0].items():
        assert torch.equal(value, states[1][key])
        assert torch.equal(states[2][key], states[3][key])
        assert torch.allclose(value.double(), states[2][key].double(), atol=1e-6)


def test_the_mode_of_the_original_stays_and_progress_is_told() -> None:
    model = settled(small()).train()
    graph, kept, pruned = halved(model, noise(2, 3, 6, 6))
    told: list[tuple[int, int, str]] = []
    reconstruct(model, pruned, graph, kept, [noise(16, 3, 6, 6)], report=lambda *args: told.append(args))
    assert model.training
    assert told == [(1, 2, "2"), (2, 2, "5")]
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in [*model.modules(), *pruned.modules()])


def test_pruning_by_least_squares_publishes_what_was_fitted(tmp_path: Any) -> None:
    torch.manual_seed(0)
    model = Residual(late=True).eval()
    x = noise(64, 3, 6, 6).float()
    bundle = prune(model, x[:1], ratio=0.5, transfer="lstsq", batches=x.split(16), output=tmp_path / "fitted")
    cut = slice_model(model, trace(model, x[:1]), bundle.plan.kept, x[:1]).model
    told = bundle.summary["transfer"]
    assert (told["name"], told["images"], told["sliced"]) == ("lstsq", 64, {})
    assert {f["layer"] for f in told["fitted"]} >= {"block.conv2", "head"}
    assert same(bundle.model, model, x) < same(cut, model, x) / 2
