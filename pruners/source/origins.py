"""What the author wrote where a generated file has a class or a function of the same name."""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn


def authors_texts(model: nn.Module, factory: Callable[..., Any], text: str) -> list[dict[str, str]]:
    """For every class and function of ``text``, a file written for ``model``: its ``name``, and the ``text`` and
    ``file`` (without folders) that it has in the author's code; both empty where it has none.

    >>> authors_texts(network, network_factory, written)[0]["name"]  # doctest: +SKIP
    'BasicBlock'
    """
    classes = [c for m in model.modules() for c in type(m).__mro__ if not c.__module__.startswith("torch.")]
    kinds = {c.__name__: c for c in reversed(classes)}
    homes = dict.fromkeys(
        sys.modules[o.__module__] for o in (inspect.unwrap(factory), *classes)
        if getattr(o, "__module__", None) in sys.modules and o.__module__ != "builtins"
    )  # fmt: skip
    written = [n.name for n in ast.parse(text).body if isinstance(n, ast.ClassDef | ast.FunctionDef)]
    return [{"name": name, **_text(kinds.get(name) or _named(name, homes))} for name in dict.fromkeys(written)]


def _named(name: str, homes: dict[ModuleType, None]) -> Any:
    return next((found for home in homes if (found := vars(home).get(name)) is not None), None)


def _text(known: Any) -> dict[str, str]:
    try:
        file, lines = inspect.getsourcefile(inspect.unwrap(known)), inspect.getsource(known)
    except (OSError, TypeError, SyntaxError):  # there is none, or it was edited while the program ran
        return {"file": "", "text": ""}
    return {"file": Path(file or "").name, "text": textwrap.dedent(lines)}
