"""Which names a piece of code stores and loads."""

from __future__ import annotations

import ast
import keyword


def stored_names(node: ast.AST) -> set[str]:
    """Names that a function assigns, its loops and comprehensions included."""
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store | ast.Del)}


def loaded_names(node: ast.AST) -> set[str]:
    """The names that the code reads."""
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}


def is_usable_name(name: str) -> bool:
    """Whether a name may stand behind a dot."""
    return name.isidentifier() and not keyword.iskeyword(name)
