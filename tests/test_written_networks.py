"""Random model files, pruned: what comes out computes what the values of its weights say, or is refused with a reason.

Sixty are walked, which takes about a minute. ``SECATEUR_NETWORKS=10000 pytest tests/test_written_networks.py`` walks
more of them; ``python benchmarks/random_networks.py`` keeps a log.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import nn
from weight_values import difference, give_every_value_once, masked, outputs
from written_networks import written
from written_outcomes import FAULTS, outcome

NETWORKS = int(os.environ.get("SECATEUR_NETWORKS", "60"))
_A_TEST = 20


def _two() -> tuple[nn.Module, nn.Module]:
    """Two linear layers, and the same without the second of three channels."""
    original, pruned = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)), nn.Sequential(nn.Linear(4, 2), nn.Linear(2, 2))
    give_every_value_once(original, 0)
    state = original.state_dict()
    pruned.load_state_dict(
        {"0.weight": state["0.weight"][[0, 2]], "0.bias": state["0.bias"][[0, 2]],
         "1.weight": state["1.weight"][:, [0, 2]], "1.bias": state["1.bias"]}
    )  # fmt: skip
    return original, pruned


def test_the_judge_refuses_values_that_the_original_has_not() -> None:
    original, pruned = _two()
    with torch.no_grad():
        pruned[0].weight[0, 0] += 1
    with pytest.raises(AssertionError, match=r"0\.weight holds values that the original hasn't"):
        masked(original, pruned)


def test_the_judge_sees_a_channel_that_is_read_by_another() -> None:
    original, pruned = _two()
    x = [torch.randn(5, 4)]
    assert difference(outputs(masked(original, pruned), x, False), outputs(pruned, x, False)) < 1e-12
    with torch.no_grad():
        pruned[1].weight.copy_(pruned[1].weight.flip(1))
    assert difference(outputs(masked(original, pruned), x, False), outputs(pruned, x, False)) > 1e-3


@pytest.mark.parametrize("norm", [nn.LayerNorm(6), nn.GroupNorm(2, 6)])
def test_the_judge_takes_statistics_over_what_stays(norm: nn.Module) -> None:
    smaller = type(norm)(*((4,) if isinstance(norm, nn.LayerNorm) else (2, 4)))
    original, pruned = nn.Sequential(norm), nn.Sequential(smaller)
    give_every_value_once(original, 0)
    stays = [0, 1, 3, 5]
    pruned.load_state_dict({k: v[stays] for k, v in original.state_dict().items()})
    x = torch.randn(3, 6)
    out = outputs(masked(original, pruned), [x], False)[0]
    assert torch.allclose(out[:, stays], outputs(pruned, [x[:, stays]], False)[0])
    assert not out[:, [2, 4]].any()


def test_a_seed_gives_one_network_and_networks_differ() -> None:
    assert written(3).text == written(3).text
    assert len({written(seed).text for seed in range(50)}) == 50


def test_everything_is_drawn() -> None:
    drawn = Counter(feature for seed in range(500) for feature in written(seed).features)
    assert len(drawn) >= 45, sorted(drawn)


@pytest.mark.parametrize("first", range(0, NETWORKS, _A_TEST))
def test_what_is_written_is_exact_or_refused(first: int, tmp_path: Path) -> None:
    found = []
    for seed in range(first, min(first + _A_TEST, NETWORKS)):
        folder = tmp_path / str(seed)
        folder.mkdir()
        found.append(outcome(seed, folder))
    assert not [f"{f.kind}, seed {f.seed}: {f.detail}" for f in found if f.kind in FAULTS]
    assert sum(f.kind == "exact" for f in found) > len(found) // 2
