"""Small networks of many habits (``zoo``): each is traced, half of every width goes, and the written file is verified.

A case is what the network is called with, its widths, and words of the reason why other channels stay; a network
without widths is refused with those words.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from zoo_cases import CASES, ZOO, pruner_of

from secateur.pruners.base import BasicPruning
from secateur.pruners.costs import Budget
from secateur.pruners.errors import NotPrunableError
from secateur.pruners.search import SearchSettings, search

pytestmark = pytest.mark.filterwarnings("ignore")  # people use what is deprecated


@pytest.mark.parametrize("name", [n for n, case in CASES.items() if not case[3]])
def test_refuses(name: str, tmp_path: Path) -> None:
    room, factory, inputs, _, words = CASES[name]
    with pytest.raises(NotPrunableError) as caught:
        publish(pruner_of(factory, inputs), tmp_path)
    assert words in str(caught.value)
    assert f"{room}.py:" in str(caught.value) or "torch" in str(caught.value)


@pytest.mark.parametrize("name", [n for n, case in CASES.items() if case[3]])
def test_prunes_and_writes(name: str, tmp_path: Path) -> None:
    _, factory, inputs, widths, words = CASES[name]
    pruner = pruner_of(factory, inputs)
    publish(pruner, tmp_path)
    assert " ".join(f"{w.name}:{w.size}" for w in pruner.graph.widths) == widths
    reasons = {f.reason: f.site for f in pruner.graph.frozen if words in f.reason}
    assert reasons, [f.reason for f in pruner.graph.frozen]


def publish(pruner: BasicPruning, folder: Path) -> nn.Module:
    settings = SearchSettings(strategy="uniform", budget=Budget("ratio", 0.5))
    kept = search(pruner.model, pruner.graph, settings).kept
    return pruner.publish(pruner.plan(kept), folder / "out").model


def test_parameters_that_do_not_train_stay_so(tmp_path: Path) -> None:
    network = publish(pruner_of(ZOO["habits"].Frozen, torch.randn(2, 3, 8, 8)), tmp_path)
    assert {n.partition(".")[0] for n, p in network.named_parameters() if not p.requires_grad} == {"backbone"}
