"""Transfer where the device is: copies look at the batches there, the networks that are given stay."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..graph import ChannelGraph, Kept
from ..weight_transfer import Transferred, slice_state
from .candidates import Make, finishing, probing
from .registry import TRANSFERS, Transfer, transfer


def carried_on(
    device: torch.device, name: str, pruned: nn.Module, original: nn.Module, whole: Mapping[str, Tensor],
    graph: ChannelGraph, kept: Kept, batches: Iterable[Any] | None, seed: int, report: Callable[[int, int, str], None],
) -> Transferred:  # fmt: skip
    """The state of ``pruned`` by the strategy ``name``, from ``whole``, a state of the original. ``pruned`` gets the
    kept slices."""
    pruned.load_state_dict(slice_state(whole, graph, kept, original))
    if TRANSFERS.find(name).images:
        pruned, trained = copy.deepcopy(pruned).to(device), copy.deepcopy(original)
        trained.load_state_dict(whole)
        original = trained.to(device)
    request = Transfer(
        pruned=pruned, original=original, graph=graph, kept=kept, batches=batches, seed=seed, report=report
    )
    return transfer(name, request)


def candidates_on(
    device: torch.device, model: nn.Module, name: str, realize: Make, graph: ChannelGraph, few: Sequence[Any],
    many: Sequence[Any], seed: int,
) -> tuple[Make, Make | None]:  # fmt: skip
    """``finishing`` with few batches and ``probing`` with many, for candidates of ``model``, which stay on the
    device."""
    home = next((p.device for p in model.parameters()), device)
    whole = model if home == device else copy.deepcopy(model).to(device)

    def there(_: nn.Module, kept: Kept) -> nn.Module:
        return realize(model, kept).to(device)

    def of_whole(make: Make) -> Make:
        return lambda _, kept: make(whole, kept)

    probe = probing(name, there, graph, many, seed)
    return of_whole(finishing(name, there, graph, few, seed)), None if probe is None else of_whole(probe)
