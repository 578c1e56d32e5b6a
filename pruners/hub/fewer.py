"""A configuration that counts fewer layers."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterator, Mapping, Set
from itertools import islice, product
from typing import Any

from .entries import Path, Shapes, ShapesOf, changed, numbers_in

_TRIALS = 64
Gone = Mapping[str, tuple[int, Set[int]]]
"""Of each list of layers, by its path: how many it holds, and the places of those that go."""
Completed = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""A configuration's values -> all that the library makes of them; empty where it can't."""


def fewer_layers(
    values: Mapping[str, Any], gone: Gone, wanted: Shapes, shapes_of: ShapesOf, completed: Completed
) -> dict[str, Any] | None:
    """The values with which the library makes the tensors ``wanted``, or None. What they list of every layer, such as
    ``layer_types``, loses the places of those that go: lists that the library makes shorter itself (``completed``), or
    else all of that length; or lists that it makes of the rest, such as names of stages, are left to it."""
    whole = [p for p, value in numbers_in(values) if value is not None]
    counting = [[p for p in whole if _at(values, p) == count] for count, _ in gone.values()]
    for paths in islice(product(*counting), _TRIALS):
        if len(set(paths)) < len(paths):
            continue
        left = {p: count - len(places) for p, (count, places) in zip(paths, gone.values(), strict=True)}
        for told in _told(values, gone.values(), left, completed):
            found = changed(told, left)
            if shapes_of(found) == wanted:
                return found
    return None


def _told(
    values: Mapping[str, Any], gone: Collection[tuple[int, Set[int]]], left: Mapping[Path, int], completed: Completed
) -> Iterator[dict[str, Any]]:
    counted = {path[0] for path in left}
    lists = {name: v for name, v in values.items() if isinstance(v, (list, tuple)) and name not in counted}
    long = [name for name, listed in lists.items() if len(listed) in [n for n, _ in gone]]
    made = completed(_but(changed(values, left), long))
    following = [n for n in long if isinstance(made.get(n), (list, tuple)) and len(made[n]) != len(lists[n])]
    for chosen in (following, [], list(lists)):
        found = copy.deepcopy(dict(values))
        for name in chosen:
            places = next((p for n, p in gone if n == len(lists[name])), frozenset[int]())
            found[name] = [v for n, v in enumerate(lists[name]) if n not in places]
        yield found
    yield _but(copy.deepcopy(dict(values)), [n for n, v in lists.items() if completed(_but(values, [n])).get(n) == v])


def _but(values: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in names}


def _at(values: Any, path: Path) -> Any:
    for part in path:
        values = values[part]
    return values
