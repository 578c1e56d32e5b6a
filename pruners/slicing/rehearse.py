"""Rehearsal: a sliced network runs once beside what the trace saw, and every stale number in its code is found.

Every call that the trace knows to count channels, and every factor, is compared with what it should be; a stale
number is corrected for the run and traced back to the expression it came from: an attribute of a module, which is set
anew, or any other expression, which becomes a ``LiteralSite`` for the source writer.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from ..errors import MixedNumberError, OtherWayError, SecateurError, SharedNumberError, StuckError, TraceError
from ..graph import ChannelGraph, CountedCall, Kept, Pass, Step
from ..places import LiteralSite, Site, Span
from ..run import (
    FunctionMode,
    Modules,
    NormBase,
    author_frame,
    author_site,
    batch_size,
    call_arguments,
    copied,
    describe,
    examples_of,
    hooked,
    in_stand_in,
    layer_frame,
    name_of,
    run,
    site_of,
    tree_of,
    without_traces,
)
from ..trace import SITE_RULES, Path, constants, said
from .call_frames import CallFrames, samples
from .evaluate import Unknown
from .expressions import AttributePatch, Place, Stale, owner, resolve
from .passes import inputs_of, retraced
from .separate import Fix, Sample, agreed, computed, counted, fixes, named
from .size_checks import outdated

Where = tuple[Site, Span]  # of a call
Found = list[tuple[Pass, list[Stale]]]  # what is stale in which pass


@contextmanager
def corrected(model: nn.Module, graph: ChannelGraph, kept: Kept, example: int = 0) -> Iterator[None]:
    """Within this block a sliced model runs once, in eval mode, although its code holds stale numbers: they are put
    right on the way. ``example``: the number of the one that it runs on."""
    modules = Modules(model)
    passes = {p.example: p.calls for p in graph.further if p.inputs is None and not (p.training or p.tried)}
    with modules.watching(), _Rehearsal(modules, passes.get(example, graph.calls), kept, None):
        yield


def rehearse(
    model: nn.Module, graph: ChannelGraph, kept: Kept, example_input: Any, original: nn.Module
) -> tuple[LiteralSite, ...]:
    """Rehearse until no attribute is stale: setting one anew can make an expression that reads it stale."""
    flags = {m: m.training for m in model.modules()}
    cut = _Cut(model.eval(), graph, kept, examples_of(example_input))
    try:
        while True:
            before: dict[AttributePatch, object] = {}
            try:
                return _settled(cut, original, before)
            except StuckError:
                if not cut.computed - cut.left:
                    raise
                for patch, old in reversed(before.items()):
                    setattr(model.get_submodule(patch.module), patch.attribute, old)
                cut.left |= cut.computed  # then the expressions that read them are changed
    finally:
        for module, flag in flags.items():
            module.training = flag


def _settled(cut: _Cut, original: nn.Module, before: dict[AttributePatch, object]) -> tuple[LiteralSite, ...]:
    """The numbers in the code that are left when all attributes are set. ``before``: gets what those were."""
    applied: dict[AttributePatch, object] = {}
    while True:
        near = cut.found(p for p in cut.graph.passes if p.inputs is None)
        several = _several_sizes([s for _, stale in near for s in stale])
        if several:
            cut.crowded |= several
            continue
        attributes, literals = _sorted_out(cut.by_inputs([(p, cut.by_attribute(s)) for p, s in near]), applied)
        if not attributes:
            if any(literals) and (any(p.inputs is not None for p in cut.graph.passes) or _disagree(literals)):
                return told_apart(cut, original, near)
            return tuple(LiteralSite(*place[:5], values, place[5]) for place, values in _united(literals).items())
        made_by_forward = any(not hasattr(cut.model.get_submodule(p.module), p.attribute) for p in attributes)
        if made_by_forward or attributes.keys() <= applied.keys():
            site = next(s.site for _, stale in near for s in stale)
            raise StuckError("a number here must follow the widths, but can't be set anew", site)
        for patch, new in attributes.items():
            holder = cut.model.get_submodule(patch.module)
            old = getattr(holder, patch.attribute)
            before.setdefault(patch, old)
            setattr(holder, patch.attribute, patch.put(old, new))
        applied |= attributes


@dataclass
class _Cut:
    """A sliced network beside what the trace saw of the whole. ``crowded``: calls in which no size is left to torch.
    ``computed``: attributes from which expressions are computed, ``left``: those that can't be set for all of them.
    ``decided``: whether the data decide as they did in the trace."""

    model: nn.Module
    graph: ChannelGraph
    kept: Kept
    examples: Sequence[Any]
    crowded: set[Where] = field(default_factory=set)
    computed: set[AttributePatch] = field(default_factory=set)
    left: set[AttributePatch] = field(default_factory=set)
    decided: bool = False

    def by_attribute(self, found: Sequence[Stale]) -> list[Stale]:
        """With the attribute that an expression is computed from in place of the expression."""
        stale: list[Stale] = []
        for one in found:
            if one.source is not None and one.source[0] not in self.left:
                self.computed.add(one.source[0])
                one = replace(one, where=one.source[0], new=one.source[1])
            stale.append(one)
        return stale

    def found(self, passes: Iterable[Pass]) -> Found:
        """What is stale in each of these passes that counts anything."""
        return [(p, self.stale(p)) for p in passes if p.calls or p.steps or p == Pass()]

    def stale(self, how: Pass, frames: CallFrames | None = None) -> list[Stale]:
        """What is stale in one pass. Where it fails, the data may have decided something else than they did in the
        trace, as how many boxes are found: then this isn't decided anew."""
        if not self.decided:
            try:
                return self._stale(how, frames)
            except StuckError as error:
                went_on = not isinstance(error, OtherWayError) and error.__cause__ is None
                if not how.decided or went_on:
                    raise
            self.decided = True
        return self._stale(how, frames)

    def _stale(self, how: Pass, frames: CallFrames | None) -> list[Stale]:
        """A copy runs, but for the first example in eval mode."""
        model = self.model
        network = model if how == Pass() and how.inputs is None else copied(model).train(how.training)
        inputs, modules, found = inputs_of(how, self.examples), Modules(network), list[Stale]()
        rehearsal = _Rehearsal(modules, how.calls, self.kept, found, how.steps, self.crowded, frames)
        try:
            norms = _norms_that_fit(network, model if how.inputs is None else network)
            with norms, without_traces(network), retraced(how, modules, rehearsal, self.decided):
                run(network, *call_arguments(inputs))
            rehearsal.check()
        except SecateurError:
            raise
        except Exception as error:
            checks = outdated(error, network, modules)
            if checks:
                return checks
            shown = f"the pruned network does not run: {describe(error)}"
            raise StuckError(f"{type(error).__name__} with other widths", site_of(error), shown=shown) from error
        return found

    def by_inputs(self, found: Found) -> list[list[Stale]]:
        """What is stale in passes on the same inputs, together: a number that follows from sizes is the same in all."""
        lists: dict[tuple[int, int, int], list[Stale]] = {}
        for how, stale in found:
            key = how.example, id(how.inputs), batch_size(inputs_of(how, self.examples))
            lists.setdefault(key, []).extend(stale)
        return list(lists.values())


def told_apart(cut: _Cut, original: nn.Module, near: Found) -> tuple[LiteralSite, ...]:
    """The numbers to write, where the network ran on several inputs: a number that differs between them isn't written,
    only the factor in it that counts channels. ``near``: what is stale on the examples themselves."""
    far = cut.found(p for p in cut.graph.passes if p.inputs is not None)
    mixed = _differing(cut.by_inputs([*near, *far]))
    written: dict[tuple[Place, str], dict[str, object]] = {}
    for stale in (s for _, found in (*near, *far) for s in found):
        if not isinstance(stale.where, AttributePatch) and stale.where not in mixed:
            written.setdefault((stale.where, "{}"), {})[stale.module] = stale.new
    if mixed:
        before, after = [], []
        spots = {(s.call, s.up) for s in mixed.values() if s.call is not None}
        for how, _ in (*near, *far):
            before.append(CallFrames(spots).over(copied(original), how, inputs_of(how, cut.examples)))
            after.append(CallFrames(spots))
            cut.stale(how, after[-1])
        for place, stale in mixed.items():
            ran = samples(before, after, stale.call, stale.up, stale.leaf)
            for key, module, number in _everywhere(place, stale, ran, cut.graph, cut.kept):
                if written.setdefault(key, {}).setdefault(module, number) != number:
                    raise SharedNumberError("one number in the code counts two different widths here", stale.site)
    if len({place for place, _ in written}) < len(written):
        raise MixedNumberError(
            "a number in the code mixes channels with sizes in two ways", next(iter(mixed.values())).site
        )
    return tuple(LiteralSite(*p[:5], values, p[5], template) for (p, template), values in written.items())


def _differing(lists: Sequence[Sequence[Stale]]) -> dict[Place, Stale]:
    """Expressions that aren't the same number on every input, or that are it by chance, as ``max(c, h)`` may be."""
    numbers: dict[Place, list[dict[str, object]]] = {}
    first: dict[Place, Stale] = {}
    for place, found in enumerate(lists):
        for stale in found:
            if isinstance(stale.where, AttributePatch):
                raise MixedNumberError("an attribute that counts channels follows from sizes as well", stale.site)
            numbers.setdefault(stale.where, [{} for _ in lists])[place][stale.module] = stale.new
            first.setdefault(stale.where, stale)
    return {
        where: first[where]
        for where, values in numbers.items()
        if _disagree([{where: v} for v in values])
        or computed(first[where].leaf)
        or (any(v != values[0] for v in values) and named(first[where].leaf))
    }


def _everywhere(
    place: Place, stale: Stale, ran: Mapping[str, Sequence[Sample]], graph: ChannelGraph, kept: Kept
) -> Iterator[tuple[tuple[Place, str], str, object]]:
    """Where to write which number for each module: one that is right as it is needs its own beside the others'."""
    found = {module: _separated(place, stale, several, graph, kept) for module, several in ran.items()}
    if not found:
        raise MixedNumberError(f"a number here depends on sizes, and it can't be followed: {_shown(stale)}", stale.site)
    nodes = {_key(place, fix): fix.node for fixed in found.values() for fix in fixed}
    left = {_key(place, fix) for fixed in found.values() for fix in fixed if fix.number == -1}  # to torch, by all
    for module, fixed in found.items():
        numbers = {_key(place, fix): fix.number for fix in fixed}
        for key, node in nodes.items():
            number = numbers.get(key, -1 if key in left else agreed(node, ran[module]) if key[1] == "{}" else None)
            if number is None:
                raise MixedNumberError(
                    "a number in the code mixes channels with sizes in some modules only", stale.site
                )
            yield key, module, number


def _key(place: Place, fix: Fix) -> tuple[Place, str]:
    at = fix.node
    return (place[0], at.lineno, at.col_offset, at.end_lineno or 0, at.end_col_offset or 0, ""), fix.template


def _shown(stale: Stale) -> str:
    return "" if stale.leaf is None else ast.unparse(stale.leaf)


def _separated(
    place: Place, stale: Stale, several: Sequence[Sample], graph: ChannelGraph, kept: Kept
) -> list[Fix]:
    """What to write so that the expression is right on every input."""
    tree = tree_of(place[0])
    widths = [w.name for w in graph.widths if stale.leaf is not None and tree is not None
              and counted(stale.leaf, tree, several, w.size, np.size(kept.get(w.name, range(w.size))))]  # fmt: skip
    reason = f"a number here depends on channels and on sizes, and they can't be told apart: {_shown(stale)}"
    if stale.leaf is None or tree is None or not several or place[5]:
        raise MixedNumberError(reason, stale.site, widths)
    try:
        return fixes(stale.leaf, tree, several)
    except Unknown as error:
        raise MixedNumberError(reason, stale.site, widths) from error


def _several_sizes(found: list[Stale]) -> set[Where]:
    """Calls in which some runs leave a size to torch, and others another one or none: only one can be left out."""
    places: dict[Where, set[tuple[object, bool]]] = {}
    for stale in found:
        if stale.call is not None:
            left = -1 in stale.new if isinstance(stale.new, tuple) else stale.new == -1
            places.setdefault(stale.call, set()).add((stale.where, left))
    return {call for call, left in places.items() if len(left) > 1 and any(free for _, free in left)}


@contextmanager
def _norms_that_fit(network: nn.Module, model: nn.Module) -> Iterator[None]:
    """Norms that store nothing take their sizes from what they read, those of the model that was copied as well."""
    pairs, sizes = zip(network.modules(), model.modules(), strict=True), dict[nn.Module, dict[str, Any]]()
    hooks = [
        m.register_forward_pre_hook(partial(_fit_norm, {m, own}, sizes)) for m, own in pairs if _has_no_tensors(m)
    ]
    try:
        with hooked(hooks):
            yield
    finally:
        for norm, found in sizes.items():  # the run may have been made to leave no trace
            vars(norm).update(found)


def _has_no_tensors(module: nn.Module) -> bool:
    sized = (NormBase, nn.LayerNorm, nn.GroupNorm)
    return isinstance(module, sized) and not list(module.parameters()) and not list(module.buffers())


def _fit_norm(
    norms: Collection[Any], sizes: dict[nn.Module, dict[str, Any]], module: nn.Module, args: tuple[Any, ...]
) -> None:
    shape = args[0].shape
    for norm in norms:
        if isinstance(norm, nn.LayerNorm):
            found: dict[str, Any] = {"normalized_shape": tuple(shape[len(shape) - len(norm.normalized_shape) :])}
        elif isinstance(norm, nn.GroupNorm):
            alone = norm.num_groups == norm.num_channels
            found = {"num_channels": shape[1], "num_groups": shape[1] if alone else norm.num_groups}
        else:
            found = {"num_features": shape[1]}
        sizes[norm] = found
        vars(norm).update(found)


class _Rehearsal(FunctionMode):
    """Compares every counted call with the trace, notes stale numbers and corrects them for this run."""

    def __init__(
        self,
        modules: Modules,
        calls: tuple[CountedCall, ...],
        kept: Kept,
        found: list[Stale] | None,
        steps: Sequence[Step] = (),
        crowded: Collection[Where] = (),
        frames: CallFrames | None = None,
    ) -> None:
        super().__init__()
        self._crowded, self._frames = crowded, frames
        self._modules, self._kept, self._found = modules, kept, found
        self._calls = iter(calls)
        self._counting: dict[tuple[str, Where], set[Path]] = {}  # numbers of a call that count channels in some module
        for one in calls:
            self._counting.setdefault((one.name, (one.site, one.span)), set()).update(one.extents)
        self._steps, self._checks = iter(steps), bool(steps)
        self._data_left = False  # a number made of the data
        self._values: dict[tuple[str, Site, Span, Path], dict[float, list[str]]] = {}
        self._stale: dict[tuple[str, Site, Span, Path], Site] = {}
        self._noted: set[tuple[str, Site, Span, Path]] = set()
        self._places: dict[object, Stale] = {}  # the expression behind a call's number

    def called(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        kwargs = dict(kwargs)
        own = not in_stand_in()
        if func in SITE_RULES and own:
            args, kwargs = self._correct(func, args, kwargs)
        out = func(*args, **kwargs)
        self._data_left |= isinstance(out, (float, np.ndarray))
        if self._checks and own and isinstance(out, torch.Tensor):
            self._follow(name_of(func))
        return out

    def _follow(self, name: str) -> None:
        """The steps must be those of the trace: a condition on a size may have another outcome now."""
        site = author_site()
        wanted = next(self._steps, None)
        if wanted is not None and wanted != (name, site):
            way = f"{name} of line {site.line}, not {wanted[0]}"
            raise OtherWayError(f"a condition turns out otherwise with fewer channels ({way})", wanted[1])

    def _correct(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        site = author_site()
        call = next(self._calls, None)
        if call is None or (call.name, call.module, call.site) != (name_of(func), self._modules.current, site):
            raise OtherWayError(
                "the pruned network takes another way here; keep the layers before it with --skip", site
            )
        seen = self._frames.saw(self._modules, (site, call.span)) if self._frames is not None else None
        module = owner(author_frame(), self._modules)
        changes: dict[Path, float] = {}
        for path, extent in call.extents.items():
            now, value = said(func, args, kwargs, path), extent.count(self._kept)
            self._values.setdefault((module, site, call.span, path), {})[value] = [w for w, _ in extent.parts]
            if now != -1 and not isinstance(now, torch.Tensor) and now != value:
                changes[path] = value
        for path, number in call.constants.items():
            self._values.setdefault((module, site, call.span, path), {}).setdefault(number, [])
        for path in self._counting[call.name, (site, call.span)] - call.extents.keys():
            now = None  # of channels that all stay
            with suppress(LookupError, TypeError):  # not every call here has as many, nor in one tuple
                now = said(func, args, kwargs, path)
            if type(now) is int and now != -1:
                self._values.setdefault((module, site, call.span, path), {}).setdefault(now, [])
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
            raise TraceError(f"{call.module}: a size inside torch's own layer can't follow the widths")
        reflected = call.name.startswith("__r")
        for stale in resolve(frame, site, self._modules, reflected, (args, kwargs), fixed):
            free = call.name in {"view", "reshape"} and len(changes) == 1 and not _has_minus_one(args, kwargs)
            free &= not isinstance(stale.where, AttributePatch) and (site, call.span) not in self._crowded
            new = _left_out(stale.old, stale.new) if free else stale.new
            if seen is not None and stale.leaf is not None:
                seen.wanted[stale.leaf] = new
            if not free:
                self._stale |= {(module, site, call.span, path): site for path in changes}
            counted = [w for p, v in changes.items() if p in call.extents and _holds(stale.new, v)
                       for w, _ in call.extents[p].parts]  # fmt: skip
            owners = [p for p, v in changes.items() if not free and v == stale.new]
            if len(owners) == 1 and stale.module == module and not isinstance(stale.where, AttributePatch):
                self._places[site, call.span, owners[0]] = stale
            self._found.append(replace(stale, new=new, widths=tuple(counted), call=(site, call.span)))
            self._noted |= {(module, site, call.span, path) for path in changes}
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
                raise SharedNumberError(
                    "one number in the code counts two different widths here", site, widths, alike=True
                )


def _left_out(old: object, new: object) -> object:
    """What torch is to find itself."""
    if isinstance(old, (tuple, list)) and isinstance(new, (tuple, list)):
        return tuple(n if o == n else -1 for o, n in zip(old, new, strict=True))
    return -1


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


Literals = dict[Place, dict[str, object]]  # with a value for each module


def _sorted_out(
    lists: Sequence[Sequence[Stale]], applied: Mapping[AttributePatch, object]
) -> tuple[dict[AttributePatch, object], list[Literals]]:
    """Attributes to set anew, and the other stale expressions, for each of the inputs."""
    attributes: dict[AttributePatch, object] = {}
    literals: list[Literals] = [{} for _ in lists]
    first: dict[object, Stale] = {}
    for number, stale in ((n, s) for n, found in enumerate(lists) for s in found):
        if isinstance(stale.where, AttributePatch):
            before = applied.get(stale.where, attributes.setdefault(stale.where, stale.new))
        else:
            before = literals[number].setdefault(stale.where, {}).setdefault(stale.module, stale.new)
        other = first.setdefault((stale.where, stale.module), stale)
        if before != stale.new:
            widths = (*other.widths, *stale.widths)
            raise SharedNumberError(
                "one number in the code counts two different widths here", stale.site, widths, alike=True
            )
    return attributes, literals


def _united(literals: Iterable[Literals]) -> Literals:
    found: Literals = {}
    for one in literals:
        for place, values in one.items():
            found[place] = {**values, **found.get(place, {})}
    return found


def _disagree(literals: Sequence[Literals]) -> bool:
    """Whether a number is another one on other inputs."""
    united = _united(literals)
    return any(united[place][m] != v for one in literals for place, values in one.items() for m, v in values.items())
