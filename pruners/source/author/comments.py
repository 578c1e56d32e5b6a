"""The author's comments at the elements of a container or of a list of layers."""

from __future__ import annotations

import ast
from collections.abc import Sequence

from ..live import Tree
from ..text import only_call, targets_of
from .arguments import call_in_constructor
from .classes import AuthorClass

Found = tuple[list[str], str]  # above, behind
_NONE: Found = ([], "")


class Comments:
    """Comments of the constructor of one class."""

    def __init__(self, tree: Tree, author: AuthorClass, paths: Sequence[str]) -> None:
        self.tree = tree
        self.author = author
        self.paths = paths

    def of(self, paths: Sequence[str | None], container: ast.Call | None) -> Found:
        """Comments above the element that made these modules, and behind it."""
        if not self._any():
            return _NONE
        calls = [c for p in paths if p is not None and (c := self._call(p)) is not None]
        outer = [self._call(p.rpartition(".")[0]) for p in paths if p is not None]
        if not calls or any(c is not calls[0] for c in calls) or any(c is calls[0] for c in outer):
            return _NONE  # made in several places, or by the call that made the container
        return self.at(calls[0], container)

    def at(self, element: ast.expr, container: ast.Call | None) -> Found:
        """Comments above an element of a container or list, and behind it."""
        if not self._any():
            return _NONE
        if container is not None and any(element is a for a in container.args):
            return self._found(element, container.lineno, container.end_lineno or 0, container.args)
        return self._in_list(element)

    def _any(self) -> bool:
        init, lines = self.author.init, self.author.init_file.comments
        return init is not None and any(init.lineno <= n <= (init.end_lineno or 0) for n in lines)

    def _call(self, path: str) -> ast.Call | None:
        """The call in the constructor that led to the module."""
        making = self.tree.making(path, self.paths)
        return call_in_constructor(making, self.author.init_file, self.tree.sources)

    def _in_list(self, call: ast.expr) -> Found:
        """Comments in and around ``layers.append(...)``, ``layers += [...]`` and the like."""
        for stmt in ast.walk(self.author.init) if self.author.init else ():
            elements = _elements(stmt)
            if isinstance(stmt, ast.stmt) and any(call is e for e in elements):
                before, after = self._found(call, stmt.lineno, stmt.end_lineno or 0, elements)
                first, last = call is elements[0], call is elements[-1]
                above = self._above(stmt.lineno, 0) if first else []
                return [*above, *before], after or (self._behind(stmt.end_lineno or 0) if last else "")
        return _NONE

    def _found(self, call: ast.expr, first: int, last: int, elements: Sequence[ast.expr]) -> Found:
        end = call.end_lineno or 0
        alone = call.lineno != first and end != last
        followed = any(e.lineno == end and e.col_offset > call.col_offset for e in elements)
        return self._above(call.lineno, first), self._behind(end) if alone and not followed else ""

    def _above(self, line: int, first: int) -> list[str]:
        file, found = self.author.init_file, list[str]()
        while line - 1 > first and line - 1 in file.comments and file.lines[line - 2].lstrip().startswith("#"):
            line -= 1
            found.insert(0, file.comments[line][1])
        return found

    def _behind(self, line: int) -> str:
        return self.author.init_file.comment_behind(line)


def _elements(stmt: ast.AST) -> Sequence[ast.expr]:
    """What a statement puts into a list of its own name."""
    value: ast.expr | None = None
    call, targets = only_call(stmt), targets_of(stmt)
    if isinstance(stmt, ast.Assign | ast.AugAssign | ast.AnnAssign):
        value = stmt.value if all(isinstance(t, ast.Name) for t in targets) else None
    elif call is not None and isinstance(call.func, ast.Attribute):
        method = call.func.attr
        value = call.args[0] if call.args and method in ("append", "extend", "insert") else None
        if method in ("append", "insert"):
            return call.args[-1:]
    return value.elts if isinstance(value, ast.List | ast.Tuple) else ()
