"""Searching how many groups each width keeps.

    result = search(model, graph, SearchSettings(strategy="uniform", budget=Budget("macs", 0.5)))
    plan = result.plan(graph, {"seed": 0})
"""

from __future__ import annotations

import importlib.metadata
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from ..costs import Allowance, CostModel, Limits, levels
from ..errors import ConflictError, NeedsDataError, NothingToPruneError
from ..graph import ChannelGraph
from ..plan import sha256_of_state
from ..run import state_of
from .bench import Bench, Evaluator
from .ledger import Ledger
from .own_ratios import own_ratios
from .problem import (
    NO_LOSSES,
    ONE_BY_ONE,
    SEARCHES,
    Problem,
    Retrain,
    SearchResult,
    SearchSettings,
    Watcher,
)

log = logging.getLogger(__name__)


class Latency(Protocol):
    """A predicted time, such as ``pruners.latency.LatencyModel`` gives: ``digest`` stands for what it was made of."""

    digest: str

    def fraction(self, counts: Mapping[str, int]) -> float:
        """The share of the whole network's time when each width keeps so many groups."""
        ...


def search(
    model: nn.Module,
    graph: ChannelGraph,
    settings: SearchSettings | None = None,
    evaluator: Evaluator | None = None,
    *,
    retrain: Retrain | None = None,
    ledger: str | Path | None = None,
    resume: bool = False,
    watcher: Watcher | None = None,
    fingerprint: Mapping[str, Any] | None = None,
    latency: Latency | None = None,
    workers: Bench | None = None,
    weights: str | None = None,
    costs: CostModel | None = None,
) -> SearchResult:
    """Choose the groups that every width keeps. The model is not changed.

    ``evaluator`` makes and judges candidates, for strategies that look at some, and ``retrain(model, epochs)`` trains
    in between; both have to repeat. ``ledger``: path of ``search.jsonl``; with ``resume`` a search found there goes on
    and ends as if it had never stopped. ``fingerprint``: what else decides the outcome (data set, number of images,
    training regime), as JSON values; a ledger with another one is refused. ``latency``: what a budget of latency is
    counted with; its measurements are a part of the fingerprint. ``workers``: other processes that judge candidates
    (``Workers``); the outcome is the same with any number of them. ``weights``: the hash of the model's, ``costs``:
    what it costs, where they are known.

    Raises ``NotPrunableError`` when there is nothing to prune, ``BudgetError`` when the budget is out of reach,
    ``UsageError`` for settings or ledgers that don't fit, ``Interrupted`` after Ctrl-C.
    """
    settings = settings or SearchSettings()
    run = SEARCHES.find(settings.strategy)
    evaluator = evaluator or Evaluator(model)
    if evaluator.scored is not None and settings.stop_early:
        raise NeedsDataError(NO_LOSSES)
    if workers is not None and settings.stop_early:
        raise ConflictError(ONE_BY_ONE)
    _require_choice(graph, settings.limits)
    costs = costs or CostModel.of(model, graph)
    ratios, told = own_ratios(settings.budget, graph, model)
    allowance = Allowance(
        graph, costs, settings.limits, settings.budget, latency.fraction if latency else None, ratios
    )  # fmt: skip
    header = {
        **settings.as_dict(),
        "fingerprint": dict(fingerprint or {}),
        "latency": latency.digest if latency is not None else None,
        "retraining": retrain is not None,
        "weights": None if ledger is None else weights or sha256_of_state(state_of(model)),
        "widths": {w.name: w.size for w in graph.widths},
        "bayesian-optimization": importlib.metadata.version("bayesian-optimization"),
    }
    book = Ledger(None if ledger is None else Path(ledger), header, resume)
    with book, workers or Bench(evaluator) as bench:
        problem = Problem(
            model, graph, settings, costs, allowance, book, evaluator, bench, retrain, watcher or Watcher()
        )
        result = run(problem)
    result = replace(result, notes=(*told, *result.notes))
    for note in result.notes:
        log.warning(note)
    return result


def _require_choice(graph: ChannelGraph, limits: Limits) -> None:
    """Raises NotPrunableError where every width has to stay as it is."""
    if any(len(levels(width, limits)) > 1 for width in graph.widths):
        return
    largest = max(graph.widths, key=lambda w: w.size, default=None)
    if largest is not None and largest.size > 1:
        raise NothingToPruneError(
            f"there is nothing to prune: the largest width, {largest.name}, has {largest.size} parts that may go, and "
            f"--min-channels {limits.min_channels} and --round-to {limits.round_to} keep them all; give smaller ones"
        )
    if largest is not None:
        raise NothingToPruneError(
            f"there is nothing to prune: all channels of {largest.name} can only go together, and so it is with every "
            f"other width; secateur inspect --why {largest.name} says why"
        )
    reasons = "; ".join(f"{f.reason} ({f.site})" for f in graph.frozen[:1])
    raise NothingToPruneError(f"there is nothing to prune: no channels may go{': ' + reasons if reasons else ''}")
