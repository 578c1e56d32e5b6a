"""Which methods and attributes of author's classes stay: those that running the network can reach, and public ones."""

from __future__ import annotations

import ast
import types
from collections.abc import Iterable, Mapping, Set
from typing import Any

from pruners.source.files import FunctionNode, Sources

DROPPED = frozenset({"__init__", "_load_from_state_dict"})


def methods_of(node: ast.ClassDef) -> dict[str, list[FunctionNode]]:
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


def kept_methods(nodes: Iterable[ast.ClassDef], written: Iterable[str]) -> set[str]:
    """Names of methods to keep in a class and its author's parents, given the text of the written constructors.

    Methods that only the old constructor called are gone, and so are alternative constructors (``cls(...)``).
    """
    methods: dict[str, list[FunctionNode]] = {}
    for node in nodes:
        for name, found in methods_of(node).items():
            methods.setdefault(name, []).extend(found)
    own = set(methods) - DROPPED
    uses = {name: set().union(*map(attribute_reads, found)) & own for name, found in methods.items()}
    only_init = _closure(uses.get("__init__", set()), uses)
    roots = {n for n in methods if n not in only_init and n not in DROPPED and not _constructs(methods[n])}
    roots |= {"forward"} & set(methods)
    for text in written:
        roots |= (attribute_reads(ast.parse(text)) & set(methods)) - DROPPED
    return _closure(roots, uses) - DROPPED


def _closure(roots: set[str], uses: Mapping[str, set[str]]) -> set[str]:
    found: set[str] = set()
    todo = list(roots)
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += uses.get(name, set())
    return found


def _constructs(functions: list[FunctionNode]) -> bool:
    for function in functions:
        names = {d.id for d in function.decorator_list if isinstance(d, ast.Name)}
        calls = [n.func for n in ast.walk(function) if isinstance(n, ast.Call)]
        if "classmethod" in names and any(isinstance(c, ast.Name) and c.id == "cls" for c in calls):
            return True
    return False


def attribute_reads(tree: ast.AST) -> set[str]:
    """Names after a dot that are read, and strings that may name an attribute (``getattr(self, "scale")``)."""
    reads = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Store):
            reads.add(node.attr)
        elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Attribute):
            reads.add(node.target.attr)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
            reads.add(node.value)
    return reads


def reads_of_helpers(trees: Iterable[ast.AST], namespace: Mapping[str, Any], sources: Sources) -> set[str]:
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
                reads |= attribute_reads(place[1])
                todo.append((place[1], value.__globals__))
    return reads
