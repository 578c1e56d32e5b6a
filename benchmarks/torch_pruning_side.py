"""What Torch-Pruning makes of a network in one shot: all its importances, uniform and global, to a budget of MACs."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

IMPORTANCES = ("l1", "l2", "bn_scale", "lamp", "fpgm", "activation", "taylor", "hessian", "random")
_BISECTIONS = 9
_PER_IMAGE = 64  # images whose gradients are taken one by one


@dataclass(frozen=True)
class Calibration:
    images: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Result:
    """``network`` None: it could not be made, or does not run; ``problem`` says why."""

    network: nn.Module | None
    problem: str = ""


def settings() -> Iterator[tuple[str, bool]]:
    """Importance, and whether it is compared across the whole network."""
    for name in IMPORTANCES:
        for everywhere in (False, True):
            yield name, everywhere


def prune(
    model: nn.Module, calibration: Calibration, target: float, importance: str, everywhere: bool, ignored: Sequence[str]
) -> Result:
    """The largest network of this setting with at most ``target`` of the MACs, found by bisection over the ratio.

    ``ignored``: layers whose outputs stay, which some networks need to come out running.
    """
    whole = macs(model, calibration.images[:1])
    low, high, best = 0.0, 1.0, None
    for _ in range(_BISECTIONS):
        ratio = (low + high) / 2
        try:
            pruned = _pruned(model, calibration, ratio, importance, everywhere, ignored)
            left = macs(pruned, calibration.images[:1])
        except Exception as error:  # its errors are of all kinds; each says something of this setting only
            return Result(None, f"{type(error).__name__}: {str(error).splitlines()[0][:80]}")
        if left <= target * whole:
            high, best = ratio, pruned
        else:
            low = ratio
    return Result(best, "" if best is not None else "its smallest network is too large")


def macs(model: nn.Module, image: Tensor) -> int:
    from secateur.pruners.costs import measure

    return measure(model, image).macs


def _pruned(
    model: nn.Module, calibration: Calibration, ratio: float, name: str, everywhere: bool, ignored: Sequence[str]
) -> nn.Module:
    import torch_pruning as tp

    network = copy.deepcopy(model).eval()
    image = calibration.images[:1]
    classes = network(image).shape[1]
    kept = [m for n, m in network.named_modules() if n in ignored]
    kept += [m for m in network.modules() if isinstance(m, nn.Linear) and m.out_features == classes]
    importance: Any = {
        "l1": lambda: tp.importance.MagnitudeImportance(p=1),
        "l2": lambda: tp.importance.MagnitudeImportance(p=2),
        "bn_scale": tp.importance.BNScaleImportance,
        "lamp": tp.importance.LAMPImportance,
        "fpgm": tp.importance.FPGMImportance,
        "activation": tp.importance.ActivationImportance,
        "taylor": tp.importance.TaylorImportance,
        "hessian": tp.importance.HessianImportance,
        "random": tp.importance.RandomImportance,
    }[name]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pruner = tp.pruner.BasePruner(
            network, image, importance=importance, pruning_ratio=ratio, global_pruning=everywhere,
            max_pruning_ratio=0.9, ignored_layers=kept,
        )  # fmt: skip
        _look(network, importance, name, calibration)
        pruner.step()
    network.zero_grad()
    with torch.no_grad():
        network(calibration.images[:2])
    return network


def _look(network: nn.Module, importance: Any, name: str, calibration: Calibration) -> None:
    """What an importance wants to see of the data before it judges."""
    if name == "activation":
        with importance.compute_importance(network), torch.no_grad():
            network(calibration.images)
    elif name == "taylor":
        F.cross_entropy(network(calibration.images), calibration.labels).backward()
    elif name == "hessian":
        first = calibration.images[:_PER_IMAGE], calibration.labels[:_PER_IMAGE]
        for loss in F.cross_entropy(network(first[0]), first[1], reduction="none"):
            network.zero_grad()
            loss.backward(retain_graph=True)
            importance.accumulate_grad(network)
