"""Where the code of a function can go two ways, and whether inputs can decide which."""

from __future__ import annotations

import ast
import builtins
import copy
import linecache
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from types import CodeType, FunctionType
from typing import Any

from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from ..places import Span
from .torch_private import WithoutTorchFunction, tree_leaves

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef
Block = tuple[ast.stmt, ...]
Settled = Callable[[ast.expr], bool]
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef, ast.ListComp, ast.SetComp, ast.DictComp,
           ast.GeneratorExp)  # fmt: skip
_SIMPLE = (ast.Assign, ast.AugAssign, ast.AnnAssign, ast.Return, ast.Expr)
_CHANGING = {"append", "extend", "insert", "update", "add", "setdefault", "appendleft"}
# of a tensor: what no size of an input changes
_SETTLED = {"ndim", "dtype", "device", "is_cuda", "is_sparse", "is_quantized", "is_mkldnn", "layout", "dim",
            "is_floating_point", "is_complex", "type", "__class__", "__name__"}  # fmt: skip
# functions whose outcome no input changes
_ENVIRONMENT = {"is_scripting", "is_tracing", "is_in_onnx_export", "is_compiling", "is_available",
                "is_dynamo_compiling", "is_exporting", "get_fastpath_enabled"}  # fmt: skip
_TELLING = {"isinstance", "issubclass", "callable", "hasattr", "type"}


def tree_of(file: str) -> ast.Module | None:
    """The syntax of a source file; None where it can't be read."""
    linecache.checkcache(file)
    return _parsed("".join(linecache.getlines(file)))


@lru_cache(maxsize=64)
def _parsed(text: str) -> ast.Module | None:
    try:
        return ast.parse(text)
    except SyntaxError:
        return None


def span_of(node: ast.AST) -> Span:
    """Where a node stands."""
    return node.lineno, node.col_offset, node.end_lineno, node.end_col_offset  # type: ignore[attr-defined]


@dataclass(frozen=True, eq=False)
class Fork:
    """``test`` decides which of the two ``ways`` is taken. ``places``: where their code stands; behind ``region`` they
    are one again."""

    number: int
    test: ast.expr
    ways: tuple[Block, Block]
    places: tuple[tuple[Span, ...], tuple[Span, ...]]
    region: Span
    loop: ast.For | ast.While | None  # the innermost around it

    @cached_property
    def stored(self) -> frozenset[str]:
        """The names that one of the ways gives a value, or whose value it changes."""
        return frozenset().union(*(_stored(s) for way in self.ways for s in way))

    @cached_property
    def rest(self) -> frozenset[str]:
        """The names that the loop around the fork gives a value."""
        return frozenset().union(*(_stored(s) for s in self.loop.body)) if self.loop else frozenset()

    def returns(self, way: int) -> bool:
        return any(isinstance(n, ast.Return) for s in self.ways[way] for n in own_nodes(s))

    def harmless(self, way: int) -> bool:
        """Whether the way ends in an exception, or only says something."""
        block = self.ways[way]
        return bool(block) and (isinstance(block[-1], ast.Raise) or all(map(_says, block)))

    def beyond(self, way: int, names: Mapping[str, Any]) -> bool:
        """Whether the way only looks up what a list doesn't hold: nothing that is there is read."""
        stmt = self.ways[way][0] if len(self.ways[way]) == 1 else None
        part = stmt.value if isinstance(stmt, ast.Assign) else None
        if not isinstance(part, ast.Subscript):
            return False
        held, at = (names.get(n.id) if isinstance(n, ast.Name) else None for n in (part.value, part.slice))
        return isinstance(held, list | tuple) and type(at) is int and at >= len(held)

    @cached_property
    def notes(self) -> bool:
        """Whether both ways do nothing but give names and parts of lists constants."""
        return all(_says(s) or (isinstance(s, ast.Assign) and _is_constant(s.value) and all(map(_is_name, s.targets)))
                   for way in self.ways for s in way)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Function:
    """A function's forks, in order."""

    node: FunctionNode
    forks: tuple[Fork, ...]
    parameters: tuple[str, ...]
    attributes: frozenset[str]  # of modules, that it stores
    bindings: Mapping[str, tuple[ast.expr | None, ...]] = field(repr=False)
    _settled: dict[frozenset[str], frozenset[str]] = field(default_factory=dict, repr=False)

    def settled(self, parameters: frozenset[str]) -> frozenset[str]:
        """The local names whose values follow from the network alone, if these parameters do."""
        if parameters not in self._settled:
            names = parameters | self.bindings.keys() - set(self.parameters)
            while True:
                wrong = {n for n in names if not all(e is not None and settled(e, names, self, frozenset())
                                                     for e in self.bindings.get(n, ()))}  # fmt: skip
                if not wrong:
                    break
                names = names - wrong
            self._settled[parameters] = frozenset(names)
        return self._settled[parameters]

    def reads(self, name: str, beside: Span) -> bool:
        """Whether the name is read outside a part of the function."""
        found = (n for n in ast.walk(self.node) if isinstance(n, ast.Name) and n.id == name)
        return any(isinstance(n.ctx, ast.Load) and not contains(beside, span_of(n)) for n in found)

    @cached_property
    def local(self) -> frozenset[str]:
        return frozenset({*self.parameters, *self.bindings})

    def surely_there_or_not(
        self, value: ast.expr, names: frozenset[str], stored: frozenset[str], seen: frozenset[str] = frozenset()
    ) -> bool:
        """Whether it follows from the network alone if a value is None."""
        if isinstance(value, ast.IfExp):
            sides = (value.body, value.orelse)
            return self._known(value.test, names, stored, seen) and all(
                self.surely_there_or_not(side, names, stored, seen) for side in sides
            )
        if isinstance(value, ast.Name) and value.id in self.local and value.id not in names | seen:
            if value.id in self.parameters:
                return False
            around = [f for f in self.forks if value.id in f.stored]
            return all(
                e is None or self.surely_there_or_not(e, names, stored, seen | {value.id})
                for e in self.bindings[value.id]
            ) and all(self._known(f.test, names, stored, seen | {value.id}) for f in around)
        if isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) and value.func.attr in {"get", "pop"}:
            return settled(value, names, self, stored, seen)
        return True

    def _known(self, test: ast.expr, names: frozenset[str], stored: frozenset[str], seen: frozenset[str]) -> bool:
        if isinstance(test, ast.Compare) and _asks_none(test):
            return self.surely_there_or_not(test.left, names, stored, seen)
        return settled(test, names, self, stored, seen)

    def within(self, node: FunctionNode, region: Span) -> Function:
        """The forks that stand in a part of the function, which was made a function of its own."""
        inside = tuple(f for f in self.forks if contains(region, f.region) and f.region != region)
        return Function(node, inside, self.parameters, frozenset(), self.bindings, self._settled)


def contains(outer: Span, inner: Span) -> bool:
    return outer[:2] <= inner[:2] and inner[2:] <= outer[2:]


@lru_cache(maxsize=4096)
def function_of(code: CodeType) -> Function | None:
    """What the source says of the code of a function."""
    tree = tree_of(code.co_filename)
    for node in ast.walk(tree) if tree is not None else ():
        if isinstance(node, FunctionNode) and node.name == code.co_name:
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            if code.co_firstlineno in (first, node.lineno):
                return _function(node)
    return None


def _function(node: FunctionNode) -> Function:
    args = node.args
    names = [a.arg for a in (*args.posonlyargs, *args.args, *args.kwonlyargs, args.vararg, args.kwarg) if a]
    bindings: dict[str, list[ast.expr | None]] = {}
    attributes = set()
    for inner in (n for s in node.body for n in own_nodes(s)):
        for target, value in _bound(inner):
            for leaf in _changed(target):
                if isinstance(leaf, ast.Name):
                    bindings.setdefault(leaf.id, []).append(value)
                elif isinstance(leaf, ast.Attribute) and isinstance(leaf.ctx, ast.Store):
                    attributes.add(leaf.attr)
    forks = tuple(_forks(node.body, None, iter(range(10**6))))
    return Function(node, forks, tuple(names), frozenset(attributes), {n: tuple(v) for n, v in bindings.items()})


def _changed(target: ast.expr) -> Iterator[ast.expr]:
    """Names and attributes that get a value, or of whose value a part gets one."""
    if isinstance(target, ast.Tuple | ast.List):
        for part in target.elts:
            yield from _changed(part)
    elif isinstance(target, ast.Subscript | ast.Starred):
        yield from _changed(target.value)
    else:
        yield target


def _bound(node: ast.AST) -> Iterator[tuple[ast.expr, ast.expr | None]]:
    if isinstance(node, ast.Assign):
        yield from ((target, node.value) for target in node.targets)
    elif isinstance(node, ast.AugAssign | ast.AnnAssign | ast.NamedExpr):
        yield node.target, node.value
    elif isinstance(node, ast.For | ast.AsyncFor):
        yield node.target, node.iter
    elif isinstance(node, ast.With | ast.AsyncWith):
        yield from ((i.optional_vars, i.context_expr) for i in node.items if i.optional_vars is not None)


def own_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes of a statement but those of functions and classes inside it."""
    yield node
    if not isinstance(node, _SCOPES):
        for child in ast.iter_child_nodes(node):
            yield from own_nodes(child)


def _forks(body: Sequence[ast.stmt], loop: ast.For | ast.While | None, numbers: Iterator[int]) -> Iterator[Fork]:
    for stmt in body:
        if isinstance(stmt, ast.If | ast.While):
            other = tuple(stmt.orelse) if isinstance(stmt, ast.If) else ()
            ways = (tuple(stmt.body), other)
            places = tuple(tuple(map(span_of, way)) for way in ways)
            around = loop if isinstance(stmt, ast.If) else stmt
            yield Fork(next(numbers), stmt.test, ways, places, span_of(stmt), around)  # type: ignore[arg-type]
        elif isinstance(stmt, _SIMPLE):
            for node in own_nodes(stmt):
                if isinstance(node, ast.IfExp):
                    ways = ((_chosen(stmt, node, node.body),), (_chosen(stmt, node, node.orelse),))
                    spans = ((span_of(node.body),), (span_of(node.orelse),))
                    yield Fork(next(numbers), node.test, ways, spans, span_of(stmt), loop)
        inner = stmt if isinstance(stmt, ast.For | ast.While) else loop
        if not isinstance(stmt, _SCOPES):
            for part in ("body", "orelse", "finalbody"):
                yield from _forks(getattr(stmt, part, ()), inner, numbers)
            for handler in getattr(stmt, "handlers", ()):
                yield from _forks(handler.body, inner, numbers)


def _chosen(stmt: ast.stmt, choice: ast.IfExp, value: ast.expr) -> ast.stmt:
    """The statement in which the choice is made."""
    return copy.deepcopy(stmt, {id(choice): copy.deepcopy(value)})


def _stored(stmt: ast.stmt) -> set[str]:
    """Names that a statement gives a value, or whose value it changes."""
    found = set()
    for node in own_nodes(stmt):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            found.add(node.id)
        elif isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load):
            found |= {n.id for n in ast.walk(node.value) if isinstance(n, ast.Name)}
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            holder = node.func.value
            changing = node.func.attr in _CHANGING or node.func.attr.endswith("_")
            if changing and isinstance(holder, ast.Name):
                found.add(holder.id)
    return found


_TELLERS = {"print", "warn", "warning", "warn_once", "info", "debug", "error", "log", "_log_api_usage_once", "_assert",
            "set_trace", "breakpoint"}  # fmt: skip


def _says(stmt: ast.stmt) -> bool:
    """A statement that computes nothing: it says something, checks, or stops for a debugger."""
    if isinstance(stmt, ast.Expr) and isinstance(stmt.value, ast.Call):
        func = stmt.value.func
        return (func.attr if isinstance(func, ast.Attribute) else getattr(func, "id", "")) in _TELLERS
    constant = isinstance(stmt, ast.Expr) and isinstance(stmt.value, ast.Constant)
    return constant or isinstance(stmt, ast.Pass | ast.Assert | ast.Raise | ast.Import | ast.ImportFrom)


def _is_name(target: ast.expr) -> bool:
    """Of a value, or of a part of one that a constant says."""
    part = isinstance(target, ast.Subscript) and _is_constant(target.slice)
    return isinstance(target.value if part else target, ast.Name)  # type: ignore[attr-defined]


def _is_constant(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) or (isinstance(node, ast.UnaryOp) and _is_constant(node.operand))


# -- what inputs can't change


def _asks_none(test: ast.Compare) -> bool:
    none = len(test.comparators) == 1 and isinstance(test.comparators[0], ast.Constant)
    return none and test.comparators[0].value is None and isinstance(test.ops[0], ast.Is | ast.IsNot)  # type: ignore


def settled(
    test: ast.expr, names: Collection[str], function: Function, stored: Collection[str],
    seen: frozenset[str] = frozenset(),
) -> bool:  # fmt: skip
    """Whether an expression in a function follows from the network alone. ``names``: local names that do; ``stored``:
    attributes that running code gives other values; ``seen``: local names of which that is being asked."""
    local = function.local
    if isinstance(test, ast.Compare) and _asks_none(test):
        return function.surely_there_or_not(test.left, frozenset(names), frozenset(stored), seen)
    if isinstance(test, ast.Call):
        called = test.func.attr if isinstance(test.func, ast.Attribute) else getattr(test.func, "id", "")
        if called in _TELLING | _ENVIRONMENT or (called in _SETTLED and isinstance(test.func, ast.Attribute)):
            return True
        if called in {"is_grad_enabled", "rand", "random", "randint", "randrange"}:
            return False
        if called == "len" and isinstance(test.func, ast.Name) and len(test.args) == 1:
            inner = test.args[0]
            if isinstance(inner, ast.Attribute) and inner.attr == "shape":
                return True
        parts: list[ast.expr] = [*test.args, *(k.value for k in test.keywords)]
        if isinstance(test.func, ast.Attribute):
            parts.append(test.func.value)
        elif not isinstance(test.func, ast.Name) or test.func.id in local:
            return False
        return all(settled(p, names, function, stored, seen) for p in parts)
    if isinstance(test, ast.Attribute):
        if test.attr in _SETTLED:
            return True
        if test.attr == "training" or test.attr in stored:
            return False
        return settled(test.value, names, function, stored, seen)
    if isinstance(test, ast.Name):
        return test.id == "self" or test.id in names or test.id not in local
    if isinstance(test, _SCOPES):
        return False
    return all(settled(c, names, function, stored, seen) for c in ast.iter_child_nodes(test) if isinstance(c, ast.expr))


class Unknown(Exception):  # noqa: N818  (no error: it can't be told)
    """The value of an expression can't be had without running the author's code."""


def outcome(test: ast.expr, is_settled: Settled, space: Mapping[str, Any]) -> bool | None:
    """What a condition comes to whatever the inputs are; None where they can decide."""
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        inner = outcome(test.operand, is_settled, space)
        return None if inner is None else not inner
    if isinstance(test, ast.BoolOp):
        decisive = isinstance(test.op, ast.Or)
        parts = [outcome(v, is_settled, space) for v in test.values]
        return decisive if decisive in parts else None if None in parts else not decisive
    if not is_settled(test):
        return None
    try:
        with WithoutTorchFunction():  # it is no step of the network
            return bool(_value(test, space))
    except Unknown:
        return None


def _value(node: ast.expr, space: Mapping[str, Any]) -> Any:
    """The value of an expression of plain values, without a call of the author's code."""
    if isinstance(node, ast.Attribute | ast.Name | ast.Constant):
        return _plain(looked_up(node, space))
    if isinstance(node, ast.Compare) and all(isinstance(o, ast.Is | ast.IsNot) for o in node.ops):
        sides = [looked_up(n, space) for n in (node.left, *node.comparators)]
        return all((a is b) == isinstance(op, ast.Is) for a, op, b in zip(sides, node.ops, sides[1:], strict=False))
    for inner in ast.iter_child_nodes(node):
        if isinstance(inner, ast.expr) and not isinstance(node, ast.Call):
            _value(inner, space)
    if isinstance(node, ast.Call) and not _may_be_called(node, space):
        raise Unknown
    try:
        return _plain(eval(_expression(node), dict(space)))
    except Exception as error:
        raise Unknown from error


@lru_cache(maxsize=4096)
def _expression(node: ast.expr) -> CodeType:
    return compile(ast.fix_missing_locations(ast.Expression(copy.deepcopy(node))), "<condition>", "eval")


def _may_be_called(node: ast.Call, space: Mapping[str, Any]) -> bool:
    """What only tells something."""
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    if isinstance(node.func, ast.Name):
        return name in _TELLING | {"len"} | _ENVIRONMENT or (
            name in {"int", "bool", "min", "max", "sum", "any", "all", "str"} and name not in space
            and all(_is_plain(a, space) for a in node.args)
        )  # fmt: skip
    return name in _ENVIRONMENT | _SETTLED


def _is_plain(node: ast.expr, space: Mapping[str, Any]) -> bool:
    try:
        _value(node, space)
    except Unknown:
        return False
    return True


def looked_up(node: ast.expr, space: Mapping[str, Any]) -> Any:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name):
        found = space.get(node.id, getattr(builtins, node.id, Unknown))
        if found is Unknown:
            raise Unknown
        return found
    if isinstance(node, ast.Attribute):
        holder = looked_up(node.value, space)
        if isinstance(holder, nn.Module):
            held = {**vars(holder), **holder._modules, **holder._parameters, **holder._buffers}
            if node.attr in held:
                return held[node.attr]
            raw = getattr(type(holder), node.attr, Unknown)
            if raw is Unknown or isinstance(raw, property):
                raise Unknown
            return raw
        if isinstance(holder, Tensor) and node.attr not in _SETTLED | {"shape", "requires_grad"}:
            raise Unknown
        try:
            return getattr(holder, node.attr)
        except Exception as error:
            raise Unknown from error
    raise Unknown


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        raise Unknown
    return value


# -- a way as a function of its own


@dataclass(frozen=True)
class Left:
    """How a way ended: with a value that the function returns, by a jump, or at its end. ``names``: the values then."""

    how: str
    value: Any = None
    names: Mapping[str, Any] = field(default_factory=dict)


_UNFIT = (ast.Yield, ast.YieldFrom, ast.Await, ast.Nonlocal, ast.Global, ast.Import, ast.ImportFrom)
_ACTING = {"open", "input", "exit", "quit", "breakpoint", "exec", "eval", "compile", "os", "sys", "pdb", "subprocess",
           "shutil", "pickle"}  # fmt: skip
_SAVING = {"save", "backward", "step", "zero_grad", "write", "exit", "set_trace"}


def unfit(block: Block, local: Collection[str]) -> str:
    """Why a way can't be tried; empty if it can. ``local``: names of the function's own, as ``input`` may be one."""
    for node in (n for s in block for n in own_nodes(s)):
        acts = isinstance(node, ast.Name) and node.id in _ACTING | {"super"} and node.id not in local
        if isinstance(node, _UNFIT) or acts:
            return "it can't be run on its own"
        acts = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _SAVING
        if acts and _root(node.func) != "self":  # type: ignore[attr-defined]
            return f"it calls {node.func.attr}"  # type: ignore[attr-defined]
    return ""


def _root(node: ast.expr) -> str:
    """The name at the front of ``a.b.c``."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


class _Ends(ast.NodeTransformer):
    """Makes every end of a way say how it ended."""

    def __init__(self) -> None:
        self._loops = 0

    def _told(self, node: ast.stmt, how: str, value: ast.expr | None = None) -> ast.stmt:
        told = ast.Call(ast.Name("__left", ast.Load()), [ast.Constant(how), value or ast.Constant(None),
                        ast.Call(ast.Name("locals", ast.Load()), [], [])], [])  # fmt: skip
        return ast.copy_location(ast.Return(told), node)

    def visit_Return(self, node: ast.Return) -> ast.stmt:
        return self._told(node, "return", node.value)

    def visit_Continue(self, node: ast.Continue) -> ast.stmt:
        return node if self._loops else self._told(node, "continue")

    def visit_Break(self, node: ast.Break) -> ast.stmt:
        return node if self._loops else self._told(node, "break")

    def _loop(self, node: Any) -> Any:
        self._loops += 1
        self.generic_visit(node)
        self._loops -= 1
        return node

    def visit_For(self, node: ast.For) -> Any:
        return self._loop(node)

    def visit_While(self, node: ast.While) -> Any:
        return self._loop(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> Any:
        return node

    def visit_Lambda(self, node: ast.Lambda) -> Any:
        return node


@lru_cache(maxsize=4096)
def _compiled(fork: Fork, way: int, name: str, file: str, names: tuple[str, ...]) -> CodeType:
    body = [_Ends().visit(copy.deepcopy(s)) for s in fork.ways[way] if not _says(s)]
    if any(isinstance(n, ast.NamedExpr) for n in ast.walk(fork.test)):  # the way may read what the test names
        body.insert(0, ast.copy_location(ast.Expr(copy.deepcopy(fork.test)), fork.test))
    last = ast.copy_location(ast.Pass(), fork.ways[way][-1]) if fork.ways[way] else ast.Pass(lineno=1, col_offset=0)
    body.append(_Ends()._told(last, "end"))
    args = ast.arguments([], [ast.arg(n) for n in names], None, [], [], None, [])
    function = ast.FunctionDef(name, args, body, [], None, lineno=fork.region[0], col_offset=fork.region[1])
    module = ast.fix_missing_locations(ast.Module([ast.copy_location(function, fork.test)], []))
    space: dict[str, Any] = {}
    exec(compile(module, file, "exec"), space)
    code: CodeType = space[name].__code__
    return code


def runnable(
    fork: Fork, way: int, code: CodeType, space: Mapping[str, Any], around: Mapping[str, Any]
) -> partial[Left]:
    """A way of the function with this code, as a function of its own; ``space``: the local names, ``around``: those of
    its module."""
    names = tuple(sorted(n for n in space if n.isidentifier()))
    made = FunctionType(_compiled(fork, way, code.co_name, code.co_filename, names), {**around, "__left": Left})
    return partial(made, *(space[n] for n in names))


def pieces(value: Any) -> list[Tensor]:
    """The tensors of a value, in order: in tuples, lists and dicts."""
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


def own_copy(value: Any) -> Any:
    """A value in which lists and dicts can be changed without a change of the original; tensors and modules stay. What
    an autograd function notes for its gradient is noted elsewhere."""
    if isinstance(value, list):
        return [own_copy(v) for v in value]
    if type(value) is dict:
        return {k: own_copy(v) for k, v in value.items()}
    if isinstance(value, FunctionCtx):
        noted = FunctionCtx()
        vars(noted).update(vars(value))
        return noted
    return set(value) if type(value) is set else value
