"""Numbers that mix channels with sizes: ``x / (c * h * w)``. What counts channels is replaced, the rest stays.

An expression is held against several runs, on inputs of other batches and sizes, of the original and of the pruned
network. A part of it that is the same number in all of them may be written as a number; no other.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from .evaluate import Env, Unknown, evaluate, is_size

_OPERANDS = (ast.BinOp, ast.UnaryOp, ast.Starred, ast.Attribute, ast.Compare, ast.BoolOp, ast.Await)


@dataclass(frozen=True)
class Sample:
    """One time that an expression ran: the frame in the original and in the pruned network, and what it should give."""

    before: Env
    after: Env
    wanted: Any


@dataclass(frozen=True)
class Fix:
    """Text that takes the place of an expression, with ``{}`` for the number."""

    node: ast.expr
    template: str
    number: object


def fixes(leaf: ast.expr, tree: ast.Module, samples: Sequence[Sample]) -> list[Fix]:
    """What to write so that the expression gives in every sample what it should. Raises Unknown where channels can't
    be told from sizes."""
    mender = _Mender(tree, samples)
    new = mender.mended(leaf, [s.wanted for s in samples])
    if not _same(mender.after(new), [s.wanted for s in samples]):
        raise Unknown("not the same at another size")
    return [replace(f, template=_enclosed(f, tree)) for f in mender.found.values()]


def agreed(node: ast.expr, samples: Sequence[Sample]) -> object | None:
    """The number that an expression of the pruned network is, if it is one number in every sample."""
    try:
        values = [evaluate(node, s.after) for s in samples]
    except Unknown:
        return None
    return values[0] if is_size(values[0]) and _same(values, [values[0]] * len(values)) else None


def computed(leaf: ast.expr | None) -> bool:
    """Whether an expression computes with what it reads: then a part of it may follow from sizes."""
    return leaf is not None and named(leaf) and any(True for _ in _parts(leaf))


def named(leaf: ast.expr | None) -> bool:
    """Whether an expression reads anything."""
    return leaf is not None and any(isinstance(n, (ast.Name, ast.Attribute)) for n in ast.walk(leaf))


def counted(leaf: ast.expr, tree: ast.Module, samples: Sequence[Sample], old: int, new: int) -> bool:
    """Whether a part of the expression was ``old`` and is ``new`` now, as a width that it counts."""
    for part in _with_definitions(leaf, tree):
        for sample in samples:
            try:
                before, after = (_sizes(evaluate(part, env)) for env in (sample.before, sample.after))
            except Unknown:
                continue
            if old != new and (old, new) in zip(before, after, strict=False):
                return True
    return False


def _with_definitions(leaf: ast.expr, tree: ast.Module) -> list[ast.expr]:
    found = [n for n in ast.walk(leaf) if isinstance(n, ast.expr)]
    names: set[str] = set()
    for node in found:  # grows on the way
        if isinstance(node, ast.Name) and node.id not in names:
            names.add(node.id)
            try:
                found += [n for n in ast.walk(definition(node, tree)[0]) if isinstance(n, ast.expr)]
            except Unknown:
                continue
    return found


def _sizes(value: Any) -> tuple[Any, ...]:
    shape = getattr(value, "shape", value)
    return tuple(shape) if isinstance(shape, (tuple, list)) else (shape,) if is_size(shape) else ()


class _Mender:
    def __init__(self, tree: ast.Module, samples: Sequence[Sample]) -> None:
        self.tree, self.samples = tree, samples
        self.found: dict[str, Fix] = {}  # by the name that stands for its number

    def after(self, node: ast.expr, given: Mapping[ast.expr, Any] | None = None) -> list[Any]:
        """What the expression comes to in the pruned network, in every sample."""
        numbers = {name: fix.number for name, fix in self.found.items()}
        return [evaluate(node, Env({**s.after.names, **numbers}, s.after.outer, given or {})) for s in self.samples]

    def before(self, node: ast.expr) -> list[Any]:
        return [evaluate(node, s.before) for s in self.samples]

    def mended(self, node: ast.expr, wanted: Sequence[Any]) -> ast.expr:
        """The expression with other parts, which gives what is wanted."""
        try:
            now = self.after(node)
        except Unknown:
            now = None
        if now is not None and _same(now, wanted):
            return node
        if all(_equal(w, wanted[0]) for w in wanted) and is_size(wanted[0]) and not self._varies(node):
            return self._written(node, "{}", wanted[0])
        if isinstance(node, ast.Name):
            return self._defined(node, wanted)
        if now is not None and all(isinstance(v, (tuple, list)) for v in (*now, *wanted)):
            if listed := _listed(node):
                return _rebuilt(node, {listed: self.mended(listed, wanted)})
            return self._shape(node, now, wanted)
        if not _same(self.before(node), wanted):
            return self._scaled(node, wanted)
        shape = _shape_counted(node)
        return self._in_parts(node) if shape is None else self._elements(node, shape)

    def _varies(self, node: ast.expr) -> bool:
        """Whether a part of the expression follows from sizes, though the whole doesn't show it."""
        parts = list(_parts(node))
        if isinstance(node, ast.Name):
            try:
                parts = [definition(node, self.tree)[0]]
                if _is_one_size(parts[0]) and not self._is_still(node, parts[0]):
                    return False  # nothing computed could hide a size; the tensor's name stands for another one now
            except Unknown:
                return False
        for part in parts:
            try:
                values = self.after(part)
            except Unknown:
                continue
            if (is_size(values[0]) and not _same(values, [values[0]] * len(values))) or self._varies(part):
                return True
        return False

    def _is_still(self, name: ast.Name, value: ast.expr) -> bool:
        """Whether what was assigned to a name gives what the name stands for."""
        return _same(self.after(value), self.after(name)) and _same(self.before(value), self.before(name))

    def _written(self, node: ast.expr, template: str, number: object) -> ast.expr:
        name = f"_number_{len(self.found)}_"
        self.found[name] = Fix(node, template, number)
        return ast.parse(template.replace("{}", name), mode="eval").body

    # -- a name stands for what it was assigned

    def _defined(self, node: ast.Name, wanted: Sequence[Any]) -> ast.expr:
        value, uses = definition(node, self.tree)
        if not self._is_still(node, value):
            raise Unknown(f"{node.id} was assigned what is no more")
        outer = dict(self.found)
        new = self.mended(value, wanted)
        if uses == 1 and hasattr(value, "lineno"):
            return new
        mine = [name for name in self.found if name not in outer]
        if len(mine) != 1:
            raise Unknown("several numbers")
        number = self.found[mine[0]].number
        self.found = outer
        return self._written(node, ast.unparse(new).replace(mine[0], "{}"), number)

    # -- a number that must stay what it was

    def _in_parts(self, node: ast.expr) -> ast.expr:
        """Every part that is stale becomes what it was in the original."""
        parts = list(_parts(node))
        if not parts:
            raise Unknown(ast.unparse(node))
        return _rebuilt(node, {part: self.mended(part, self.before(part)) for part in parts})

    def _elements(self, node: ast.expr, shape: ast.expr) -> ast.expr:
        """A number of elements: ``x.numel()`` becomes a product of sizes, with a number for the channels."""
        old, new = self.before(shape), self.after(shape)
        stale = _stale_axes(new, old)
        number = 1
        for axis in stale:
            number *= _agreed([o[axis] for o in old])
        base, first = _base(shape)
        rest = [f"{base}[{first + axis}]" for axis in range(len(old[0])) if axis not in stale]
        function = ast.unparse(node.func) if isinstance(node, ast.Call) and node.args else ""
        if function and stale == [0] and len(rest) > 1:
            rest = [f"{function}({base}[{first + 1}:])"]
        before = [r for axis, r in zip(_others(stale, len(old[0])), rest, strict=False) if axis < stale[0]]
        return self._written(node, " * ".join([*before, "{}", *rest[len(before) :]]), number)

    # -- a tuple of sizes

    def _shape(self, node: ast.expr, now: Sequence[Any], wanted: Sequence[Any]) -> ast.expr:
        """``x.shape`` becomes ``(x.shape[0], 8, *x.shape[2:])``."""
        stale = _stale_axes(now, wanted)
        if len(stale) != 1:
            raise Unknown("several sizes")
        axis, length = stale[0], len(now[0])
        number = _agreed([w[axis] for w in wanted])
        base, first = _base(node)
        lead = _slice(base, first, axis)
        rest = _slice(base, first + axis + 1, length - axis - 1, last=True)
        inside = ", ".join([*lead, "{}", *rest])
        return self._written(node, f"({inside},)" if length == 1 else f"({inside})", number)

    # -- a number that counts channels

    def _scaled(self, node: ast.expr, wanted: Sequence[Any]) -> ast.expr:
        """A product of which one factor counts other channels: ``self.width * h * w``."""
        now = self.after(node)
        if not all(is_size(v) and not isinstance(v, tuple) and v for v in (*now, *wanted)):
            raise Unknown(ast.unparse(node))
        for part in self._constant_parts(node):
            value = self.after(part)[0]
            number = _whole(value * wanted[0], now[0])
            if number is not None and _same(self.after(node, {part: number}), wanted):
                return _rebuilt(node, {part: self._written(part, "{}", number)})
        for part in _parts(node):
            try:
                values = self.after(part)
            except Unknown:
                continue
            whole = [_whole(v * w, n) if type(v) is int else None for v, w, n in zip(values, wanted, now, strict=True)]
            tried = [replace(s.after, given={part: w}) for s, w in zip(self.samples, whole, strict=True)]
            if None not in whole and _same([evaluate(node, env) for env in tried], wanted):
                return _rebuilt(node, {part: self.mended(part, whole)})
        raise Unknown(ast.unparse(node))

    def _constant_parts(self, node: ast.expr) -> list[ast.expr]:
        """The whole numbers in an expression that no size reaches; first those that pruning changed."""
        found = []
        for part in ast.walk(node):
            if part is node or not isinstance(part, ast.expr):
                continue
            try:
                new, old = self.after(part), self.before(part)
            except Unknown:
                continue
            if type(new[0]) is int and all(_equal(v, new[0]) for v in new):
                changed, named = not _same(old, new), isinstance(part, (ast.Name, ast.Attribute))
                found.append(((changed, named, new[0]), part))
        return [part for _, part in sorted(found, key=lambda f: f[0], reverse=True)]


def _whole(product: int, divisor: int) -> int | None:
    return product // divisor if divisor and product % divisor == 0 else None


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, (tuple, list)) and isinstance(b, (tuple, list)):
        return len(a) == len(b) and all(map(_equal, a, b))
    return type(a) in (int, float) and type(b) in (int, float) and a == b


def _same(first: Sequence[Any], second: Sequence[Any]) -> bool:
    return len(first) == len(second) and all(map(_equal, first, second))


def _agreed(values: Sequence[Any]) -> Any:
    if any(v != values[0] for v in values):
        raise Unknown("differs between sizes")
    return values[0]


def _others(axes: Sequence[int], length: int) -> list[int]:
    return [axis for axis in range(length) if axis not in axes]


def _stale_axes(now: Sequence[Any], wanted: Sequence[Any]) -> list[int]:
    lengths = {len(v) for v in (*now, *wanted)}
    if len(lengths) != 1:
        raise Unknown("another number of axes")
    return [a for a in range(lengths.pop()) if any(n[a] != w[a] for n, w in zip(now, wanted, strict=True))]


# -- expressions


def _parts(node: ast.expr) -> Iterator[ast.expr]:
    """The numbers that an expression is computed from."""
    match node:
        case ast.BinOp():
            yield from (node.left, node.right)
        case ast.UnaryOp():
            yield node.operand
        case ast.Call():
            yield from (a.value if isinstance(a, ast.Starred) else a for a in node.args)
        case ast.Tuple() | ast.List():
            yield from (e.value if isinstance(e, ast.Starred) else e for e in node.elts)
        case ast.Starred():
            yield node.value


def _rebuilt(node: Any, new: Mapping[ast.AST, ast.AST]) -> Any:
    """The expression with other parts; what stays is not copied."""
    if node in new:
        return new[node]
    made = copy.copy(node)
    for name, value in ast.iter_fields(node):
        if isinstance(value, ast.AST):
            setattr(made, name, _rebuilt(value, new))
        elif isinstance(value, list):
            setattr(made, name, [_rebuilt(v, new) if isinstance(v, ast.AST) else v for v in value])
    return made


def _shape_counted(node: ast.expr) -> ast.expr | None:
    """The shape of which an expression gives the number of elements."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or node.keywords:
        return None
    holder = node.func.value
    if node.func.attr == "prod" and len(node.args) == 1:
        return node.args[0] if _is_shape(node.args[0]) else None
    if node.func.attr in {"numel", "nelement"} and not node.args:
        return holder if _is_shape(holder) else ast.Attribute(holder, "shape", ast.Load())
    return None


def _listed(node: ast.expr) -> ast.expr | None:
    """What is made a list or a tuple, as in ``list(x.shape)``."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or len(node.args) != 1:
        return None
    return node.args[0] if node.func.id in {"list", "tuple"} else None


def _is_shape(node: ast.expr) -> bool:
    """``x.shape``, ``x.size()`` or a part of it."""
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Slice):
        return _is_shape(node.value)
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Attribute) and node.func.attr == "size" and not node.args
    return isinstance(node, ast.Attribute) and node.attr == "shape"


def _is_one_size(node: ast.expr) -> bool:
    """``x.shape[1]``"""
    return isinstance(node, ast.Subscript) and _is_shape(node.value) and _plain_indices(node.slice)


def _base(shape: ast.expr) -> tuple[str, int]:
    """What to index for the sizes in a shape, and from where on: ``x[0].shape[1:]`` is ``x.shape`` from 2 on."""
    first = 0
    if isinstance(shape, ast.Subscript) and isinstance(shape.slice, ast.Slice):
        lower, upper, step = shape.slice.lower, shape.slice.upper, shape.slice.step
        start = 0 if lower is None else lower.value if isinstance(lower, ast.Constant) else None
        if isinstance(start, int) and upper is None and step is None:
            shape, first = shape.value, start
    holder = shape.value if isinstance(shape, ast.Attribute) and shape.attr == "shape" else None
    if isinstance(shape, ast.Call) and isinstance(shape.func, ast.Attribute) and shape.func.attr == "size":
        holder = shape.func.value
    if holder is None:
        return ast.unparse(shape), first
    while isinstance(holder, ast.Subscript) and _plain_indices(holder.slice):
        first += len(holder.slice.elts) if isinstance(holder.slice, ast.Tuple) else 1
        holder = holder.value
    return f"{ast.unparse(holder)}.shape", first


def _plain_indices(index: ast.expr) -> bool:
    entries = index.elts if isinstance(index, ast.Tuple) else [index]
    return all(isinstance(e, ast.Constant) and type(e.value) is int for e in entries)


def _slice(base: str, start: int, length: int, last: bool = False) -> list[str]:
    if length < 2:
        return [f"{base}[{start}]"] * length
    return [f"*{base}[{start or ''}:{'' if last else start + length}]"]


# -- functions


@lru_cache(maxsize=64)
def _parents(tree: ast.Module) -> Mapping[ast.AST, ast.AST]:
    return {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}


def definition(name: ast.Name, tree: ast.Module) -> tuple[ast.expr, int]:
    """The expression that was assigned to a local name, and how often the name is read. Raises Unknown where there are
    several, or none that is plain to see."""
    parents = _parents(tree)
    node: ast.AST | None = name
    while node is not None and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        node = parents.get(node)
    if node is None:
        raise Unknown(name.id)
    names, params = _names_in(node)
    here = names.get(name.id, [])
    stores = [n for n in here if not isinstance(n.ctx, ast.Load)]
    if len(stores) != 1 or name.id in params:
        raise Unknown(f"{name.id} is assigned in several places")
    return _assigned(stores[0], parents), len(here) - 1


@lru_cache(maxsize=256)
def _names_in(function: ast.AST) -> tuple[Mapping[str, list[ast.Name]], Set[str]]:
    """Where each name stands in a function, and the names of what it and the functions in it take."""
    names: dict[str, list[ast.Name]] = {}
    nodes = list(ast.walk(function))
    for node in (n for n in nodes if isinstance(n, ast.Name)):
        names.setdefault(node.id, []).append(node)
    return names, {n.arg for n in nodes if isinstance(n, ast.arg)}


def _assigned(target: ast.Name, parents: Mapping[ast.AST, ast.AST]) -> ast.expr:
    parent = parents[target]
    if isinstance(parent, (ast.Assign, ast.AnnAssign)) and parent.value is not None:
        return parent.value
    outer = parents.get(parent)
    if isinstance(parent, (ast.Tuple, ast.List)) and isinstance(outer, ast.Assign):
        place, value = parent.elts.index(target), outer.value
        element = _beside(place, parent.elts, value.elts) if isinstance(value, (ast.Tuple, ast.List)) else None
        if element is not None:
            return element
        if not any(isinstance(e, ast.Starred) for e in parent.elts):
            return ast.Subscript(value, ast.Constant(place), ast.Load())
    raise Unknown(target.id)


def _beside(place: int, targets: Sequence[ast.expr], values: Sequence[ast.expr]) -> ast.expr | None:
    """What a target gets of values beside one another, counted from the first or, past a starred one, from the last."""
    for at in (place, place - len(targets)):
        pairs = (targets[: at + 1], values[: at + 1]) if at >= 0 else (targets[at:], values[at:])
        plain = not any(isinstance(e, ast.Starred) for e in (*pairs[0], *pairs[1]))
        if plain and len(pairs[0]) == len(pairs[1]):
            return values[at]
    return None


def _enclosed(fix: Fix, tree: ast.Module) -> str:
    """The text, in parentheses where it would else mean something else."""
    parent = _parents(tree).get(fix.node)
    new = ast.parse(fix.template.replace("{}", "_"), mode="eval").body
    inside = isinstance(parent, _OPERANDS) or (isinstance(parent, (ast.Call, ast.Subscript)) and fix.node in (
        getattr(parent, "func", None), getattr(parent, "value", None)
    ))  # fmt: skip
    return f"({fix.template})" if inside and isinstance(new, (ast.BinOp, ast.UnaryOp)) else fix.template
