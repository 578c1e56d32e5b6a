"""Values of arguments for which the written file makes no working network, or the one that another value makes, where
the author's file makes a network of its own. Both are built without weights and run once.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import nn

from ..live import attempted
from ..text import SourceFile, parameters_of
from .quiet_run import on_meta, run_on_meta

_MOST = 12  # values that are tried
_LOADS = re.compile(r"pretrain|weight|load|checkpoint|ckpt|cache|progress|verbose")  # what isn't about the network


def broken_choices(
    author: Callable[..., Any], written: Callable[..., Any], given: Mapping[str, Any], file: SourceFile, example: Any
) -> list[str]:
    """``make(flag=True)`` for each that worked before and doesn't now. ``author``, ``written``: the function or class
    that makes the network, here and there; ``given``: what the author's was called with. ``file``: where it stands;
    ``example``: what the network runs on."""
    choices = [(n, v) for n, v in _choices(author, file) if n not in given and n in _defaults(written)]
    choices = [(n, v) for n, v in choices if not _LOADS.search(n)][:_MOST]
    if not choices:
        return []
    broken = []
    with on_meta():
        usual = _made(author, given, example), _made(written, {}, example)
        for name, value in choices if all(usual) else ():
            before = _made(author, {**given, name: value}, example)
            if before is None or (before[1] is None and usual[0][1] is not None):  # type: ignore[index]
                continue
            now = _made(written, {name: value}, example)
            fails = now is None or (now[1] is None and before[1] is not None)
            alike = not fails and now == usual[1] and before != usual[0]
            if fails or alike:
                broken.append(f"{written.__name__}({name}={value!r})")
    return broken


def _defaults(function: Callable[..., Any]) -> Mapping[str, Any]:
    return {p.name: p.default for p in parameters_of(function).values() if p.default is not p.empty}


def _choices(function: Callable[..., Any], file: SourceFile) -> Iterator[tuple[str, Any]]:
    """Other values of arguments that the file asks for: of flags the other one, of words those that it compares."""
    for name, default in _defaults(function).items():
        if type(default) is bool and name in _asked(file.tree):
            yield name, not default
        elif isinstance(default, str):
            yield from ((name, word) for word in _words(file.tree, name) if word != default)


def _asked(tree: ast.Module) -> set[str]:
    """Names and attributes in conditions."""
    tests = [n.test for n in ast.walk(tree) if isinstance(n, ast.If | ast.IfExp)]
    tests += [n for n in ast.walk(tree) if isinstance(n, ast.BoolOp)]
    nodes = [n for t in tests for n in ast.walk(t)]
    names = {n.id for n in nodes if isinstance(n, ast.Name)}
    return names | {n.attr for n in nodes if isinstance(n, ast.Attribute)}


def _words(tree: ast.Module, name: str) -> list[str]:
    found: dict[str, None] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and ast.unparse(node.left).rpartition(".")[2] == name:
            constants = [c for other in node.comparators for c in ast.walk(other) if isinstance(c, ast.Constant)]
            found |= dict.fromkeys(c.value for c in constants if isinstance(c.value, str))
    return list(found)


def _made(function: Callable[..., Any], given: Mapping[str, Any], example: Any) -> tuple[Any, Any] | None:
    """What a network consists of, and whether it runs; None where there is none."""
    made = attempted(f"{getattr(function, '__name__', function)}{dict(given)!r}", lambda: function(**given))
    if not isinstance(made, nn.Module):
        return None
    kinds = tuple((p, type(m).__name__) for p, m in made.named_modules(remove_duplicate=False))
    return (kinds, tuple(made.state_dict())), run_on_meta(made.eval(), example) or None
