"""Candidates of a search with the weights that a transfer strategy gives them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from ..graph import ChannelGraph, Kept
from .registry import TRANSFERS, Quick, Transfer, transfer

Make = Callable[[nn.Module, Any], nn.Module]
"""(whole model, kept) -> a pruned network."""


def finishing(name: str, realize: Make, graph: ChannelGraph, batches: Sequence[Any], seed: int = 0) -> Make:
    """``realize(whole model, kept)`` followed by the strategy ``name``: candidates as they would be in the end."""

    def finish(model: nn.Module, kept: Kept) -> nn.Module:
        pruned = realize(model, kept)
        request = Transfer(pruned=pruned, original=model, graph=graph, kept=kept, batches=batches, seed=seed)
        pruned.load_state_dict(transfer(name, request).state)
        return pruned

    return finish


def probing(name: str, realize: Make, graph: ChannelGraph, batches: Sequence[Any], seed: int = 0) -> Make | None:
    """``finishing`` for probes of single widths, by the strategy's quick way; None where it has none. All candidates
    must come from one whole model."""
    make = TRANSFERS.find(name).quick
    if make is None:
        return None
    finish = finishing(name, realize, graph, batches, seed)
    known: list[Quick] = []

    def probe(model: nn.Module, kept: Kept) -> nn.Module:
        if not known:
            known.append(make(model, graph, batches, seed))
        pruned = realize(model, kept)
        return pruned if known[0](pruned, kept) else finish(model, kept)

    return probe
