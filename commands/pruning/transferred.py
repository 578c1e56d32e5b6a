"""From the weights of the whole network to those of the pruned one, by ``--transfer``."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ...pruners.base import BasicPruning
from ...pruners.errors import UsageError
from ...pruners.graph import ChannelGraph
from ...pruners.plan import PruningPlan
from ...pruners.search import Kept, Realize
from ...pruners.transfer import Transfer, find_strategy, finishing, probing, transfer
from ...pruners.weight_transfer import Transferred, slice_state
from ...training.data import Data, calibration_images
from ...training.fit import Progress

_BATCH = 128


def usual_transfer(search: str, per: str, with_data: bool) -> str:
    """Slices are what ``bayesian`` judges and retrains width by width; other searches leave what images can mend."""
    return "lstsq" if with_data and (search != "bayesian" or per == "stage") else "slice"


def check_transfer(name: str, with_data: bool, images: int | None = None) -> None:
    """Refuse an unknown strategy, one that needs images where there are none, and a number of images that can't be."""
    found = find_strategy(name)
    if found.images and not with_data:
        raise UsageError(f"--transfer {name} looks at images: add --data, or use --transfer slice")
    if images is not None and not found.images:
        raise UsageError(f"--calibration {images}: --transfer {name} looks at no images; leave the option out")
    if images is not None and images < 1:
        raise UsageError(f"--calibration {images}: must be 1 or more")


def transferred(
    name: str, network: nn.Module, whole: Mapping[str, Tensor], pruner: BasicPruning, plan: PruningPlan,
    data: Data | None, images: int | None, seed: int, progress: Progress, device: torch.device,
) -> Transferred:  # fmt: skip
    """The state of ``network``, the pruned one, from the state of the whole one. Both networks stay where they are;
    copies look at images on the device, where the state is then."""
    network.load_state_dict(slice_state(whole, pruner.graph, plan.kept, pruner.model))
    found = find_strategy(name)
    if data is None or not found.images:
        return transfer(name, Transfer(pruned=network, original=pruner.model, graph=pruner.graph, kept=plan.kept))
    original = copy.deepcopy(pruner.model)
    original.load_state_dict(whole)
    shown = _Shown(progress, name)
    request = Transfer(
        pruned=copy.deepcopy(network).to(device), original=original.to(device), graph=pruner.graph, kept=plan.kept,
        batches=calibration_images(data, images or found.images, seed).to(device).split(_BATCH), seed=seed,
        report=shown.report,
    )  # fmt: skip
    try:
        return transfer(name, request)
    finally:
        shown.finish()


def candidates_on(
    device: torch.device, model: nn.Module, name: str, realize: Realize, graph: ChannelGraph, few: Tensor | None,
    many: Tensor | None, seed: int,
) -> tuple[Realize, Realize | None]:  # fmt: skip
    """``finishing`` with few images and ``probing`` with many, for candidates of ``model``. They look at the images on
    the device and stay there."""
    home = next((p.device for p in model.parameters()), device)
    whole = model if home == device else copy.deepcopy(model).to(device)

    def there(_: nn.Module, kept: Kept) -> nn.Module:
        return realize(model, kept).to(device)

    def of_whole(make: Realize) -> Realize:
        return lambda _, kept: make(whole, kept)

    batches = [() if images is None else images.to(device).split(_BATCH) for images in (few, many)]
    finish, probe = (way(name, there, graph, b, seed) for way, b in zip((finishing, probing), batches, strict=True))
    assert finish is not None
    return of_whole(finish), None if probe is None else of_whole(probe)


class _Shown:
    """A bar that begins with the first report."""

    def __init__(self, progress: Progress, name: str) -> None:
        self._progress, self._name, self._done = progress, name, 0

    def report(self, done: int, total: int, layer: str) -> None:
        if not self._done:
            self._progress.start(total, f"transfer by {self._name}")
        self._progress.advance(done - self._done, layer)
        self._done = done

    def finish(self) -> None:
        if self._done:
            self._progress.finish()
