"""Searches with what judges candidates said beside all else."""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn

from secateur.pruners.graph import ChannelGraph
from secateur.pruners.search import Evaluator, SearchResult, SearchSettings, search

_JUDGING = inspect.signature(Evaluator).parameters.keys() - {"model"}


def judged_search(
    model: nn.Module, graph: ChannelGraph, settings: SearchSettings | None = None, **given: Any
) -> SearchResult:
    judging = {name: given.pop(name) for name in _JUDGING & given.keys()}
    return search(model, graph, settings, Evaluator(model, **judging), **given)
