"""Which parameter each number in an optimizer's state_dict stands for, where parameters were given in several groups.

The state numbers parameters by groups, and seldom says their names. Parameters of a group are in the network's order,
as who makes groups walks through the network; then shapes tell which is in which, or one of the usual ways to make
groups does. What several readings fit is refused.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from .errors import CheckpointError, WeightsMismatchError
from .run import NormBase

Shape = tuple[int, ...]
Slots = list[list[Shape | None]]
"""For each group the shapes of its parameters; None where the state tells nothing of one."""

_NORMS = (NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
_MANY = 10_000
_PREFIXES = 3


def parameter_names(optimizer: Mapping[str, Any], model: nn.Module) -> list[str]:
    """The names of the parameters, one group after the other. Raises CheckpointError where that isn't sure."""
    groups, state = _parts(optimizer)
    named = dict(model.named_parameters())
    if all("param_names" in group for group in groups):
        return _told(groups, named)
    total = sum(len(group["params"]) for group in groups)
    trained = {n: p for n, p in named.items() if p.requires_grad}
    found = trained if total == len(trained) else named
    if total != len(found):
        raise WeightsMismatchError(f"the optimizer's state is of {total} parameters, the network has {len(named)}")
    groups = [group for group in groups if group["params"]]
    if len(groups) == 1:
        return list(found)
    slots = [[_shape(state.get(number)) for number in group["params"]] for group in groups]
    shapes = {name: tuple(p.shape) for name, p in found.items()}
    order = _only_filling(shapes, slots) or _usual(model, shapes, slots)
    if order is None:
        raise WeightsMismatchError(
            f"it has {len(groups)} groups of parameters, and which parameter is in which is not sure; make the "
            "optimizer with names (model.named_parameters() instead of model.parameters()), and its state tells them"
        )
    return order


def _parts(optimizer: Mapping[str, Any]) -> tuple[list[Mapping[str, Any]], Mapping[Any, Any]]:
    groups, state = optimizer.get("param_groups"), optimizer.get("state")
    well = isinstance(groups, list) and groups and isinstance(state, Mapping)
    if not well or not all(isinstance(g, Mapping) and isinstance(g.get("params"), list) for g in groups or ()):
        raise CheckpointError("it is no state_dict of an optimizer (param_groups and state)")
    assert groups is not None and state is not None
    return groups, state


def _told(groups: Sequence[Mapping[str, Any]], named: Mapping[str, Any]) -> list[str]:
    """Names as the optimizer noted them, perhaps with what a wrapper put in front."""
    told = [str(name) for group in groups for name in group["param_names"]]
    for skipped in range(_PREFIXES + 1):
        names = [".".join(name.split(".")[skipped:]) for name in told]
        if {*names} <= {*named}:
            return names
    strange = next(name for name in told if name not in named)
    raise WeightsMismatchError(f"its parameter {strange} is none of the network's")


def _shape(entries: Any) -> Shape | None:
    tensors = [v for v in entries.values() if isinstance(v, Tensor) and v.ndim] if isinstance(entries, Mapping) else []
    return tuple(tensors[0].shape) if tensors else None


def _only_filling(shapes: Mapping[str, Shape], slots: Slots) -> list[str] | None:
    """The only way in which parameters, each group's in the network's order, fill the groups; None if there are more,
    or none."""
    # how many of each group are filled -> the ways to get there (two are as bad as more), and the group of the last
    steps: list[dict[tuple[int, ...], tuple[int, int]]] = [{(0,) * len(slots): (1, -1)}]
    for shape in shapes.values():
        found: dict[tuple[int, ...], tuple[int, int]] = {}
        for filled, (ways, _) in steps[-1].items():
            for group, slot in enumerate(slots):
                if filled[group] < len(slot) and slot[filled[group]] in (shape, None):
                    more = (*filled[:group], filled[group] + 1, *filled[group + 1 :])
                    found[more] = (min(2, ways + found.get(more, (0, 0))[0]), group)
        if len(found) > _MANY:
            return None
        steps.append(found)
    at = tuple(map(len, slots))
    if steps[-1].get(at, (0, 0))[0] != 1:
        return None
    parts: list[list[str]] = [[] for _ in slots]
    for name, step in zip(reversed(list(shapes)), reversed(steps), strict=False):
        group = step[at][1]
        parts[group].insert(0, name)
        at = (*at[:group], at[group] - 1, *at[group + 1 :])
    return [*itertools.chain(*parts)]


def _usual(model: nn.Module, shapes: Mapping[str, Shape], slots: Slots) -> list[str] | None:
    """The only one of the usual ways to make groups that fits."""
    fitting = {
        tuple(itertools.chain(*parts))
        for parts in _ways(model, shapes, slots)
        if [len(part) for part in parts] == [len(slot) for slot in slots]
        and all(
            asked in (shapes[name], None)
            for part, slot in zip(parts, slots, strict=True)
            for name, asked in zip(part, slot, strict=True)
        )
    }
    return [*fitting.pop()] if len(fitting) == 1 else None


def _ways(model: nn.Module, shapes: Mapping[str, Shape], slots: Slots) -> Iterator[Sequence[list[str]]]:
    """The network in pieces, one after the other; and weights apart from biases, from those of norms, or from both."""
    orders = itertools.permutations(range(len(slots))) if len(slots) < 5 else iter([tuple(range(len(slots)))])
    for order in orders:  # which piece comes when
        names = iter(shapes)
        pieces = {group: [*itertools.islice(names, len(slots[group]))] for group in order}
        yield [pieces[group] for group in range(len(slots))]
    norms = {
        f"{path}.{name}".lstrip(".")
        for path, module in model.named_modules() if isinstance(module, _NORMS) for name, _ in module.named_parameters()
    }  # fmt: skip
    apart: list[Callable[[str], int]] = [
        lambda n: len(shapes[n]) <= 1,
        lambda n: n.endswith("bias"),
        lambda n: n in norms,
        lambda n: n in norms or n.endswith("bias"),
        lambda n: 2 if n.endswith("bias") else int(n in norms),
    ]
    for number in apart:
        parts = [[n for n in shapes if number(n) == i] for i in range(3)]
        yield from itertools.permutations([part for part in parts if part])
