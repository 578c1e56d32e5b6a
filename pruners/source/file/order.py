"""In what order definitions stand: what runs while the file is imported finds its names already there."""

from __future__ import annotations

import ast
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TypeVar

import networkx as nx

from ..text import FunctionNode, arguments_of, defaults_of

Item = TypeVar("Item", bound=Hashable)


@dataclass(frozen=True)
class AtOnce:
    """Names, dots included, that a piece of code reads while it is imported, and those of them that it calls."""

    read: Set[str]
    called: Set[str]


def at_once(text: str, notes: bool) -> AtOnce:
    """``notes``: whether annotations are looked at then, too."""
    read: set[str] = set()
    called: set[str] = set()
    for node in _running(ast.parse(text).body, notes):
        read |= _names(node)
        if isinstance(node, ast.Call):
            called |= _names(node.func)
        elif isinstance(node, FunctionNode | ast.ClassDef):
            called |= {n for d in node.decorator_list for n in _names(d)}
    return AtOnce(frozenset(read), frozenset(called))


def _names(node: ast.AST) -> set[str]:
    if isinstance(node, ast.Name):
        return {node.id}
    return {ast.unparse(node)} | _names(node.value) if isinstance(node, ast.Attribute) else set()


def _running(body: Iterable[ast.AST], notes: bool) -> Iterator[ast.AST]:
    """All nodes that run where these stand: not the bodies of functions."""
    for node in body:
        yield node
        if isinstance(node, FunctionNode | ast.Lambda):
            yield from _running(_of_function(node, notes), notes)
        elif isinstance(node, ast.AnnAssign) and not notes:
            yield from _running([n for n in (node.target, node.value) if n is not None], notes)
        else:
            yield from _running(ast.iter_child_nodes(node), notes)


def _of_function(node: FunctionNode | ast.Lambda, notes: bool) -> list[ast.AST]:
    found: list[ast.AST] = [d for d in defaults_of(node).values() if d is not None]
    if isinstance(node, ast.Lambda):
        return found
    said = [*(a.annotation for a in arguments_of(node)), node.returns] if notes else []
    return [*node.decorator_list, *found, *(n for n in said if n is not None)]


def in_order(
    wanted: Sequence[Item], first: Mapping[Item, Set[Item]], called: Mapping[Item, Set[Item]],
    uses: Mapping[Item, Set[Item]],
) -> list[Item]:  # fmt: skip
    """The items as they stand in ``wanted``, but each behind those it needs at once.

    ``first``: what an item reads at once; ``called``: what it calls at once, which needs all that it ``uses`` then.
    """
    found: dict[Item, None] = {}
    begun: set[Item] = set()
    place = {item: n for n, item in enumerate(wanted)}
    graph = nx.DiGraph((user, item) for user, items in uses.items() for item in items)

    def put(item: Item) -> None:
        if item in begun:
            return
        begun.add(item)
        behind = called.get(item, frozenset())
        needs = {*first.get(item, ()), *behind}.union(*(nx.descendants(graph, b) for b in behind if b in graph))
        for need in sorted(needs & place.keys(), key=place.__getitem__):
            put(need)
        found[item] = None

    for item in wanted:
        put(item)
    return list(found)
