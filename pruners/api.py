"""One call from a live network to a published bundle."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .base import BasicPruning, Kept
from .bundle import Bundle, check_free
from .costs import Allowance, Budget
from .entry import Entry
from .errors import BudgetError, UsageError
from .latency import LatencyModel, Measuring, Table, device_of, latencies, machine, verdict
from .metrics import check_labels
from .plan import PruningPlan
from .run import as_it_was, batch_size, call_arguments, describe, images_of
from .search import SearchSettings, search
from .transfer import Transfer, finishing, probing
from .transfer import find_strategy as find_transfer
from .transfer import transfer as carry_over
from .weight_transfer import Transferred

log = logging.getLogger(__name__)


def prune(
    model: nn.Module,
    example_input: Any,
    *,
    output: str | Path,
    ratio: float | None = None,
    macs: float | None = None,
    params: float | None = None,
    latency: float | None = None,
    latency_table: str | Path | None = None,
    metric: str = "l1",
    strategy: str = "uniform",
    transfer: str = "slice",
    batches: Iterable[Any] | None = None,
    skip: Sequence[str] = (),
    round_to: int = 1,
    seed: int = 0,
    entry: Entry | None = None,
    force: bool = False,
) -> Bundle:
    """Prune a network and publish the bundle in ``output``.

    Exactly one budget: ``ratio`` removes that fraction of the channels of every width, ``macs`` and ``params`` keep
    at most that fraction of the multiply-accumulates or parameters, ``latency`` of the time that ``example_input``
    takes where the model is, as predicted from measured times (kept in the file ``latency_table``). ``strategy``:
    "uniform" or "global", which need no data, or "sensitivity", which looks at ``batches``. ``transfer``: "slice" keeps
    the kept slices of the weights, "bn" re-estimates batch-norm statistics on ``batches``, too, "lstsq" fits the layers
    to what the original gives on ``batches``. ``batches``: (images, labels) pairs for what looks at data; tensors do
    where no labels are needed. ``skip``: layers that stay. ``entry``: the factory that built the model, if it isn't
    simply its class.

    The model itself is not changed. Raises the errors of ``pruners.errors``; nothing is published unless the
    generated file computes the pruned network in a fresh process.
    """
    budgets = {"ratio": ratio, "macs": macs, "params": params, "latency": latency}
    given = {k: v for k, v in budgets.items() if v is not None}
    if len(given) != 1:
        raise BudgetError(f"give exactly one of ratio, macs, params and latency, not {', '.join(given) or 'none'}")
    check_free(Path(output), force)
    improving = find_transfer(transfer).images > 0
    batches = None if batches is None else list(batches)
    check_labels(metric, batches)
    if improving and batches is None:
        raise UsageError(f"transfer {transfer} looks at data: give batches, or use slice")
    if batches is not None:
        _require_runnable(model, example_input, batches)
    [(kind, value)] = given.items()
    pruner = BasicPruning(model, example_input, entry=entry, skip=skip)
    settings = SearchSettings(
        strategy=strategy, metric=metric, budget=Budget(kind, value), round_to=round_to, seed=seed
    )  # fmt: skip
    timed = _timed(pruner, settings, latency_table) if latency is not None else None

    def realize(network: nn.Module, kept: Kept) -> nn.Module:
        return pruner.realize(kept, network)

    looking = (transfer, realize, pruner.graph, batches or [], seed)
    finish, probe = (finishing(*looking), probing(*looking)) if improving and batches else (None, None)
    result = search(
        model, pruner.graph, settings, batches=batches, realize=realize, finish=finish, probe=probe,
        latency=timed,
    )  # fmt: skip
    plan = pruner.plan(result.kept, strategy=strategy, metric=metric, transfer=transfer, seed=seed, **given)
    found = _transferred(transfer, pruner, plan.kept, batches, seed) if improving else None
    summary = {"transfer": found.facts} if found and found.facts else {}
    if timed is not None:
        summary |= _verdict(pruner, plan, timed, value)
    return pruner.publish(plan, output, state=found.state if found else None, summary=summary, force=force)


def _require_runnable(model: nn.Module, example_input: Any, batches: Sequence[Any]) -> None:
    """UsageError unless the batches' images are all that the model is called with, and it takes them."""
    args, kwargs = call_arguments(example_input)
    first = next(iter(inspect.signature(model.forward).parameters), "")
    alone = len(args) + len(kwargs) == 1 and all(isinstance(v, Tensor) for v in (*args, *kwargs.values()))
    if not alone or (kwargs and first not in kwargs):
        call = ", ".join([*(type(a).__name__ for a in args), *(f"{name}=..." for name in kwargs)])
        raise UsageError(
            f"the model would be called with a batch's images alone, but example_input calls it with ({call}): leave "
            "batches out, with transfer slice, strategy uniform or global, and a metric of weights such as l1"
        )
    if not batches:
        raise UsageError("batches are empty: give some, or leave them out")
    images = images_of(batches[0])[:2]
    try:
        with as_it_was(model), torch.no_grad():
            model.eval()(images.to(next(model.parameters(), images).device))
    except Exception as error:
        shape = ",".join(map(str, images.shape[1:]))
        raise UsageError(f"the model can't be run on the batches' images ({shape}): {describe(error)}") from error


def _transferred(
    name: str, pruner: BasicPruning, kept: Kept, batches: Iterable[Any] | None, seed: int
) -> Transferred:
    request = Transfer(
        pruned=pruner.realize(kept), original=pruner.model, graph=pruner.graph, kept=kept, batches=batches, seed=seed
    )
    found = carry_over(name, request)
    for note in found.notes:
        log.warning(note)
    return found


def _timed(pruner: BasicPruning, settings: SearchSettings, path: str | Path | None) -> LatencyModel:
    device = device_of(pruner.model)
    table = Table(machine(device), None if path is None else Path(path))
    allowance = Allowance(pruner.graph, pruner.costs, settings.limits, None)
    inputs = pruner.example_input
    measuring = Measuring(table, device=device, batch=batch_size(inputs))
    return measuring.model(pruner.model, pruner.graph, inputs, allowance, lambda m, kept: pruner.realize(kept, m))


def _verdict(pruner: BasicPruning, plan: PruningPlan, timed: LatencyModel, target: float) -> dict[str, Any]:
    device = device_of(pruner.model)
    ms = latencies({"before": pruner.model, "after": pruner.realize(plan.kept)}, pruner.example_input, device)
    predicted = timed.fraction({name: len(groups) for name, groups in plan.kept.items()})
    found = verdict(target, predicted, ms, device, batch_size(pruner.example_input))
    return {"latency_ms": ms, "latency": found}
