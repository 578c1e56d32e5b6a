"""What a name at the top of an author's file means: the statement that bound it when the module was imported."""

from __future__ import annotations

import ast
import functools
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..text import SourceFile, code_of
from .classes import evaluate, proved

_ABSENT = object()
_known: dict[str, tuple[object, str, Any]] = {}  # file -> modules loaded then, name and module


def binding(file: SourceFile, name: str) -> ast.stmt | None:
    """The statement that binds a name, also under ``if`` and ``try``: the one that gave the value it has now."""
    numbered = [*file.bound.get(name, ()), *(b for b in file.bound.get("*", ()) if _stars(b[1], name, file))]
    found = [stmt for _, stmt in sorted(numbered, key=lambda b: b[0])]
    if len(found) < 2:
        return found[0] if found else None
    namespace = namespace_of(file)
    ran = [_gave(s, name, namespace.get(name, _ABSENT), file) for s in found]
    for wanted in (True, None):
        if wanted in ran:
            return found[len(ran) - 1 - ran[::-1].index(wanted)]
    return found[-1]


def for_checkers(file: SourceFile, stmt: ast.stmt) -> ast.If | None:
    """The ``if TYPE_CHECKING:`` around a statement, which only type checkers run."""
    return file.for_checkers.get(stmt)


def namespace_of(file: SourceFile) -> Mapping[str, Any]:
    """The names of the module that was made from a file."""
    owner = _owner(file)
    return vars(owner) if owner is not None else {}


def module_of(stmt: ast.ImportFrom, file: SourceFile) -> str:
    """The full name of the module that names are imported from."""
    if not stmt.level:
        return stmt.module or ""
    package = (getattr(_owner(file), "__package__", None) or "").split(".")
    base = package[: len(package) - stmt.level + 1]
    return ".".join([*base, *([stmt.module] if stmt.module else [])])


def usual(module: str) -> bool:
    """Whether a module is torch's or Python's own."""
    return module.partition(".")[0] in {"torch", *sys.stdlib_module_names}


def installed(module: str) -> bool:
    """Whether a fresh process finds a module as it stands: Python's own, or an installed distribution's.

    A module that only lies beside the author's file is not.
    """
    top = module.partition(".")[0]
    if usual(top):
        return True
    loaded = sys.modules.get(top)
    places = [*getattr(loaded, "__path__", ())] or [getattr(loaded, "__file__", None)]
    folders = [Path(place).absolute().parent for place in places if place]
    return not folders or any(map(_holds_distributions, folders))


def own(module: str) -> bool:
    """Whether a module is part of the author's project: the networks that come with this package are taken for that."""
    top = __name__.partition(".")[0]
    return module.startswith(f"{top}.models.") if module.partition(".")[0] == top else not installed(module)


@functools.cache
def _holds_distributions(folder: Path) -> bool:
    """Also a folder given to ``pip install --target``. A project installed in place has its description elsewhere."""
    return next(folder.glob("*.dist-info"), None) is not None


def _owner(file: SourceFile) -> Any:
    """The module that was made from a file, the last time that it was loaded."""
    state = len(sys.modules), next(reversed(sys.modules))
    found = _known.get(file.name)
    if found is None or found[0] != state or sys.modules.get(found[1]) is not found[2]:
        loaded = reversed(list(sys.modules.items()))
        found = next(((state, n, m) for n, m in loaded if getattr(m, "__file__", None) == file.name), None)
        _known.pop(file.name, None)
        _known.update({} if found is None else {file.name: found})
    return None if found is None else found[2]


def _stars(stmt: ast.stmt, name: str, file: SourceFile) -> bool:
    """Whether ``from x import *`` brings the name."""
    assert isinstance(stmt, ast.ImportFrom)
    module = sys.modules.get(module_of(stmt, file))
    return name in getattr(module, "__all__", [n for n in vars(module or object) if not n.startswith("_")])


def _gave(stmt: ast.stmt, name: str, value: Any, file: SourceFile) -> bool | None:
    """Whether a statement gave the value; None if that can't be told."""
    if isinstance(stmt, ast.Import | ast.ImportFrom):
        return _imported(stmt, name, file) is value
    if isinstance(stmt, ast.FunctionDef | ast.AsyncFunctionDef):
        code, last = code_of(value), stmt.end_lineno or 0
        return code is not None and stmt.lineno <= code.co_firstlineno + len(stmt.decorator_list) <= last
    if isinstance(stmt, ast.ClassDef):
        return isinstance(value, type) and value.__name__ == name
    expr = stmt.value if isinstance(stmt, ast.Assign | ast.AnnAssign) else None
    if expr is None:
        return None
    return proved(lambda: bool(evaluate(expr, {}, namespace_of(file), set()) == value))


def _imported(stmt: ast.Import | ast.ImportFrom, name: str, file: SourceFile) -> Any:
    alias = next((a for a in stmt.names if (a.asname or a.name.partition(".")[0]) == name), None)
    if isinstance(stmt, ast.Import):
        return sys.modules.get(alias.name if alias and alias.asname else name)
    module, member = module_of(stmt, file), alias.name if alias else name
    return getattr(sys.modules.get(module), member, sys.modules.get(f"{module}.{member}"))
