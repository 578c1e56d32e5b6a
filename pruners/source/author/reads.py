"""What code reads: the attributes that have to be there for it."""

from __future__ import annotations

import ast
import types
from collections.abc import Callable, Iterable, Mapping, Set
from typing import Any

import networkx as nx

from ..text import FunctionNode, SourceFile, Sources, pairs_of

_OF_TESTS = (
    ast.Attribute, ast.Name, ast.Constant, ast.Compare, ast.BoolOp, ast.UnaryOp, ast.BinOp, ast.expr_context, ast.cmpop,
    ast.boolop, ast.unaryop, ast.operator,
)  # fmt: skip
_EQUAL = (ast.Eq, ast.NotEq, ast.Is, ast.IsNot)
DROPPED = frozenset({"__init__", "_load_from_state_dict"})


def methods_of(node: ast.ClassDef) -> dict[str, list[FunctionNode]]:
    """A class's functions by name; several where a name is defined again (properties, overloads)."""
    found: dict[str, list[FunctionNode]] = {}
    for stmt in node.body:
        if isinstance(stmt, ast.FunctionDef | ast.AsyncFunctionDef):
            found.setdefault(stmt.name, []).append(stmt)
    return found


def code_in(node: ast.ClassDef, methods: Set[str]) -> list[ast.AST]:
    """What can run in a class: these methods, lambdas, and what stands under a condition."""
    found: list[ast.AST] = []
    for stmt in node.body:
        if isinstance(stmt, ast.FunctionDef | ast.AsyncFunctionDef):
            found += [stmt] if stmt.name in methods else []
        elif isinstance(stmt, ast.Assign | ast.AnnAssign):
            found += [n for n in ast.walk(stmt) if isinstance(n, ast.Lambda)]
        elif not isinstance(stmt, ast.Expr):
            found.append(stmt)
    return found


def only_for(init: str, nodes: Iterable[ast.ClassDef], reached: Set[str]) -> set[str]:
    """Methods of a class and its author's parents that only this method called, in turn, and that nothing reaches."""
    methods: dict[str, list[FunctionNode]] = {}
    for node in nodes:
        for name, found in methods_of(node).items():
            methods.setdefault(name, []).extend(found)
    own = set(methods) - DROPPED
    uses = {name: set().union(*map(attribute_reads, found)) & own for name, found in methods.items()}
    graph = nx.DiGraph((name, used) for name, names in uses.items() for used in names)
    return (nx.descendants(graph, init) if init in graph else set()) - reached


def own_tests(tree: ast.AST) -> list[ast.expr]:
    """Conditions on the module's own attributes alone: ``self.inp == self.out``."""
    tests = [n.test for n in ast.walk(tree) if isinstance(n, ast.If | ast.IfExp | ast.Assert)]
    return [t for t in tests if all(isinstance(n, _OF_TESTS) for n in ast.walk(t)) and _of_self(t)]


def _of_self(test: ast.expr) -> bool:
    owners = {n.value for n in ast.walk(test) if isinstance(n, ast.Attribute)}
    names = {n for n in ast.walk(test) if isinstance(n, ast.Name)}
    return bool(owners) and owners == names and {n.id for n in names} == {"self"}


def attribute_reads(tree: ast.AST, but: Iterable[ast.AST] = ()) -> set[str]:
    """Names after a dot that are read, and strings that may name an attribute (``getattr(self, "scale")``).
    ``but``: parts that don't count."""
    reads = set()
    left_out = {n for part in but for n in ast.walk(part)}
    for node in ast.walk(tree):
        if node in left_out:
            continue
        if isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Store):
            reads.add(node.attr)
        elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Attribute):
            reads.add(node.target.attr)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
            reads.add(node.value)
    return reads


def attributes_set(tree: ast.AST) -> set[str]:
    """Names after a dot that code gives a value."""
    return {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store)}


def only_compared(trees: Iterable[ast.AST]) -> tuple[set[str], set[str], set[int]]:
    """Words behind dots or in brackets whose values go elsewhere than into ``==`` and ``!=``, those that stand there,
    and the numbers there. ``config.dim`` is two words and one with a dot; what a local name holds is known by words."""
    elsewhere, compared, constants = set[str](), set[str](), set[int]()
    for tree in trees:
        nodes = list(ast.walk(tree))
        compares = [n for n in nodes if isinstance(n, ast.Compare) and all(isinstance(o, _EQUAL) for o in n.ops)]
        inside = [n for c in compares for n in ast.walk(c)]
        constants |= {n.value for n in inside if isinstance(n, ast.Constant) and type(n.value) is int}
        pairs = [p for n in nodes if isinstance(n, ast.Assign) for t in n.targets for p in pairs_of(t, n.value)]
        given = [(t.id, v) for t, v in pairs if isinstance(t, ast.Name)]
        names = {n.id for n in inside if isinstance(n, ast.Name)}
        compared |= {*map(_word, inside), *(_word(v) for name, v in given if name in names)}
        harmless = {id(s) for c in compares for s in (c.left, *c.comparators)} | {id(v) for _, v in given}
        harmless |= {id(n.value) for n in nodes if isinstance(n, ast.Attribute | ast.Subscript)}
        loads = [n for n in nodes if isinstance(getattr(n, "ctx", None), ast.Load) and id(n) not in harmless]
        local = {n.id for n in loads if isinstance(n, ast.Name)}
        used = [*loads, *(v for name, v in given if name in local)]
        elsewhere |= {*map(_word, used), *(f"{_word(n.value)}.{_word(n)}" for n in used if hasattr(n, "value"))}
    return elsewhere - {""}, compared - {""}, constants


def _word(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    key = node.slice if isinstance(node, ast.Subscript) else None
    return key.value if isinstance(key, ast.Constant) and isinstance(key.value, str) else ""


def factors(tree: ast.AST) -> set[str]:
    """Names after a dot that code multiplies or divides with: in ``4 * self.mults[0]`` it is ``mults``."""
    products = [n for n in ast.walk(tree) if isinstance(n, ast.BinOp) and not isinstance(n.op, ast.Add | ast.Sub)]
    return {n.attr for p in products for n in ast.walk(p) if isinstance(n, ast.Attribute)}


def reads_of_helpers(
    trees: Iterable[ast.AST],
    namespace: Mapping[str, Any],
    sources: Sources,
    folded: Callable[[SourceFile, ast.AST], ast.AST],
) -> set[str]:
    """What functions of the author's modules read that kept code calls by a global name, theirs included."""
    reads: set[str] = set()
    seen: set[int] = set()
    todo = [(tree, namespace) for tree in trees]
    while todo:
        tree, names = todo.pop()
        for node in ast.walk(tree):
            value = names.get(node.id) if isinstance(node, ast.Name) else None
            if not isinstance(value, types.FunctionType) or id(value) in seen or value.__module__.startswith("torch."):
                continue
            seen.add(id(value))
            place = sources.of_function(value)
            if place is not None:
                function = folded(*place)
                reads |= attribute_reads(function)
                todo.append((function, value.__globals__))
    return reads
