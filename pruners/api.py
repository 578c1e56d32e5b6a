"""One call from a live network to a bundle."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import fields
from functools import partial
from numbers import Integral, Real
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .base import BasicPruning
from .bundle import Bundle, check_free, held
from .clusters import check_cluster
from .configured import ConfiguredPruning
from .costs import Budget, check_layers
from .entry import Entry
from .errors import BudgetError, InputError, NeedsDataError, OptionError, UnsuitedError, named_as_in_python
from .hub import is_configured
from .latency import Measuring, Table, device_of, machine
from .measure import Measure
from .metrics import check_labels
from .pipeline import Pipeline, closeness, points
from .plan import PruningPlan
from .run import (
    as_it_was,
    batch_size,
    call_arguments,
    copied,
    describe,
    examples_of,
    images_of,
    require_inputs,
    require_module,
    site_of,
)
from .search import SEARCHES, Evaluate, Evaluator, Retrain, Scored, SearchSettings, workers_with
from .steps import known_entry
from .transfer import TransferImages, chosen_transfer, require_images

log = logging.getLogger(__name__)


def prune(
    model: nn.Module,
    example_input: Any,
    *,
    output: str | Path | None = None,
    ratio: float | Mapping[str, float] | None = None,
    macs: float | None = None,
    params: float | None = None,
    latency: float | None = None,
    latency_table: str | Path | None = None,
    layers: float | None = None,
    metric: str = "l1",
    search: str = "uniform",
    per: str = "layer",
    transfer: str | None = None,
    heal: float | None = None,
    batches: Iterable[Any] | None = None,
    evaluate: Evaluate | None = None,
    retrain: Retrain | None = None,
    score: Callable[[nn.Module], float] | None = None,
    final_epochs: int = 10,
    skip: Sequence[str] = (),
    per_layer: bool = False,
    round_to: int = 1,
    seed: int = 0,
    entry: Entry | None = None,
    force: bool = False,
    jobs: int = 1,
    backend: str = "loky",
    address: str | None = None,
    **settings: Any,
) -> Bundle:
    """Prune a network, write its source, verify it, and publish the bundle in ``output``; without one, the bundle is in
    memory alone (``bundle.path`` is None).

    At most one budget, which only ``search="bayesian"`` can do without: ``ratio`` removes that fraction of the
    channels of every width (``{"*": 0.5, "layer3.*": 0.7}``: of those with layers that a word names, the last that
    does), ``macs`` and ``params`` keep at most that fraction of the multiply-accumulates or parameters, ``latency``
    of the time that ``example_input`` takes where the model is, as predicted from measured times (kept in the file
    ``latency_table``). ``layers`` keeps at most that fraction of the residual layers: whole blocks go first, those
    whose absence moves the outputs least, alone or before another budget.

    ``search``: "uniform" or "global", which need no data, "sensitivity", which looks at ``batches``, or "bayesian",
    which asks ``evaluate(network) -> (loss, accuracy)`` and calls ``retrain(network, epochs)``, which trains in place,
    width by width; ``per="stage"`` searches stages of widths at once. ``settings``: more fields of ``SearchSettings``,
    such as ``alpha=2``. ``metric``: which channels go first.
    ``transfer``: "slice" (the default) keeps the kept slices of the weights, "bn" re-estimates batch-norm statistics on
    ``batches``, too, "lstsq" fits the layers to what the original gives on ``batches``, and "heal" trains them on from
    there to say what it says, without labels: for ``heal`` seconds, or 600 steps. ``retrain`` then trains the generated
    network for ``final_epochs``, and ``evaluate`` measures the accuracies of the summary. ``score``: a measure of your
    own, the larger the better, that searches judge candidates by in place of ``evaluate``, and what the summary tells;
    the network comes in evaluation mode, without gradients, and is left as it was. ``batches``: (images, labels)
    pairs for what looks at data; tensors do where no labels are needed. ``skip``: layers that stay. ``per_layer``: in
    a model with a configuration every layer keeps widths of its own. ``round_to``: multiples of so many channels stay.
    ``entry``: the factory that built the model, and its arguments, if it isn't simply its class:
    ``Entry(Net, {"width": 32})``; after ``prune_step`` what that was given. ``force``: overwrite what is in ``output``.
    ``jobs``: so many processes judge the candidates of a search, which ends as with one; what they judge by is pickled
    for them. ``backend`` and ``address``: of "ray" or "dask", where these run elsewhere.

    Returns the bundle: ``model``, ``source``, ``plan``, ``summary``, ``path``. The model itself is not changed. Raises
    the errors of ``pruners.errors``: UsageError for arguments that don't fit, BudgetError, NotPrunableError with file
    and line, VerificationError; nothing is published unless the generated file computes the pruned network in a fresh
    process.

    >>> import torch
    >>> from secateur import prune
    >>> from secateur.models.cifar.lenet5 import lenet5
    >>> bundle = prune(lenet5(), torch.zeros(1, 1, 28, 28), ratio=0.5)
    >>> bundle.model.conv2
    Conv2d(10, 25, kernel_size=(5, 5), stride=(1, 1))
    >>> bundle.plan
    PruningPlan(3 widths, 285 of 570 channels stay: conv1 10/20, conv2 25/50, ip1 250/500)
    """
    if unknown := settings.keys() - {f.name for f in fields(SearchSettings)} | settings.keys() & {"strategy", "budget"}:
        raise TypeError(f"prune() got an unexpected keyword argument {min(unknown)!r}")
    require_module(model)
    with named_as_in_python(), ExitStack() as stack:
        check_cluster(jobs, backend, address)
        require_inputs(example_input)
        _require_numbers({"macs": macs, "params": params, "latency": latency, "layers": layers, "heal": heal})
        _require_numbers(dict(ratio) if isinstance(ratio, Mapping) else {"": ratio}, "ratio")
        _require_numbers({"round-to": round_to, "seed": seed, "jobs": jobs, "final-epochs": final_epochs}, whole=True)
        if not isinstance(output, str | PathLike | None):
            raise OptionError(f"--output takes the path of a folder, not {type(output).__name__}: {output!r:.40}")
        evaluate = None if evaluate is None else partial(_evaluated, evaluate)
        skip = _names([skip] if isinstance(skip, str) else skip)
        transfer = chosen_transfer(transfer, heal, "slice")
        budget = _budget(
            search, {"ratio": ratio, "macs": macs, "params": params, "latency": latency}, layers
        )
        if output is not None:
            check_free(Path(output), force)
            stack.enter_context(held(Path(output)))
        chosen = SearchSettings(
            strategy=search, metric=metric, budget=budget, round_to=round_to, per=per, seed=seed,
            **{**points(per), **settings},
        )  # fmt: skip
        _ = chosen.limits  # refuses what is out of range
        known = None if batches is None else list(batches)
        measure = None if score is None else Measure.of(score)
        _require_data(chosen, transfer, known, evaluate or measure)
        if known is not None:
            _require_runnable(model, example_input, known)
        if per_layer and not is_configured(model):
            raise UnsuitedError("per_layer is for models with a configuration: other layers have widths of their own")
        pruning = partial(ConfiguredPruning, per_layer=per_layer) if is_configured(model) else BasicPruning
        pruner: BasicPruning = pruning(model, example_input, entry=entry or known_entry(model), skip=skip)
        scored = None if measure is None else Scored(measure, measure(copied(model)))
        before = None if evaluate is None else evaluate(pruner.model)[1]
        if layers is not None:
            distance = None if known is None else closeness(pruner.model, known)
            pruner.shorten(layers, distance if scored is None else scored.lost)
        images = None if known is None else TransferImages(lambda: known)
        pipeline = Pipeline(pruner, chosen, transfer, images, seconds=heal)
        if budget is not None and budget.kind == "latency":
            device = device_of(model)
            table = Table(machine(device), None if latency_table is None else Path(latency_table))
            pipeline.measure(Measuring(table, device=device, batch=batch_size(example_input)))
        facts = {"search": search, "metric": metric, "transfer": transfer, "seed": seed}
        facts |= {} if heal is None else {"heal": heal}
        facts |= {"per_layer": True} if per_layer else {}
        facts |= {} if budget is None else budget.facts
        for doubt in pruner.doubts:
            log.warning(doubt)
        if layers is not None:
            facts["layers"] = layers
        judging = {"batches": known, "evaluate": evaluate, "scored": scored}
        with workers_with(partial(_evaluator, pipeline, judging), jobs, backend=backend, address=address) as workers:
            plan = pipeline.decide(facts, pipeline.evaluator(**judging), retrain=retrain, workers=workers)
        told = {} if measure is None or scored is None else {"name": measure.name, "before": scored.before}
        accuracy = {"before": before, "pruned": None, "retrained": None}
        judge = partial(_judged, pipeline, evaluate, retrain, final_epochs, scored, told, accuracy)
        return pipeline.publish(plan, output, judge, force=force)


def _require_numbers(given: Mapping[Any, Any], option: str = "", whole: bool = False) -> None:
    kind, said = (Integral, "a whole number") if whole else (Real, "a number")
    for name, value in given.items():
        if value is not None and not isinstance(value, kind):
            raise OptionError(f"--{option or name} takes {said}, not {type(value).__name__}: {value!r:.40}")


def _evaluated(evaluate: Evaluate, network: nn.Module, *stop: Any) -> tuple[float, float]:
    found = evaluate(network, *stop)
    try:
        loss, accuracy = found
        return float(loss), float(accuracy)
    except (TypeError, ValueError):
        told = f"evaluate= returned {found!r:.40}, not a loss and an accuracy; a measure of one number is for score="
        raise OptionError(told) from None


def _names(skip: Sequence[Any]) -> Sequence[str]:
    if others := [type(s).__name__ for s in skip if not isinstance(s, str)]:
        raise OptionError(f"--skip takes names of layers, as named_modules() gives them, not {others[0]}")
    return skip


def _budget(search: str, budgets: Mapping[str, Any], layers: float | None) -> Budget | None:
    given = {k: v for k, v in budgets.items() if v is not None}
    if layers is not None:
        check_layers(layers, "latency" in given)
    if len(given) > 1 or (not given and layers is None and search != "bayesian"):
        raise BudgetError(f"give exactly one of ratio, macs, params and latency, not {', '.join(given) or 'none'}")
    if isinstance(given.get("ratio"), Mapping):
        parts = {str(word): share for word, share in given["ratio"].items()}
        return Budget("ratio", parts.pop("*", 0.0), tuple(parts.items()))
    return next((Budget(kind, value) for kind, value in given.items()), None)


def _evaluator(pipeline: Pipeline, judging: dict[str, Any]) -> Evaluator:
    """In another process."""
    return pipeline.evaluator(**judging)


def _require_data(
    settings: SearchSettings, transfer: str, batches: Sequence[Any] | None, evaluate: Callable[..., Any] | None
) -> None:
    """UsageError where something asked for looks at what isn't there."""
    SEARCHES.find(settings.strategy)
    check_labels(settings.metric, batches)
    require_images(transfer, batches is not None)
    if evaluate is None and SEARCHES.fact(settings.strategy, "labels"):
        name = settings.strategy
        raise NeedsDataError(f"--search {name} evaluates candidates: give evaluate= or score=, or take another search")


def _judged(
    pipeline: Pipeline, evaluate: Evaluate | None, retrain: Retrain | None, epochs: int, scored: Scored | None,
    score: dict[str, Any], accuracy: dict[str, float | None], network: nn.Module, plan: PruningPlan,
) -> dict[str, Any]:  # fmt: skip
    """Retrain the network and measure what can be, for the summary."""
    told: dict[str, Any] = {}
    if evaluate is not None:
        accuracy["pruned"] = evaluate(network)[1]
    if scored is not None:
        told["score"] = {**score, "pruned": scored.measure(copied(network))}
    if retrain is not None and epochs:
        retrain(network, epochs)
        accuracy["retrained"] = None if evaluate is None else evaluate(network)[1]
        if scored is not None:
            told["score"]["retrained"] = scored.measure(copied(network))
    if evaluate is not None:
        told["accuracy"] = accuracy
    return {**told, **(pipeline.compared(network, plan) if pipeline.latency is not None else {})}


def _require_runnable(model: nn.Module, example_input: Any, batches: Sequence[Any]) -> None:
    """UsageError unless the batches' images are all that the model is called with, and it takes them."""
    args, kwargs = call_arguments(examples_of(example_input)[0])
    first = next(iter(inspect.signature(model.forward).parameters), "")
    alone = len(args) + len(kwargs) == 1 and all(isinstance(v, Tensor) for v in (*args, *kwargs.values()))
    if not alone or (kwargs and first not in kwargs):
        call = ", ".join([*(type(a).__name__ for a in args), *(f"{name}=..." for name in kwargs)])
        raise UnsuitedError(
            f"the model would be called with a batch's images alone, but example_input calls it with ({call}): leave "
            "batches out, with transfer slice, search uniform or global, and a metric of weights such as l1"
        )
    if not batches:
        raise OptionError("batches are empty: give some, or leave them out")
    images = images_of(batches[0])[:2]
    try:
        with as_it_was(model), torch.no_grad():
            model.eval()(images.to(next(model.parameters(), images).device))
    except Exception as error:
        shape = ",".join(map(str, images.shape[1:]))
        told = f"the model can't be run on the batches' images ({shape}): {describe(error)}"
        raise InputError(told, site=site_of(error)) from error
