"""Rehearsal: a sliced network runs once beside what the trace saw, and every stale number in its code is found.

Every call that the trace knows to count channels, and every factor, is compared with what it should be; a stale
number is corrected for the run and traced back to the expression it came from: an attribute of a module, which is set
anew, or any other expression, which becomes a ``LiteralSite`` for the source writer.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy.typing as npt
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from ..errors import NotPrunableError, SecateurError, StuckError
from ..graph import ChannelGraph, CountedCall, Pass, Step
from ..places import LiteralSite, Site, Span
from ..run import (
    Left,
    Modules,
    NormBase,
    Watch,
    Way,
    author_frame,
    author_site,
    call_arguments,
    describe,
    examples_of,
    in_stand_in,
    layer_frame,
    name_of,
    repeatable,
    run,
    site_of,
    training_batch,
)
from ..trace import SITE_RULES, Path, constants, said
from .expressions import AttributePatch, Place, Stale, resolve
from .size_checks import outdated

Kept = Mapping[str, npt.ArrayLike]
Where = tuple[Site, Span]  # of a call


@contextmanager
def corrected(model: nn.Module, graph: ChannelGraph, kept: Kept, example: int = 0) -> Iterator[None]:
    """Within this block a sliced model runs once, in eval mode, although its code holds stale numbers: they are put
    right on the way. ``example``: the number of the one that it runs on."""
    modules = Modules(model)
    further = {run.example: run.calls for run in graph.further if not (run.training or run.tried)}
    with modules.watching(), _Rehearsal(modules, further.get(example, graph.calls), kept, None):
        yield


def rehearse(model: nn.Module, graph: ChannelGraph, kept: Kept, example_input: Any) -> tuple[LiteralSite, ...]:
    """Rehearse until no attribute is stale: setting one anew can make an expression that reads it stale."""
    flags = {m: m.training for m in model.modules()}
    applied: dict[AttributePatch, object] = {}
    crowded: set[Where] = set()
    try:
        while True:
            found = _passes(model.eval(), graph, kept, example_input, crowded)
            several = _several_sizes(found)
            if several:
                crowded |= several
                continue
            attributes, literals = _sorted_out(found, applied)
            if not attributes:
                return tuple(LiteralSite(*place[:5], values, place[5]) for place, values in literals.items())
            if attributes.keys() <= applied.keys():
                raise StuckError("a number here must follow the widths, but can't be set anew", found[0].site)
            for patch, new in attributes.items():
                holder = model.get_submodule(patch.module)
                old = getattr(holder, patch.attribute)
                now = list(new) if isinstance(old, list) and isinstance(new, tuple) else new
                setattr(holder, patch.attribute, now)
            applied |= attributes
    finally:
        for module, flag in flags.items():
            module.training = flag


def _several_sizes(found: list[Stale]) -> set[Where]:
    """Calls in which some runs leave a size to torch, and others another one or none: only one can be left out."""
    places: dict[Where, set[tuple[object, bool]]] = {}
    for stale in found:
        if stale.call is not None:
            places.setdefault(stale.call, set()).add((stale.where, stale.new == -1))
    return {call for call, left in places.items() if len(left) > 1 and any(free for _, free in left)}


def _passes(
    model: nn.Module, graph: ChannelGraph, kept: Kept, example_input: Any, crowded: Collection[Where]
) -> list[Stale]:
    """What is stale in all passes that the trace made."""
    examples = examples_of(example_input)
    found = _stale_numbers(model, graph.calls, kept, examples[0], crowded, graph.steps)
    for how in graph.further:
        if not how.calls:
            continue
        copied = copy.deepcopy(model).train(how.training)
        example = examples[how.example]
        with repeatable():
            found += _stale_numbers(
                copied, how.calls, kept, training_batch(example) if how.training else example, crowded, how=how
            )
    return found


def _stale_numbers(
    model: nn.Module,
    calls: tuple[CountedCall, ...],
    kept: Kept,
    example_input: Any,
    crowded: Collection[Where],
    steps: Sequence[Step] = (),
    how: Pass | None = None,
) -> list[Stale]:
    how = how or Pass()
    args, kwargs = call_arguments(example_input)
    modules = Modules(model)
    watch = Watch(modules, how.tried, _Retried(how.failed)) if how.tried else None
    found: list[Stale] = []
    hooks = [m.register_forward_pre_hook(_fit_norm) for m in model.modules() if _has_no_tensors(m)]
    try:
        with (
            torch.set_grad_enabled(how.graded),
            modules.watching(),
            _Rehearsal(modules, calls, kept, found, steps, crowded) as rehearsal,
            watch.watching() if watch is not None else nullcontext(),
        ):
            run(model, args, kwargs)
        rehearsal.check()
    except SecateurError:
        raise
    except Exception as error:
        checks = outdated(error, model, modules)
        if checks:
            return checks
        shown = f"the pruned network does not run: {describe(error)}"
        raise StuckError(f"{type(error).__name__} with other widths", site_of(error), shown=shown) from error
    finally:
        for hook in hooks:
            hook.remove()
    return found


@dataclass(frozen=True)
class _Retried:
    """Ways that the trace tried are tried again."""

    failed: Collection[Any]

    def attempt(self, way: Way, site: Site, call: Callable[[], Left]) -> Left | str:
        return "the trace failed here" if way in self.failed else call()

    def join(self, first: Any, second: Any, site: Site) -> None:
        """The trace did so."""

    def hold(self, values: Any, site: Site, why: str) -> None:
        """The trace did so."""


def _has_no_tensors(module: nn.Module) -> bool:
    sized = (NormBase, nn.LayerNorm, nn.GroupNorm)
    return isinstance(module, sized) and not list(module.parameters()) and not list(module.buffers())


def _fit_norm(module: Any, args: tuple[Any, ...]) -> None:
    """A norm that stores nothing takes its size from what it reads."""
    if isinstance(module, nn.LayerNorm):
        module.normalized_shape = tuple(args[0].shape[args[0].ndim - len(module.normalized_shape) :])
    else:
        name = "num_channels" if isinstance(module, nn.GroupNorm) else "num_features"
        if isinstance(module, nn.GroupNorm) and module.num_groups == module.num_channels:
            module.num_groups = args[0].shape[1]
        setattr(module, name, args[0].shape[1])


class _Rehearsal(TorchFunctionMode):
    """Compares every counted call with the trace, notes stale numbers and corrects them for this run."""

    def __init__(
        self,
        modules: Modules,
        calls: tuple[CountedCall, ...],
        kept: Kept,
        found: list[Stale] | None,
        steps: Sequence[Step] = (),
        crowded: Collection[Where] = (),
    ) -> None:
        super().__init__()
        self._crowded = crowded
        self._modules, self._kept, self._found = modules, kept, found
        self._calls = iter(calls)
        self._steps, self._checks = iter(steps), bool(steps)
        self._data_left = False  # a number made of the data
        self._values: dict[tuple[str, Site, Span, Path], dict[int, list[str]]] = {}
        self._stale: dict[tuple[str, Site, Span, Path], Site] = {}
        self._noted: set[tuple[str, Site, Span, Path]] = set()
        self._places: dict[object, Stale] = {}  # the expression behind a call's number

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        own = not in_stand_in()
        if func in SITE_RULES and own:
            args, kwargs = self._correct(func, args, kwargs)
        out = func(*args, **kwargs)
        self._data_left |= type(out) is float
        if self._checks and own and isinstance(out, torch.Tensor):
            self._follow(name_of(func))
        return out

    def _follow(self, name: str) -> None:
        """The steps must be those of the trace: a condition on a size may have another outcome now."""
        site = author_site()
        wanted = next(self._steps, None)
        if wanted is not None and wanted != (name, site):
            way = f"{name} of line {site.line}, not {wanted[0]}"
            raise StuckError(f"a condition turns out otherwise with fewer channels ({way})", wanted[1])

    def _correct(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        site = author_site()
        call = next(self._calls, None)
        if call is None or (call.name, call.module, call.site) != (name_of(func), self._modules.current, site):
            raise StuckError("the pruned network takes another way here than the network did", site)
        changes: dict[Path, float] = {}
        for path, extent in call.extents.items():
            now, value = said(func, args, kwargs, path), extent.count(self._kept)
            self._values.setdefault((call.module, site, call.span, path), {})[value] = [w for w, _ in extent.parts]
            if now != -1 and not isinstance(now, torch.Tensor) and now != value:
                changes[path] = value
        numbers = constants(func, args, kwargs)
        moved = {path: value for path, value in call.constants.items() if numbers.get(path, value) != value}
        if moved and self._data_left:
            if self._found is not None:
                raise StuckError("a plain number made of the data scales channels; keep it a tensor", site)
            moved = {}
        changes |= moved
        if not changes:
            return args, kwargs
        fixed = _set(args, kwargs, changes)
        if self._found is None:
            return fixed
        frame = layer_frame(self._modules.path_of) or author_frame()
        if frame is None:
            raise NotPrunableError(f"{call.module}: a size inside torch's own layer can't follow the widths")
        reflected = call.name.startswith("__r")
        for stale in resolve(frame, site, self._modules, reflected, (args, kwargs), fixed):
            free = call.name in {"view", "reshape"} and len(changes) == 1 and not _has_minus_one(args, kwargs)
            free &= not isinstance(stale.where, AttributePatch) and (site, call.span) not in self._crowded
            new = -1 if free else stale.new
            if not free:
                self._stale |= {(call.module, site, call.span, path): site for path in changes}
            counted = [w for p, v in changes.items() if p in call.extents and _holds(stale.new, v)
                       for w, _ in call.extents[p].parts]  # fmt: skip
            owners = [p for p, v in changes.items() if not free and v == stale.new]
            if len(owners) == 1 and stale.module == call.module and not isinstance(stale.where, AttributePatch):
                self._places[site, call.span, owners[0]] = stale
            self._found.append(replace(stale, new=new, widths=tuple(counted), call=(site, call.span)))
            self._noted |= {(call.module, site, call.span, path) for path in changes}
        return fixed


    def check(self) -> None:
        """A number that is stale in one run of its expression must have one new value in all runs.

        Where other modules run the expression too and their number stays, that is noted as well.
        """
        for (module, site, span, path), values in self._values.items():
            stale = self._places.get((site, span, path))
            known = (module, site, span, path) in self._noted or len(values) > 1
            if stale is not None and self._found is not None and not known:
                self._found += [replace(stale, module=module, new=v, widths=tuple(w)) for v, w in values.items()]
        for place, site in self._stale.items():
            if len(self._values.get(place, ())) > 1:
                widths = [w for counted in self._values[place].values() for w in counted]
                raise StuckError("one number in the code counts two different widths here", site, widths, alike=True)


def _holds(new: object, value: float) -> bool:
    return value in new if isinstance(new, (tuple, list)) else new == value


def _has_minus_one(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    said = [*args, *kwargs.values()]
    return any(isinstance(n, int) and n == -1 for a in said for n in (a if isinstance(a, (tuple, list)) else (a,)))


def _set(
    args: tuple[Any, ...], kwargs: dict[str, Any], changes: Mapping[Path, float]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    def replaced(value: Any, here: Path) -> Any:
        if here in changes:
            return changes[here]
        if isinstance(value, (tuple, list)):
            return tuple(replaced(v, (*here, i)) for i, v in enumerate(value))
        if isinstance(value, slice):
            return slice(replaced(value.start, (*here, "start")), replaced(value.stop, (*here, "stop")), value.step)
        return value

    named = {k: replaced(v, (k,)) for k, v in kwargs.items()}
    unsaid = {str(path[0]): value for path, value in changes.items() if isinstance(path[0], str)}
    return tuple(replaced(v, (i,)) for i, v in enumerate(args)), unsaid | named


def _sorted_out(
    found: list[Stale], applied: Mapping[AttributePatch, object]
) -> tuple[dict[AttributePatch, object], dict[Place, dict[str, object]]]:
    """Attributes to set anew, and the other stale expressions with a value per module."""
    attributes: dict[AttributePatch, object] = {}
    literals: dict[Place, dict[str, object]] = {}
    first: dict[object, Stale] = {}
    for stale in found:
        if isinstance(stale.where, AttributePatch):
            before = applied.get(stale.where, attributes.setdefault(stale.where, stale.new))
        else:
            before = literals.setdefault(stale.where, {}).setdefault(stale.module, stale.new)
        other = first.setdefault((stale.where, stale.module), stale)
        if before != stale.new:
            widths = (*other.widths, *stale.widths)
            raise StuckError("one number in the code counts two different widths here", stale.site, widths, alike=True)
    return attributes, literals
