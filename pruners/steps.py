"""Pruning during training, in a loop of the user's own: the network becomes narrower in memory, step by step, and in
the end its source is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

from .base import BasicPruning
from .bundle import Bundle, check_free, held
from .costs import Budget
from .entry import Entry
from .errors import (
    BudgetError,
    CheckpointError,
    ConflictError,
    NothingToPruneError,
    OptionError,
    PlanMismatchError,
    StuckError,
    UnsuitedError,
    VerificationError,
    named_as_in_python,
)
from .graph import ChannelGraph, IntArray, Kept, Slot
from .hub import is_configured
from .metrics import check_labels
from .pipeline import Pipeline
from .places import Site
from .plan import PruningPlan
from .run import call_arguments, copied, plain, run, tensors_in, tree_map
from .search import Evaluator, SearchSettings
from .slicing import narrowing
from .weight_transfer import masks_by_key, slice_moments

_CLOSE = 1e-4  # relative to the largest output: what float32 may round


@dataclass(frozen=True)
class PruneStep:
    """What one step did. ``removed``: width -> how many channels went. ``macs``, ``params``: before and after it.
    ``plan``: what all steps so far keep of the network as it was before the first one; save it beside a checkpoint, and
    ``prune_step(..., plan=plan)`` brings a new network to these widths before the checkpoint is loaded."""

    removed: Mapping[str, int]
    macs: tuple[int, int]
    params: tuple[int, int]
    plan: PruningPlan = field(repr=False)


@dataclass
class _History:
    """``pruner``: of a copy of the network as it was before the first step. ``left``: for every slot that lost
    something, which of its positions are left."""

    pruner: BasicPruning
    left: dict[Slot, IntArray]
    plan: PruningPlan | None = None
    steps: int = 0


_HISTORIES: WeakKeyDictionary[nn.Module, _History] = WeakKeyDictionary()


def prune_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    example_input: Any,
    *,
    ratio: float | None = None,
    macs: float | None = None,
    params: float | None = None,
    plan: PruningPlan | None = None,
    metric: str = "l1",
    search: str = "uniform",
    skip: Sequence[str] = (),
    round_to: int = 1,
    seed: int = 0,
    entry: Entry | None = None,
) -> PruneStep:
    """Take channels out of a network that is being trained, in place, and go on with the same optimizer and scheduler.

    To be called between two optimizer steps, as often as wanted; ``publish`` then writes the source. The modules stay
    the same objects; a parameter that loses something is replaced by a new one, in the optimizer too, whose state
    (momentum, moments) is cut alike. Gradients of what was replaced are gone; averages of the weights (EMA), lists of
    parameters and wrappers have to be made anew.

    One of ``ratio``, which removes that fraction of the channels of every width, ``macs`` and ``params``, which keep
    at most that fraction, all of what the network has now; or ``plan``, to get widths of an earlier run. ``metric``:
    which channels go first, by their weights. ``search``: "uniform" or "global". ``skip``, ``round_to``, ``entry``: as
    ``prune`` has them; ``entry`` counts in the first step.

    Raises UsageError where the network is wrapped, compiled or has another optimizer, NotPrunableError where nothing
    can go or the code can't follow; then nothing was changed.

    >>> import torch
    >>> from secateur import prune_step, publish
    >>> from secateur.models.cifar.lenet5 import lenet5
    >>> model, images = lenet5(), torch.rand(8, 1, 28, 28)
    >>> optimizer = torch.optim.Adam(model.parameters())
    >>> for step in range(4):
    ...     optimizer.zero_grad()
    ...     model(images).square().mean().backward()
    ...     optimizer.step()
    ...     if step in (1, 2):
    ...         done = prune_step(model, optimizer, images[:1], ratio=0.3)
    >>> done.removed
    {'conv1': 4, 'conv2': 10, 'ip1': 105}
    >>> publish(model).plan
    PruningPlan(3 widths, 280 of 570 channels stay: conv1 10/20, conv2 25/50, ip1 245/500)
    """
    with named_as_in_python():
        budget = _budget({"ratio": ratio, "macs": macs, "params": params}, plan)
        _require_held(model, optimizer)
        pruner = _pruner(model, example_input, entry, skip)
        history = _HISTORIES.get(model)
        if history is None:  # what is left whole may be other layers in each step
            history = _History(_pruner(model, example_input, entry, ()) if skip else pruner, {})
        if plan is not None:
            if history.steps:
                raise ConflictError("plan= is for the first step, of a network that has all of its channels")
            kept: Kept = pruner.plan(plan.kept).kept
        else:
            check_labels(metric, None)
            settings = SearchSettings(strategy=search, metric=metric, budget=budget, round_to=round_to, seed=seed)
            kept = Pipeline(pruner, settings).decide({}, Evaluator(model)).kept
        graph, before, after = pruner.graph, pruner.predict({}), pruner.predict(kept)
        removed = {w.name: w.size - len(np.asarray(kept[w.name])) for w in graph.widths}
        if not any(removed.values()):
            raise NothingToPruneError("nothing goes in this step: every width keeps all of its channels")
        left = _left(history.left, graph, kept)
        whole = history.pruner.plan(_composed(history.pruner.graph, left), metric=metric, steps=history.steps + 1)
        sliced = pruner.slice(kept)
        if sliced.literals:
            where = sliced.literals[0]
            raise StuckError(
                "a number in the code counts channels, and code can't change while it runs: make it follow the tensors "
                "(x.shape), or take prune(), which writes it anew", Site(where.file, where.line),
            )  # fmt: skip
        narrow = narrowing(model, sliced.model)
        states = _states(model, optimizer, graph, kept, narrow.parameters)
        narrow.carry_out()
        _hand_over(optimizer, narrow.parameters, states)
        history.left, history.plan, history.steps = left, whole, history.steps + 1
        _HISTORIES[model] = history
        return PruneStep({n: c for n, c in removed.items() if c}, (before.macs, after.macs),
                         (before.params, after.params), whole)  # fmt: skip


def publish(model: nn.Module, output: str | Path | None = None, *, force: bool = False) -> Bundle:
    """Write the source of a network that ``prune_step`` made narrower, with the weights it has now, verify it, and
    publish the bundle in ``output``; without one, the bundle is in memory alone. The network is not changed.

    ``bundle.plan`` tells what is left of the network as it was before the first step. Raises UsageError where
    ``prune_step`` has never seen this network, and what ``prune`` raises.
    """
    with named_as_in_python():
        history = _HISTORIES.get(model)
        if history is None or history.plan is None:
            raise UnsuitedError("publish is for a network that prune_step made narrower; for others take prune")
        if output is not None:
            check_free(Path(output), force)
            with held(Path(output)):
                return _publish(model, history.pruner, history.plan, output, force)
        return _publish(model, history.pruner, history.plan, None, force)


def known_entry(model: nn.Module) -> Entry | None:
    """What the first ``prune_step`` of a network was told, or found, of who makes it; None where there was none."""
    history = _HISTORIES.get(model)
    return None if history is None else history.pruner.entry


def _publish(
    model: nn.Module, pruner: BasicPruning, plan: PruningPlan, output: str | Path | None, force: bool
) -> Bundle:
    live = copied(model).to("cpu")
    state = live.state_dict()
    made = pruner.carry_out(plan)
    shapes = {name: tensor.shape for name, tensor in made.sliced.model.state_dict().items()}
    if other := [n for n in {**shapes, **state} if n not in state or state[n].shape != shapes.get(n)]:
        raise PlanMismatchError(f"the network was changed otherwise since its last prune_step: {other[0]} is another")
    twin = copied(made.sliced.model)
    twin.load_state_dict(state)
    if not _alike(live, twin, pruner.example_input):
        raise VerificationError("the network computes something else than its source with these widths and weights")
    return pruner.publish(made, output, state=state, force=force)


def _budget(budgets: Mapping[str, float | None], plan: PruningPlan | None) -> Budget | None:
    given = {k: v for k, v in budgets.items() if v is not None}
    if len(given) + (plan is not None) != 1:
        raise BudgetError("give exactly one of ratio, macs, params and plan")
    return next((Budget(kind, value) for kind, value in given.items()), None)


def _pruner(model: nn.Module, example_input: Any, entry: Entry | None, skip: Sequence[str]) -> BasicPruning:
    """Of a copy on the CPU."""
    bare, told, _ = plain(model)
    if told or bare is not model:
        why = told[0] if told else "it is compiled, or its weights have 16 bits"
        raise UnsuitedError(
            f"prune_step changes the network itself, and this one is not bare ({why}): give the network inside, and "
            "wrap or compile it anew afterwards"
        )
    if is_configured(model):
        raise UnsuitedError("prune_step is not for models with a configuration: take prune --model hf:DIR")
    inputs = tree_map(lambda leaf: leaf.cpu() if isinstance(leaf, Tensor) else leaf, example_input)
    return BasicPruning(copied(model).to("cpu"), inputs, entry=entry, skip=skip)


def _require_held(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """UsageError unless the optimizer trains all parameters that are trained."""
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise OptionError(f"optimizer must be one of torch.optim, not {type(optimizer).__name__}")
    trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
    lacking = [n for n, p in model.named_parameters() if p.requires_grad and id(p) not in trained]
    if lacking:
        more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        raise OptionError(
            f"the optimizer doesn't hold the network's {lacking[0]}{more}: give the one that was made of its parameters"
        )


# -- what is left of the whole network


def _left(left: Mapping[Slot, IntArray], graph: ChannelGraph, kept: Kept) -> dict[Slot, IntArray]:
    """The positions of the whole network's slots that are left after a step."""
    masks = graph.masks(kept).items()
    return {**left, **{slot: left.get(slot, np.arange(mask.size))[mask] for slot, mask in masks}}


def _composed(graph: ChannelGraph, left: Mapping[Slot, IntArray]) -> dict[str, tuple[int, ...]]:
    """The groups of the whole network that are left. Raises NotPrunableError where a group would be cut in two."""
    kept: dict[str, tuple[int, ...]] = {}
    for width in graph.widths:
        use = next(u for u in width.uses if not u.slot.virtual)
        stays = np.isin(use.index, left[use.slot]).all(1) if use.slot in left else np.ones(width.size, dtype=bool)
        kept[width.name] = tuple(np.flatnonzero(stays).tolist())
    masks = graph.masks(kept)
    for slot in {*masks, *left}:
        mask = masks.get(slot)
        now = np.arange(graph.slot_size(slot)) if mask is None else np.flatnonzero(mask)
        if not np.array_equal(now, left.get(slot, np.arange(graph.slot_size(slot)))):
            raise PlanMismatchError(f"{slot}: what goes together is no longer what went together before the first step")
    return kept


# -- the optimizer


def _states(
    model: nn.Module, optimizer: torch.optim.Optimizer, graph: ChannelGraph, kept: Kept,
    parameters: Mapping[int, nn.Parameter],
) -> dict[int, dict[str, Any]]:  # fmt: skip
    """For the identity of each old parameter the state of the new one. Raises UsageError where it can't be cut."""
    masks = masks_by_key(graph, kept)
    names = {id(p): n for n, p in model.named_parameters()}
    held = [p for group in optimizer.param_groups for p in group["params"] if id(p) in parameters]
    try:
        return {
            id(p): slice_moments(optimizer.state[p], names[id(p)], graph, masks) for p in held if p in optimizer.state
        }
    except CheckpointError as error:
        raise UnsuitedError(f"{type(optimizer).__name__} can't go on with fewer channels: {error}") from error


def _hand_over(
    optimizer: torch.optim.Optimizer, parameters: Mapping[int, nn.Parameter], states: Mapping[int, dict[str, Any]]
) -> None:
    for group in optimizer.param_groups:
        for place, old in enumerate(group["params"]):
            if id(old) in parameters:
                group["params"][place] = parameters[id(old)]
                optimizer.state.pop(old, None)
                if id(old) in states:
                    optimizer.state[parameters[id(old)]] = states[id(old)]


def _alike(first: nn.Module, second: nn.Module, inputs: Any) -> bool:
    """Whether two networks give the same in evaluation."""
    args, kwargs = call_arguments(inputs)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        state = torch.get_rng_state()
        wanted = tensors_in(run(first.eval(), args, kwargs))
        torch.set_rng_state(state)
        found = tensors_in(run(second.eval(), args, kwargs))
    return all(
        a.shape == b.shape and float((a - b).abs().max()) <= _CLOSE * float(a.abs().max())
        for a, b in zip(wanted, found, strict=True) if a.is_floating_point() and a.numel()
    )  # fmt: skip
