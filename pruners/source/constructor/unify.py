"""How terms of several instances join: where they differ the common term has holes."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace

from torch import nn

from ..live import Box, Call, Closure, Either, Hole, Item, Lit, Term, same
from .context import ClassContext, merge


def unify(terms: Sequence[Term | None], where: tuple[str, ...], context: ClassContext) -> Term:
    """The most specific term that all ``terms`` are instances of; where they differ it has a ``Hole``.

    ``terms`` has one place per instance of the class, None where the instance has nothing there. Modules that were
    made elsewhere and handed to the constructor stay whole.
    """
    present = [t for t in terms if t is not None]
    first = present[0]
    handed = any(p is not None and context.passed_in(p) for t in present if isinstance(t, Call | Box) for p in t.paths)
    if isinstance(first, Closure):
        return _unify_closures(terms, first, where, context)
    if not handed and isinstance(first, Call) and all(isinstance(t, Call) and _alike(first, t) for t in present):
        return _unify_calls(terms, first, where, context)
    if not handed and isinstance(first, Box) and all(isinstance(t, Box) and t.fn is first.fn for t in present):
        return _unify_boxes(terms, first, where, context)
    if not handed and all(same(first, t) for t in present):
        return first
    chosen = None if handed else _chosen(terms, where, context)
    return chosen or Hole(tuple(terms), where)


def _chosen(terms: Sequence[Term | None], where: tuple[str, ...], context: ClassContext) -> Either | None:
    """Modules of which some were made by one side of a conditional expression and some by the other, or None there."""
    if not all(t is None or isinstance(t, Lit) or (isinstance(t, Call | Box) and t.paths) for t in terms):
        return None
    found = context.chosen(terms)
    if found is None:
        return None
    node, sides = found
    yes, no = ([t if s is side else None for t, s in zip(terms, sides, strict=True)] for side in (True, False))
    return Either(node, sides, unify(yes, where, context), unify(no, where, context))


def _alike(first: Call, second: Call) -> bool:
    return first.fn is second.fn and [a.name for a in first.args] == [a.name for a in second.args]


def _unify_calls(terms: Sequence[Term | None], first: Call, where: tuple[str, ...], context: ClassContext) -> Call:
    args = []
    for i, arg in enumerate(first.args):
        column = [t.args[i] if isinstance(t, Call) else None for t in terms]
        value = unify([a.value if a is not None else None for a in column], (*where, arg.name), context)
        show = any(a.show for a in column if a is not None)
        if arg.width and isinstance(value, Hole):
            value = replace(value, width=True)
        args.append(replace(arg, value=value, show=show))
    return Call(first.fn, tuple(args), _paths(terms))


def _unify_closures(
    terms: Sequence[Term | None], first: Closure, where: tuple[str, ...], context: ClassContext
) -> Term:
    """One function with other numbers in every instance; whole where it was handed to the constructor."""
    mine = first.node, first.exprs, first.templates
    alike = all(t is None or (isinstance(t, Closure) and (t.node, t.exprs, t.templates) == mine) for t in terms)
    if context.took(first.code) or not alike:
        return Hole(tuple(terms), where)
    args = []
    for i, arg in enumerate(first.args):
        column = [t.args[i].value if isinstance(t, Closure) else None for t in terms]
        args.append(replace(arg, value=unify(column, (*where[:1], arg.name), context)))
    return replace(first, args=tuple(args))


def _paths(terms: Sequence[Term | None]) -> tuple[str | None, ...]:
    return tuple(t.paths[0] if isinstance(t, Call | Box) and t.paths else None for t in terms)


def _unify_boxes(terms: Sequence[Term | None], first: Box, where: tuple[str, ...], context: ClassContext) -> Term:
    boxes = [t if isinstance(t, Box) else None for t in terms]
    shapes = [[(i.name, _head(i.value)) for i in b.items] for b in boxes if b is not None]
    alike = all(s == shapes[0] for s in shapes)
    if not alike and (chosen := _chosen(terms, where, context)) is not None:
        return chosen
    if all([n for n, _ in s] == [n for n, _ in shapes[0]] for s in shapes):
        columns = [[b.items[k].value if b else None for b in boxes] for k in range(len(first.items))]
        values = [unify(column, (*where, i.name), context) for i, column in zip(first.items, columns, strict=True)]
        heads = [len({_head(t) for t in column if t is not None}) for column in columns]
        if alike or all(n == 1 or isinstance(v, Either) for n, v in zip(heads, values, strict=True)):
            items = [Item(i.name, v) for i, v in zip(first.items, values, strict=True)]
            return Box(first.fn, tuple(items), _paths(terms))
    rows_ = _aligned(boxes, context) if len(where) == 1 and issubclass(first.fn, nn.Sequential) else None
    if rows_ is None:
        return Hole(tuple(terms), where)
    items = []
    for k, column in enumerate(rows_):
        present = tuple(t is not None or b is None for t, b in zip(column, boxes, strict=True))
        items.append(Item(str(k), unify(column, (*where, str(k)), context), None if all(present) else present))
    return Box(first.fn, tuple(items), _paths(terms))


def _head(term: Term) -> object:
    return term.fn if isinstance(term, Call | Box) else type(term)


def _aligned(boxes: Sequence[Box | None], context: ClassContext) -> list[list[Term | None]] | None:
    """Elements of sequences of different lengths side by side: those that the same call of the author made.

    None if that is unknown, if a loop made several, or if no common order exists.
    """
    order: list[Hashable] = []
    found: list[dict[Hashable, Term]] = []
    for box in boxes:
        keys = [_made_at(i.value, context) for i in box.items] if box else []
        if (
            None in keys
            or len(set(keys)) < len(keys)
            or any(not i.name.isdecimal() for i in (box.items if box else ()))
        ):
            return None
        found.append(dict(zip(keys, (i.value for i in box.items), strict=True)) if box else {})
        if not merge(order, keys):
            return None
    return [[f.get(key) for f in found] for key in order]


def _made_at(term: Term, context: ClassContext) -> Hashable | None:
    paths = [p for p in term.paths if p is not None] if isinstance(term, Call | Box) else []
    return context.made_at(paths[0]) if paths else None
