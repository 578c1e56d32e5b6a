"""An author's code with a call in place of every whole number, which says where the number stands."""

from __future__ import annotations
import __future__

import ast
import copy
import functools
import types
from collections.abc import Mapping
from typing import Any, cast

from ..text import SourceFile
from .bindings import binding

NUMBER, INT = "_secateur_number_", "_secateur_int_"


class _Marked(ast.NodeTransformer):
    """Every number in code becomes a call that gives it."""

    def __init__(self, file: str) -> None:
        self.file = file

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        if type(node.value) is not int:
            return node
        site = (self.file, node.lineno, node.col_offset, node.end_lineno, node.end_col_offset, node.value)
        name, place = _at(node, ast.Name(NUMBER, ast.Load())), _at(node, ast.Constant(cast(Any, site)))
        return _at(node, ast.Call(name, [place], []))

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id == "int":
            node.func.id = INT
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.stmt:
        node.value = self.visit(node.value) if node.value is not None else None
        return node

    def visit_match_case(self, node: ast.match_case) -> ast.match_case:
        node.body = [self.visit(s) for s in node.body]
        return node


def _at(place: ast.expr, node: Any) -> Any:
    return ast.copy_location(node, place)


@functools.lru_cache(maxsize=64)
def marked_functions(file: SourceFile) -> Mapping[tuple[str, int], types.CodeType]:
    """The code of a file's functions with calls in place of numbers, by qualified name and first line."""
    found: dict[tuple[str, int], types.CodeType] = {}
    todo = [compile(_Marked(file.name).visit(ast.parse(file.text)), file.name, "exec", dont_inherit=True)]
    while todo:
        code = todo.pop()
        found[code.co_qualname, code.co_firstlineno] = code
        todo += [c for c in code.co_consts if isinstance(c, types.CodeType)]
    return found


@functools.lru_cache(maxsize=1024)
def marked(file: SourceFile, node: ast.stmt | ast.expr) -> types.CodeType:
    """The code of one statement or expression at the top of a file."""
    new = _Marked(file.name).visit(copy.deepcopy(node))
    late = __future__.annotations.compiler_flag if binding(file, "annotations") is not None else 0
    whole: Any = ast.Module([new], []) if isinstance(node, ast.stmt) else ast.Expression(new)
    mode = "exec" if isinstance(node, ast.stmt) else "eval"
    return compile(ast.fix_missing_locations(whole), file.name, mode, late, dont_inherit=True)
