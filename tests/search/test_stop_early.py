"""Candidates that are hopeless on a part of the images are given up; what is known of them then is an estimate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from deep_networks import Deep, timeless
from judged_search import judged_search
from torch import Tensor, nn

from secateur.pruners.base import BasicPruning
from secateur.pruners.search import SearchResult, SearchSettings
from secateur.pruners.search.prefix_cache import PrefixCache
from secateur.pruners.search.scores import Judge


def test_nobody_is_given_up_without_a_rival_or_on_too_few_images_or_all() -> None:
    bad, best = torch.full((40,), 9.0), torch.rand(40, generator=torch.Generator().manual_seed(0))
    assert not Judge(None, 5.0)(bad, 40)
    judge = Judge(best, 0.0)
    assert [judge(bad[:n], 40) for n in (5, 9, 10, 39, 40)] == [False, False, True, True, False]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_no_reason(value: float) -> None:
    losses = torch.ones(20)
    losses[3] = value
    assert not Judge(torch.zeros(20), 0.0)(losses, 40)


def test_the_margin_is_three_standard_errors_of_the_difference() -> None:
    best = torch.randn(100, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 100
    noise = torch.randn(100, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    noise = (noise - noise.mean()) / noise.std()
    for behind, handicap, hopeless in ((0.29, 0.0, False), (0.31, 0.0, True), (0.2, 0.11, True), (0.5, -0.21, False)):
        judge = Judge(best, handicap)
        assert judge(best + noise + behind, 200) == hopeless
        assert judge.behind == pytest.approx(behind)


class Searched:
    """Labels are the network's own answers, so that losses grow with what is removed."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.pruner = BasicPruning(Deep().eval(), torch.randn(2, 3, 8, 8))
        self.images = torch.randn(64, 3, 8, 8)
        with torch.no_grad():
            self.labels = self.pruner.model(self.images).argmax(1)
        self.seen = 0

    def evaluate(self, model: nn.Module, stop: Any = None) -> tuple[float, float]:
        losses: list[Tensor] = []
        with torch.no_grad():
            for images, labels in zip(self.images.split(8), self.labels.split(8), strict=True):
                self.seen += len(images)
                losses.append(nn.functional.cross_entropy(20 * model.eval()(images), labels, reduction="none"))
                if stop is not None and stop(torch.cat(losses), len(self.images)):
                    break
        return torch.cat(losses).mean().item(), 0.0

    def run(self, stop_early: bool, limit: int = 1 << 30, **changed: Any) -> SearchResult:
        settings = SearchSettings(stop_early=stop_early, init_points=2, n_iter=1, alpha=0.2, max_pruning=0.8)
        self.seen = 0
        return judged_search(
            self.pruner.model, self.pruner.graph, settings, evaluate=self.evaluate,
            realize=lambda m, kept: self.pruner.realize(kept, m), cache=PrefixCache(limit), **changed,
        )  # fmt: skip


def test_fewer_images_are_seen_and_the_best_are_seen_whole(tmp_path: Path) -> None:
    run, ledger = Searched(), tmp_path / "search.jsonl"
    whole = run.run(False)
    all_seen = run.seen
    early = run.run(True, ledger=ledger)
    assert run.seen < 0.8 * all_seen
    assert timeless(run.run(True, limit=0)) == timeless(early)
    exact = {(e.width, e.kept): e.loss for e in whole.evaluations}
    first = run.pruner.graph.widths[0].name
    best = early.best[first]
    assert best.loss == exact[first, best.kept] and early.best[first].kept == whole.best[first].kept
    lines = ledger.read_text().splitlines(keepends=True)
    places = [i for i, line in enumerate(lines) if json.loads(line)["event"] == "evaluation"]
    for cut in (places[3], places[-2]):  # in the middle of a width: the best one is seen once more
        ledger.write_text("".join(lines[:cut]))
        assert timeless(run.run(True, ledger=ledger, resume=True)) == timeless(early)
