"""Where a stale number comes from: the author's expression behind an argument of a call."""

from __future__ import annotations

import ast
import linecache
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import FrameType
from typing import Any

from torch import nn

from pruners.channel_graph import Site, Span
from pruners.errors import NotPrunableError
from pruners.frames import span
from pruners.tracing import Modules


@dataclass(frozen=True)
class AttributePatch:
    """A plain attribute of a module that holds the number."""

    module: str
    attribute: str


@dataclass(frozen=True)
class Stale:
    """A number in the code that must change: an attribute, or an expression (file, span)."""

    where: AttributePatch | tuple[str, int, int, int, int]
    module: str
    site: Site
    new: object


Arguments = tuple[tuple[Any, ...], dict[str, Any]]


def resolve(
    frame: FrameType, site: Site, modules: Modules, model: nn.Module, old: Arguments, new: Arguments
) -> Iterator[Stale]:
    """The author's expressions whose values must change so that the call's arguments become ``new``."""
    call = _calls(site.file).get(span(frame))
    if call is None:
        raise NotPrunableError(f"{site}: a number here must follow the widths, but its expression can't be found")
    owner = frame.f_locals.get("self")
    path = modules.path_of.get(id(owner), modules.current) if isinstance(owner, nn.Module) else modules.current
    nodes: list[ast.expr] = list(call.args)
    args_old, args_new = list(old[0]), list(new[0])
    if isinstance(call.func, ast.Attribute) and _is_method(nodes, args_old):
        args_old, args_new = args_old[1:], args_new[1:]
    keywords = {k.arg: k.value for k in call.keywords if k.arg is not None}
    pairs = list(_aligned(nodes, args_old, args_new, site))
    pairs += [(keywords[k], v, new[1][k]) for k, v in old[1].items() if k in keywords]
    for node, before, after in pairs:
        for leaf, value in _leaves(node, before, after, site):
            where = _attribute(leaf, frame, modules)
            here = where or (site.file, leaf.lineno, leaf.col_offset, leaf.end_lineno or 0, leaf.end_col_offset or 0)
            yield Stale(here, path, site, value)


def _is_method(nodes: Sequence[ast.expr], args: Sequence[Any]) -> bool:
    """``x.view(2, 3)`` passes one more argument than it writes; ``F.pad(x, p)`` does not."""
    starred = sum(isinstance(n, ast.Starred) for n in nodes)
    return len(args) == len(nodes) + 1 if not starred else len(args) > len(nodes) - starred


def _aligned(
    nodes: Sequence[ast.expr], old: Sequence[Any], new: Sequence[Any], site: Site
) -> Iterator[tuple[ast.expr, Any, Any]]:
    """Pair expressions with values; at most one ``*expression`` takes what the others leave."""
    stars = [i for i, n in enumerate(nodes) if isinstance(n, ast.Starred)]
    if len(stars) > 1:
        raise NotPrunableError(f"{site}: a number here must follow the widths, but it comes from several unpackings")
    if not stars:
        yield from zip(nodes, old, new, strict=False)
        return
    at, extra = stars[0], len(old) - (len(nodes) - 1)
    star = nodes[at]
    assert isinstance(star, ast.Starred)
    yield from zip(nodes[:at], old[:at], new[:at], strict=True)
    yield star.value, tuple(old[at : at + extra]), tuple(new[at : at + extra])
    yield from zip(nodes[at + 1 :], old[at + extra :], new[at + extra :], strict=True)


def _leaves(node: ast.expr, old: Any, new: Any, site: Site) -> Iterator[tuple[ast.expr, Any]]:
    """The smallest expressions that hold a changed value, with the new value."""
    if _same(old, new):
        return
    if isinstance(node, (ast.Tuple, ast.List)) and isinstance(old, (tuple, list)):
        for child, before, after in _aligned(node.elts, old, new, site):
            yield from _leaves(child, before, after, site)
    else:
        yield node, new


def _same(old: Any, new: Any) -> bool:
    if isinstance(old, (tuple, list)):
        return len(old) == len(new) and all(_same(a, b) for a, b in zip(old, new, strict=True))
    return old is new or (isinstance(old, int) and isinstance(new, int) and old == new)


def _attribute(node: ast.expr, frame: FrameType, modules: Modules) -> AttributePatch | None:
    """``self.pad`` or ``self.block.pad``, looked up without evaluating anything."""
    if not isinstance(node, ast.Attribute):
        return None
    names: list[str] = []
    inner: ast.expr = node.value
    while isinstance(inner, ast.Attribute):
        names.append(inner.attr)
        inner = inner.value
    if not isinstance(inner, ast.Name):
        return None
    holder = frame.f_locals.get(inner.id)
    for name in reversed(names):
        holder = getattr(holder, name, None)
    if isinstance(holder, nn.Module) and id(holder) in modules.path_of and node.attr in vars(holder):
        return AttributePatch(modules.path_of[id(holder)], node.attr)
    return None


@lru_cache(maxsize=64)
def _calls(file: str) -> dict[Span, ast.Call]:
    """Every call of a source file by its span."""
    source = "".join(linecache.getlines(file))
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return {}
    return {
        (n.lineno, n.col_offset, n.end_lineno or 0, n.end_col_offset or 0): n
        for n in ast.walk(tree)
        if isinstance(n, ast.Call)
    }
