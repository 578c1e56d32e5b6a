"""Training without labels: what is refused, what stays, and that networks come nearer to what they are to say."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.pruners.errors import UsageError
from secateur.pruners.healing import LEAST, Healed, HealSettings, distance, heal, held_out


def classifier(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(),
        nn.Dropout(0.5), nn.Linear(96, 5),
    )  # fmt: skip
    with torch.no_grad():
        model.get_submodule("6").weight.mul_(20)  # it is sure of something
    return model.eval()


def damaged(model: nn.Module) -> nn.Module:
    """The same network, off by some noise."""
    found = classifier()
    found.load_state_dict(model.state_dict())
    torch.manual_seed(1)
    with torch.no_grad():
        for p in found.parameters():
            p.add_(0.3 * p.abs().mean() * torch.randn_like(p))
    return found


def images(count: int = 96) -> Tensor:
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(2))


SHORT = HealSettings(steps=60, batch=32)


def healed(model: nn.Module, pruned: nn.Module, settings: HealSettings = SHORT, **given: Any) -> Healed:
    return heal(model, pruned, *held_out(given.get("batches", images().split(40))), settings)


# -- refused


@pytest.mark.parametrize("count", [0, 1, LEAST - 1])
def test_too_few_inputs_are_refused(count: int) -> None:
    with pytest.raises(UsageError, match=rf"^--transfer heal got {count} inputs: it needs {LEAST} or more"):
        held_out(images(count).split(4))


# -- what comes out


def test_the_network_comes_nearer_on_inputs_it_was_not_trained_on() -> None:
    model = classifier()
    pruned = damaged(model)
    found = healed(model, pruned)
    pruned.load_state_dict(found.state)
    unseen = torch.randn(400, 1, 8, 8, generator=torch.Generator().manual_seed(9))
    with torch.no_grad():
        before, after = (
            F.kl_div(m(unseen).log_softmax(1), model(unseen).log_softmax(1), log_target=True, reduction="batchmean")
            for m in (damaged(model), pruned)
        )
    assert after < 0.7 * before
    assert found.after < found.before
    assert (found.steps, found.inputs, found.held_out, found.timed) == (60, 96, 12, False)
    assert found.curve[0] == (0, found.before) and found.curve[-1][0] == 60
    assert min(y for _, y in found.curve) == found.after


def test_networks_that_were_given_are_left_as_they_were() -> None:
    model = classifier().train()
    pruned = damaged(model).train()
    states = [{k: v.clone() for k, v in m.state_dict().items()} for m in (model, pruned)]
    random = torch.get_rng_state()
    healed(model, pruned)
    assert torch.equal(random, torch.get_rng_state())
    for network, state in zip((model, pruned), states, strict=True):
        assert all(m.training for m in network.modules())
        assert all(p.grad is None for p in network.parameters())
        assert all(torch.equal(v, state[k]) for k, v in network.state_dict().items())


def test_a_network_that_says_the_same_already_stays() -> None:
    model = classifier()
    found = healed(model, model)
    assert found.after == found.before < 1e-6
    assert all(torch.equal(v, found.state[k]) for k, v in model.state_dict().items())


def test_the_same_seed_gives_the_same_weights_and_another_one_others() -> None:
    model = classifier()
    one, again = (healed(model, damaged(model)).state["6.weight"] for _ in range(2))
    other = healed(model, damaged(model), HealSettings(steps=60, batch=32, seed=1)).state["6.weight"]
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_weights_that_are_not_trained_stay() -> None:
    model = classifier()
    pruned = damaged(model)
    pruned[0].weight.requires_grad_(False)  # type: ignore[index,union-attr]
    state = healed(model, pruned).state
    assert torch.equal(state["0.weight"], pruned.state_dict()["0.weight"])
    assert not torch.equal(state["6.weight"], pruned.state_dict()["6.weight"])


def test_a_network_without_weights_to_train_stays() -> None:
    model = classifier()
    pruned = damaged(model).requires_grad_(False)
    found = healed(model, pruned)
    assert found.steps == 0
    assert all(torch.equal(v, found.state[k]) for k, v in pruned.state_dict().items())


def test_time_that_is_over_ends_it() -> None:
    model = classifier()
    found = healed(model, damaged(model), HealSettings(steps=None, seconds=0.5, batch=32))
    assert found.timed
    assert found.steps > 2
    assert 0.5 <= found.seconds < 5


def test_numbers_that_are_not_finite_end_it_with_the_best_weights_until_then() -> None:
    model = classifier()
    pruned = damaged(model)
    found = healed(model, pruned, HealSettings(steps=60, batch=32, rate=1e30))
    assert math.isfinite(found.after)
    assert all(torch.isfinite(v).all() for v in found.state.values())
    assert all(torch.equal(v, found.state[k]) for k, v in pruned.state_dict().items())


class Detector(nn.Module):
    """Two outputs that are no classes."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.boxes, self.scores = nn.Conv2d(8, 4, 1), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> dict[str, Any]:
        x = self.body(x).relu()
        return {"boxes": self.boxes(x), "all": [self.scores(x)], "size": x.shape[-1]}


class Language(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.body, self.head = nn.Embedding(20, 12), nn.Linear(12, 12), nn.Linear(12, 20)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.body(self.table(tokens)).relu())


@pytest.mark.parametrize(
    ("cls", "inputs"),
    [
        (Detector, torch.randn(48, 3, 12, 10, generator=torch.Generator().manual_seed(3))),
        (Language, torch.randint(20, (48, 7), generator=torch.Generator().manual_seed(3))),
    ],
    ids=["outputs that are no classes", "a row of scores for each token"],
)
def test_other_outputs_come_nearer_too(cls: type[nn.Module], inputs: Tensor) -> None:
    torch.manual_seed(0)
    model, pruned = cls().eval(), cls().eval()
    with torch.no_grad():
        for p, q in zip(pruned.parameters(), model.parameters(), strict=True):
            p.copy_(q + 0.3 * q.abs().mean() * torch.randn_like(q))
    found = heal(model, pruned, *held_out(inputs.split(16)), HealSettings(steps=80))
    assert found.after < 0.5 * found.before


def test_batches_of_several_sizes_are_trained_on_one_after_the_other() -> None:
    model = classifier()
    batches = [images(24), images(24)[:, :, :6, :7], images(8).double().float()]
    found = heal(model, damaged(model), *held_out(batches), SHORT)
    assert found.inputs == 56
    assert found.after < found.before


# -- how far outputs are from each other


def test_the_distance_of_classes_is_the_divergence_of_their_shares() -> None:
    wanted, got = torch.tensor([[0.0, 1.0], [2.0, 0.0]]), torch.tensor([[1.0, 0.0], [2.0, 0.5]])
    shares = [wanted.softmax(1), got.softmax(1)]
    expected = float((shares[0] * (shares[0] / shares[1]).log()).sum(1).mean())
    assert float(distance(wanted, got, torch.zeros(2, 3))) == pytest.approx(expected, rel=1e-5)


def test_the_distance_of_other_outputs_is_relative_to_their_spread() -> None:
    wanted = {"a": torch.randn(4, 3, 2, generator=torch.Generator().manual_seed(0)), "n": torch.tensor([1, 1])}
    got = {"a": wanted["a"] + 1, "n": wanted["n"]}
    spread = float((wanted["a"] - wanted["a"].mean(0)).square().sum())
    assert float(distance(wanted, got, torch.zeros(4, 3))) == pytest.approx(24 / spread, rel=1e-5)


# -- how many at once


@pytest.mark.parametrize(
    ("inputs", "most"),
    [
        (torch.zeros(200, 3, 32, 32), 128),
        (torch.zeros(40, 3, 512, 512), 8),
        (torch.zeros(40, 7, dtype=torch.long), 16),
    ],
    ids=["small images", "large images", "sequences"],
)
def test_large_inputs_are_taken_in_small_batches(inputs: Tensor, most: int) -> None:
    seen: list[int] = []

    class Watched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, x: Tensor) -> Tensor:
            seen.append(len(x))
            return self.scale * x.flatten(1)[:, :3]

    heal(Watched(), Watched(), *held_out([inputs]), HealSettings(steps=2))
    assert max(seen) == most
