"""Arguments that follow from others: the author's ``padding = (kernel_size - 1) // 2`` is no parameter."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

from ..author import Scope, Vector
from ..live import Lit, same
from ..text import loaded_names, renamed
from .context import ClassContext


class Idioms:
    """Finds, in the functions that made a class's modules, the assignment that computes an argument."""

    def __init__(self, context: ClassContext) -> None:
        self._assigned: dict[str, list[ast.expr]] = {}
        for place in dict.fromkeys(_functions(context)):
            found = context.tree.sources.function(*place)
            for node in ast.walk(found[1]) if found is not None else ():
                if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
                    self._assigned.setdefault(node.targets[0].id, []).append(node.value)

    def expression(self, name: str, argument: str, vector: Vector, scope: Scope) -> ast.expr | None:
        """The author's expression for a parameter ``name``, in other names that text may use, if it gives every
        instance's value. ``argument``: what the author calls it.

        A value that is the same everywhere needs no expression, and would prove none.
        """
        values = [t for t in vector if isinstance(t, Lit)]
        if all(same(t, values[0]) for t in values):
            return None
        for expr in self._assigned.get(argument, ()):
            short = _shortened(expr, scope)
            read = loaded_names(short)
            if name in read or _leftover(short):
                continue
            if read & set(scope.words) and scope.proves(short, enumerate(vector)):
                return short
        return None


def in_other_words(hint: ast.expr | None, vector: Vector, names: Iterable[str], scope: Scope) -> ast.expr | None:
    """The author's expression with another width in the place of one, ``2 * left_channels`` for ``2 * out_channels``,
    if it gives every instance's value; where they all have one value it would prove nothing."""
    values = [t for t in vector if t is not None]
    if hint is None or isinstance(hint, ast.Name) or all(same(t, values[0]) for t in values):
        return None
    short = _shortened(hint, scope)
    tried = (ast.parse(renamed(ast.unparse(short), {gone: name}), mode="eval").body
             for gone in sorted(loaded_names(short)) for name in names)  # fmt: skip
    return next((e for e in tried if not _leftover(e) and scope.proves(e, enumerate(vector))), None)


def _leftover(expr: ast.expr) -> bool:
    """Whether numbers are left to compute with each other, as in ``int(planes * (64 / 64.0))``: a name says more."""
    sums = [n for n in ast.walk(expr) if isinstance(n, ast.BinOp)]
    return any(isinstance(n.left, ast.Constant) and isinstance(n.right, ast.Constant) for n in sums)


def _functions(context: ClassContext) -> Iterator[tuple[str, str, int]]:
    """The functions that ran between an instance's constructor and the making of its modules."""
    owners = [b.module for b in context.births if b is not None]
    for birth in context.tree.births.values():
        depth = max((d for o in owners[:1] if (d := birth.made_by(o)) is not None), default=-1)
        for frame in birth.frames[: depth + 1]:
            yield frame.file, frame.function, frame.first_line


def _shortened(expr: ast.expr, scope: Scope) -> ast.expr:
    """Names that are the same number everywhere as that number, and without factors of one."""
    return _Shorter(scope).visit(ast.parse(ast.unparse(expr), mode="eval").body)


class _Shorter(ast.NodeTransformer):
    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    def visit_Name(self, node: ast.Name) -> ast.expr:
        vector = self._scope.hidden.get(node.id) if node.id not in self._scope.words else None
        first = vector[0] if vector else None
        if vector and isinstance(first, Lit) and type(first.value) is int and all(t == first for t in vector):
            return ast.Constant(first.value)
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        left, right = self.visit(node.left), self.visit(node.right)
        if isinstance(node.op, ast.Mult | ast.FloorDiv) and _is_one(right):
            return left
        if isinstance(node.op, ast.Mult) and _is_one(left):
            return right
        return ast.BinOp(left, node.op, right)


def _is_one(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) is int and node.value == 1
