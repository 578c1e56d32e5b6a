"""Where a stale number comes from: the author's expression behind an argument of a call."""

from __future__ import annotations

import ast
import functools
import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from types import FrameType, ModuleType
from typing import Any

from torch import nn

from ..errors import StuckError
from ..places import Site, Span
from ..run import NO_COLUMNS, Modules, is_author_file, span, tree_of
from .evaluate import Unknown
from .separate import definition

# file and span of an expression, and the argument that is to be added where it is a call that doesn't say the number
Place = tuple[str, int, int, int, int, str]


@dataclass(frozen=True)
class AttributePatch:
    """A plain attribute of a module that holds the number: by itself, or as an ``argument`` that a partial binds."""

    module: str
    attribute: str
    argument: str | int | None = None

    def put(self, held: Any, new: object) -> object:
        """What the attribute has to hold for the number to be new."""
        if self.argument is not None:
            args, keywords = [*held.args], dict(held.keywords)
            place: Any = args if isinstance(self.argument, int) else keywords
            place[self.argument] = replace(self, argument=None).put(place[self.argument], new)
            return functools.partial(held.func, *args, **keywords)
        return list(new) if isinstance(held, list) and isinstance(new, tuple) else new


@dataclass(frozen=True)
class Stale:
    """A number in the code that must change: an attribute, or an expression. ``widths``: those that it counts.

    ``new`` is -1 where torch is to find the size itself, ``old`` what the code says; ``call``: the call that the number
    goes to. ``leaf``: the expression, if it isn't an attribute's, ``up`` frames above that of the call. ``source``: the
    attribute that the expression is computed from, and with which value it would give the number.
    """

    where: AttributePatch | Place
    module: str
    site: Site
    new: object
    widths: tuple[str, ...] = ()
    call: tuple[Site, Span] | None = None
    old: object = None
    leaf: ast.expr | None = field(default=None, compare=False)
    up: int = 0
    source: tuple[AttributePatch, int] | None = None


Arguments = tuple[tuple[Any, ...], dict[str, Any]]


def resolve(
    frame: FrameType, site: Site, modules: Modules, reflected: bool, old: Arguments, new: Arguments
) -> Iterator[Stale]:
    """The author's expressions whose values must change so that the call's arguments become ``new``.

    ``reflected``: the call is an operator with the tensor on its right, as in ``scale * x``.
    """
    node = _expression(frame)
    if node is None:
        why = "its expression can't be found" if span(frame)[3] else f"its code {NO_COLUMNS}"
        raise StuckError(f"a number here must follow the widths, but {why}", site)
    if isinstance(node, ast.Call) and (partial := _partial(node.func, frame, modules)) is not None:
        yield from _through(*partial, node, old, new, frame, site, modules)
        return
    for child, before, after in _arguments(node, reflected, old, new, frame, site):
        yield from _assigned(child, before, after, frame, site, modules) or [
            _origin(leaf, before, value, frame, site, modules) for leaf, value in _leaves(child, before, after, site)
        ]
    for name in new[1].keys() - old[1].keys() if isinstance(node, ast.Call) else ():
        yield _placed(node, name, new[1][name], frame, site, modules)


def _partial(
    func: ast.expr, frame: FrameType, modules: Modules
) -> tuple[AttributePatch, functools.partial[Any]] | None:
    """The partial that a call of an attribute calls."""
    patch = attribute_behind(func, frame, modules)
    held = getattr(modules.at(patch.module), patch.attribute) if patch is not None else None
    return (patch, held) if patch is not None and isinstance(held, functools.partial) else None


def _through(
    patch: AttributePatch, partial: functools.partial[Any], node: ast.Call, old: Arguments, new: Arguments,
    frame: FrameType, site: Site, modules: Modules,
) -> Iterator[Stale]:  # fmt: skip
    """Numbers of a call that a partial hands on: those that it binds, and the others from the call itself."""
    names, said = _names(partial), {k.arg: k.value for k in node.keywords}
    pairs = [(names[n] if n < len(names) else "", n, *pair) for n, pair in enumerate(zip(old[0], new[0], strict=True))]
    pairs += [(k, len(node.args) + len(partial.args), v, new[1][k]) for k, v in old[1].items()]
    for name, place, before, after in pairs:
        bound = place if place < len(partial.args) else name if name in partial.keywords else None
        mine = node.args[place - len(partial.args) :][:1] if bound is None else []
        leaf = mine[0] if mine else said.get(name)
        if _same(before, after):
            continue
        if bound is None and (leaf is None or isinstance(leaf, ast.Starred)):
            raise StuckError("a number that a partial hands on must follow the widths, and it can't be found", site)
        if bound is not None:
            yield Stale(replace(patch, argument=bound), modules.current, site, after, old=before)
        for inner, value in _leaves(leaf, before, after, site) if bound is None and leaf is not None else ():
            yield _origin(inner, before, value, frame, site, modules)


def _names(partial: functools.partial[Any]) -> list[str]:
    try:
        return list(inspect.signature(partial.func).parameters)
    except (TypeError, ValueError):  # a function of torch's own
        return []


def _bound(leaf: ast.expr, frame: FrameType, modules: Modules) -> AttributePatch | None:
    """The argument of a partial, held by a module, that a function got for its parameter."""
    code, caller = frame.f_code, frame.f_back
    call = _expression(caller) if caller is not None else None
    if not isinstance(leaf, ast.Name) or caller is None or not isinstance(call, ast.Call):
        return None
    found = _partial(call.func, caller, modules)
    if found is None or getattr(found[1].func, "__code__", None) is not code:
        return None
    places = dict(zip(_names(found[1]), range(len(found[1].args)), strict=False))
    argument = leaf.id if leaf.id in found[1].keywords else places.get(leaf.id)
    return None if argument is None else replace(found[0], argument=argument)


def _arguments(
    node: ast.AST, reflected: bool, old: Arguments, new: Arguments, frame: FrameType, site: Site
) -> Iterator[tuple[ast.expr, Any, Any]]:
    """Pair the expressions of a call, an operator or a subscript with their old and new values."""
    args_old, args_new = list(old[0]), list(new[0])
    if isinstance(node, ast.Call):
        nodes: list[ast.expr] = list(node.args)
        if _is_method(node.func, frame):
            args_old, args_new = args_old[1:], args_new[1:]
        keywords = {k.arg: k.value for k in node.keywords if k.arg is not None}
        yield from _aligned(nodes, args_old, args_new, site)
        yield from ((keywords[k], v, new[1][k]) for k, v in old[1].items() if k in keywords)
        return
    if isinstance(node, ast.BinOp):
        nodes = [node.right, node.left] if reflected else [node.left, node.right]
    elif isinstance(node, ast.AugAssign):
        nodes = [node.target, node.value]
    else:
        assert isinstance(node, ast.Subscript)
        nodes = [node.value, node.slice]
        args_old, args_new = args_old[:2], args_new[:2]  # without the value, where one is assigned
    yield from zip(nodes, args_old, args_new, strict=True)


def _origin(leaf: ast.expr, before: Any, value: Any, frame: FrameType, site: Site, modules: Modules) -> Stale:
    """The attribute that an expression reads, in this function or, for a parameter, in its caller; else its place."""
    patch = attribute_of(leaf, frame, modules) or _bound(leaf, frame, modules)
    if patch is not None:
        return Stale(patch, modules.current, site, value, old=before)
    passed = _passed(leaf, frame)
    if passed is not None:
        found = _origin(passed[0], before, value, passed[1], site, modules)
        return replace(found, up=found.up + 1)
    source = _source(leaf, value, frame, modules)
    return replace(_placed(leaf, "", value, frame, site, modules), old=before, leaf=leaf, source=source)


def _assigned(
    name: ast.expr, old: Any, new: Any, frame: FrameType, site: Site, modules: Modules
) -> list[Stale]:
    """The attributes behind what changes in a tuple of sizes that a name stands for; none if not all are attributes."""
    node, home = meant(name, frame)
    if node is name or not isinstance(old, (tuple, list)):
        return []
    found = [_origin(leaf, old, value, home, site, modules) for leaf, value in _leaves(node, old, new, site)]
    return found if all(isinstance(stale.where, AttributePatch) for stale in found) else []


def _source(leaf: ast.expr, value: Any, frame: FrameType, modules: Modules) -> tuple[AttributePatch, int] | None:
    """``self.width`` and 16 for ``self.width // 2``, or for ``c // 2`` after ``c = self.width``, that must be 8."""
    node, home = meant(leaf, frame)
    while type(value) is int and isinstance(node, ast.BinOp):
        inner = node.left if isinstance(node.right, ast.Constant) else node.right
        factor = node.right if inner is node.left else node.left
        number = factor.value if isinstance(factor, ast.Constant) else None
        if type(number) is not int or number < 1:
            return None
        if isinstance(node.op, ast.FloorDiv) and inner is node.left:
            value = value * number
        elif isinstance(node.op, ast.Mult) and value % number == 0:
            value = value // number
        else:
            return None
        node, home = meant(inner, home)
    patch = attribute_of(node, home, modules) if type(value) is int else None
    return (patch, value) if patch is not None else None


def meant(name: ast.expr, frame: FrameType) -> tuple[ast.expr, FrameType]:
    """What a local name stands for, and the frame of the function that assigns it, once; any other expression as it
    is. A lambda reads names of the function around it, which called what called the lambda."""
    if not isinstance(name, ast.Name):
        return name, frame
    code, home = frame.f_code, frame if name.id in frame.f_locals else None
    if name.id in code.co_freevars:
        while home is not None and not _makes_cell(home, name.id, code.co_filename):
            home = home.f_back
    tree = tree_of(code.co_filename)
    if home is None or tree is None:
        return name, frame
    try:
        return definition(name, tree)[0], home
    except Unknown:
        return name, frame


def _makes_cell(frame: FrameType, name: str, file: str) -> bool:
    return frame.f_code.co_filename == file and name in frame.f_code.co_cellvars


def _placed(
    node: ast.expr | ast.AugAssign, keyword: str, value: Any, frame: FrameType, site: Site, modules: Modules
) -> Stale:
    if not is_author_file(frame.f_code.co_filename):
        raise StuckError(f"a size inside torch's layer {modules.current} can't follow the widths", site)
    span = (node.lineno, node.col_offset, node.end_lineno or 0, node.end_col_offset or 0)
    return Stale((frame.f_code.co_filename, *span, keyword), owner(frame, modules), site, value)


def owner(frame: FrameType | None, modules: Modules) -> str:
    """Whose method runs: another module's may be called from outside its ``forward``."""
    held = None if frame is None else frame.f_locals.get("self")
    return modules.path_of.get(id(held), modules.current) if isinstance(held, nn.Module) else modules.current


def _passed(leaf: ast.expr, frame: FrameType) -> tuple[ast.expr, FrameType] | None:
    """The argument that the caller's code passes for a parameter, if it is plain to see."""
    code, caller = frame.f_code, frame.f_back
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    if not isinstance(leaf, ast.Name) or leaf.id not in names or caller is None:
        return None
    call = _expression(caller)
    if not isinstance(call, ast.Call) or any(isinstance(a, ast.Starred) for a in call.args):
        return None
    by_name = next((k.value for k in call.keywords if k.arg == leaf.id), None)
    place = names.index(leaf.id) - (names[:1] == ("self",) and isinstance(call.func, ast.Attribute))
    found = by_name or (call.args[place] if 0 <= place < len(call.args) else None)
    return None if found is None else (found, caller)


def _is_method(func: ast.expr, frame: FrameType) -> bool:
    """``x.view(2, 3)`` passes one more argument than it writes; ``F.pad(x, p)`` and ``Tensor.view(x, 2, 3)`` don't."""
    names: list[str] = []
    while isinstance(func, ast.Attribute):
        names.append(func.attr)
        func = func.value
    if not isinstance(func, ast.Name):
        return bool(names)
    holder = frame.f_locals.get(func.id, frame.f_globals.get(func.id))
    for name in names[:0:-1]:
        holder = getattr(holder, name, None)
    return bool(names) and not isinstance(holder, ModuleType | type)


def _aligned(
    nodes: Sequence[ast.expr], old: Sequence[Any], new: Sequence[Any], site: Site
) -> Iterator[tuple[ast.expr, Any, Any]]:
    """Pair expressions with values; at most one ``*expression`` takes what the others leave."""
    stars = [i for i, n in enumerate(nodes) if isinstance(n, ast.Starred)]
    if len(stars) > 1:
        raise StuckError("a number here must follow the widths, but it comes from several unpackings", site)
    if not stars:
        yield from zip(nodes, old, new, strict=False)
        return
    at, extra = stars[0], len(old) - (len(nodes) - 1)
    star = nodes[at]
    assert isinstance(star, ast.Starred)
    yield from zip(nodes[:at], old[:at], new[:at], strict=True)
    yield star.value, tuple(old[at : at + extra]), tuple(new[at : at + extra])
    yield from zip(nodes[at + 1 :], old[at + extra :], new[at + extra :], strict=True)


def _leaves(node: ast.expr, old: Any, new: Any, site: Site) -> Iterator[tuple[ast.expr, Any]]:
    """The smallest expressions that hold a changed value, with the new value."""
    if _same(old, new):
        return
    if isinstance(node, ast.Slice) and isinstance(old, slice):
        for child, before, after in ((node.lower, old.start, new.start), (node.upper, old.stop, new.stop)):
            if child is not None:
                yield from _leaves(child, before, after, site)
    elif isinstance(node, (ast.Tuple, ast.List)) and isinstance(old, (tuple, list)):
        for child, before, after in _aligned(node.elts, old, new, site):
            yield from _leaves(child, before, after, site)
    elif (n := _joined_at(node, old)) is not None and isinstance(node, ast.BinOp):
        for child, part in ((node.left, slice(n)), (node.right, slice(n, None))):
            yield from _leaves(child, old[part], new[part], site)
    else:
        yield node, new


def _joined_at(node: ast.expr, whole: Any) -> int | None:
    """How much of a tuple is the left part's, in ``[n, self.width] + list(x.shape[2:])``."""
    if not isinstance(node, ast.BinOp) or not isinstance(node.op, ast.Add) or not isinstance(whole, (tuple, list)):
        return None
    parts = [n.elts if isinstance(n, (ast.Tuple, ast.List)) else None for n in (node.left, node.right)]
    left, right = (None if e is None or any(isinstance(i, ast.Starred) for i in e) else len(e) for e in parts)
    return left if left is not None else None if right is None else len(whole) - right


def _same(old: Any, new: Any) -> bool:
    if isinstance(old, (tuple, list)):
        return len(old) == len(new) and all(_same(a, b) for a, b in zip(old, new, strict=True))
    if isinstance(old, slice):
        return _same((old.start, old.stop), (new.start, new.stop))
    return old is new or (isinstance(old, (int, float)) and isinstance(new, (int, float)) and old == new)


def attribute_of(node: ast.expr, frame: FrameType, modules: Modules) -> AttributePatch | None:
    """``self.pad`` or ``self.block.pad``, looked up without evaluating anything. What torch's own layers say of their
    sizes follows from their tensors, if they have any."""
    if not isinstance(node, ast.Attribute):
        return None
    names: list[str] = []
    inner: ast.expr = node.value
    while isinstance(inner, ast.Attribute):
        names.append(inner.attr)
        inner = inner.value
    if not isinstance(inner, ast.Name):
        return None
    holder = frame.f_locals.get(inner.id)
    for name in reversed(names):
        holder = getattr(holder, name, None)
    if isinstance(holder, nn.Module) and type(holder).__module__.startswith("torch.nn.") and holder.state_dict():
        return None
    if isinstance(holder, nn.Module) and id(holder) in modules.path_of and node.attr in vars(holder):
        return AttributePatch(modules.path_of[id(holder)], node.attr)
    return None


def attribute_behind(node: ast.expr, frame: FrameType, modules: Modules) -> AttributePatch | None:
    """The attribute that an expression reads, also by a local name or as the argument of a function."""
    passed = _passed(node, frame)
    if passed is not None:
        return attribute_behind(*passed, modules)
    return attribute_of(*meant(node, frame), modules)


_Expression = ast.Call | ast.BinOp | ast.AugAssign | ast.Subscript


def _expression(frame: FrameType) -> _Expression | None:
    """What the frame is executing. A call is known by its end: in a chain over several lines Python says that it starts
    at the name of its method."""
    here, tree = span(frame), tree_of(frame.f_code.co_filename)
    by_span, calls = _expressions(tree) if tree is not None else ({}, {})
    call = calls.get(here[2:])
    inside = call is not None and (call.lineno, call.col_offset) <= here[:2]
    return by_span.get(here) or (call if inside else None)


@lru_cache(maxsize=64)
def _expressions(tree: ast.Module) -> tuple[dict[Span, _Expression], dict[tuple[int, int], ast.Call]]:
    """Every call, operator and subscript of a source file by its span, and the calls by their end."""
    nodes = [n for n in ast.walk(tree) if isinstance(n, _Expression)]
    ends = [(n.end_lineno or 0, n.end_col_offset or 0) for n in nodes]
    spans = {(n.lineno, n.col_offset, *end): n for n, end in zip(nodes, ends, strict=True)}
    return spans, {end: n for n, end in zip(nodes, ends, strict=True) if isinstance(n, ast.Call)}
