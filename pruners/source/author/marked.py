"""An author's code with a call in place of every number, which says where the number stands."""

from __future__ import annotations
import __future__

import ast
import copy
import functools
import types
from collections.abc import Mapping
from typing import Any, cast

from ...places import Span
from ...run import computes_weights
from ..text import FunctionNode, SourceFile, first_word, span_of, stored_names, value_named
from .bindings import binding, namespace_of

NUMBER, INT, USE = "_secateur_number_", "_secateur_int_", "_secateur_use_"


def bared(init: FunctionNode, namespace: Mapping[str, Any]) -> Mapping[Span, ast.expr]:
    """Calls in a constructor that lay a norm or a mask on a layer, ``weight_norm(nn.Conv1d(8, 8, 3))``, and the layer:
    what they did is part of the weights."""
    local = {a.arg for a in ast.walk(init) if isinstance(a, ast.arg)} | stored_names(init)
    inner = {id(n.value) for s in init.body for n in ast.walk(s) if isinstance(n, ast.Expr) and n is not s}
    found: dict[Span, ast.expr] = {}
    for node in ast.walk(init):
        called = isinstance(node, ast.Call) and node.args and id(node) not in inner
        if isinstance(node, ast.Call) and called and first_word(node.func) not in local:
            found |= {span_of(node): node.args[0]} if computes_weights(value_named(node.func, namespace)) else {}
    return found


class _Marked(ast.NodeTransformer):
    """Every number in code becomes a call that gives it, and every layer with a norm on its weights the layer; what
    calls in constructors are given is said to have been used there."""

    def __init__(self, file: str, bare: Mapping[Span, ast.expr]) -> None:
        self.file = file
        self.bare = bare
        self.inside = False

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        before, self.inside = self.inside, node.name == "__init__"
        self.generic_visit(node)
        self.inside = before
        return node

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        if type(node.value) not in (int, float):
            return node
        site = (self.file, node.lineno, node.col_offset, node.end_lineno, node.end_col_offset, node.value)
        name, place = _at(node, ast.Name(NUMBER, ast.Load())), _at(node, ast.Constant(cast(Any, site)))
        return _at(node, ast.Call(name, [place], []))

    def visit_Call(self, node: ast.Call) -> Any:
        if span_of(node) in self.bare:
            return self.visit(node.args[0])
        uses = [self.inside and _is_use(a) for a in node.args]
        named = [self.inside and _is_use(k.value) for k in node.keywords]
        self.generic_visit(node)
        node.args = [self._used(a) if u else a for a, u in zip(node.args, uses, strict=True)]
        for keyword, use in zip(node.keywords, named, strict=True):
            keyword.value = self._used(keyword.value) if use else keyword.value
        if isinstance(node.func, ast.Name) and node.func.id == "int":
            node.func.id = INT
        return node

    def _used(self, node: ast.expr) -> ast.expr:
        site = (self.file, *span_of(node))
        name, place = _at(node, ast.Name(USE, ast.Load())), _at(node, ast.Constant(cast(Any, site)))
        return cast(ast.expr, _at(node, ast.Call(name, [place, node], [])))

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.stmt:
        node.value = self.visit(node.value) if node.value is not None else None
        return node

    def visit_match_case(self, node: ast.match_case) -> ast.match_case:
        node.body = [self.visit(s) for s in node.body]
        return node


def _is_use(node: ast.expr) -> bool:
    simple = isinstance(node, ast.Name | ast.Attribute | ast.Subscript | ast.BinOp)
    return simple and not any(isinstance(n, ast.Call | ast.Slice | ast.NamedExpr | ast.Lambda) for n in ast.walk(node))


def _at(place: ast.expr, node: Any) -> Any:
    return ast.copy_location(node, place)


@functools.lru_cache(maxsize=64)
def marked_functions(file: SourceFile) -> Mapping[tuple[str, int], types.CodeType]:
    """The code of a file's functions with calls in place of numbers, by qualified name and first line."""
    found: dict[tuple[str, int], types.CodeType] = {}
    inits = [n for n in ast.walk(file.tree) if isinstance(n, ast.FunctionDef) and n.name == "__init__"]
    bare = {span: layer for n in inits for span, layer in bared(n, namespace_of(file)).items()}
    todo = [compile(_Marked(file.name, bare).visit(ast.parse(file.text)), file.name, "exec", dont_inherit=True)]
    while todo:
        code = todo.pop()
        found[code.co_qualname, code.co_firstlineno] = code
        todo += [c for c in code.co_consts if isinstance(c, types.CodeType)]
    return found


@functools.lru_cache(maxsize=1024)
def marked(file: SourceFile, node: ast.stmt | ast.expr) -> types.CodeType:
    """The code of one statement or expression at the top of a file."""
    new = _Marked(file.name, {}).visit(copy.deepcopy(node))
    late = __future__.annotations.compiler_flag if binding(file, "annotations") is not None else 0
    whole: Any = ast.Module([new], []) if isinstance(node, ast.stmt) else ast.Expression(new)
    mode = "exec" if isinstance(node, ast.stmt) else "eval"
    return compile(ast.fix_missing_locations(whole), file.name, mode, late, dont_inherit=True)
