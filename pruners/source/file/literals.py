"""Stale numbers in kept code: where all instances agree they become a literal, else an attribute of the instance."""

from __future__ import annotations

import ast
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ...errors import NoSourceError, SharedCodeError, SourceError
from ...places import LiteralSite
from ..live import Lit, Tree, holds, is_plain, literal, same
from ..text import SourceFile, Sources, call_around, last_word
from .edits import Edit

_NAMES = {
    "view": "flat_features",
    "reshape": "flat_features",
    "unflatten": "flat_features",
    "pad": "padding_widths",
    "chunk": "chunks",
    "split": "split_sizes",
    "Conv2d": "channels",
}


@dataclass(frozen=True)
class Rewrites:
    """``edits``: by file name. ``attributes``: by module path, values of attributes that kept code now reads.

    ``held``: numbers in functions that a constructor makes and modules hold."""

    edits: Mapping[str, tuple[Edit, ...]]
    attributes: Mapping[str, Mapping[str, object]]
    held: tuple[LiteralSite, ...] = ()


def plan_rewrites(sites: Sequence[LiteralSite], tree: Tree, sources: Sources) -> Rewrites:
    """How each stale number is corrected. Raises SourceError where no instance can hold its own number."""
    edits: dict[str, list[Edit]] = {}
    attributes: dict[str, dict[str, object]] = {}
    held_values = [v for module in tree.live.values() for v in vars(module).values()]
    functions = [v for v in held_values if isinstance(v, types.FunctionType)]
    held = [s for s in sites if any(holds(f, s) for f in functions)]
    for site in sites:
        if site in held:
            continue
        file = sources.file(site.file)
        if file is None or not site.values:
            raise NoSourceError("the source of a number that must change is not available", site=site.site)
        number = _literal_text(site) or _attribute_text(site, file, tree, attributes)
        text = site.template.replace("{}", number)
        edits.setdefault(site.file, []).append(Edit(site.span, text, site.keyword))
    return Rewrites({k: tuple(v) for k, v in edits.items()}, attributes, tuple(held))


def _literal_text(site: LiteralSite) -> str | None:
    values = list(site.values.values())
    if not all(is_plain(v) for v in values):
        raise SourceError(f"the new value {values[0]!r} is no number", site=site.site)
    agree = all(same(Lit(v), Lit(values[0])) for v in values)
    return literal(values[0]) if agree else None


def _attribute_text(site: LiteralSite, file: SourceFile, tree: Tree, attributes: dict[str, dict[str, object]]) -> str:
    """``self.name`` for a number that differs between the instances of one class."""
    classes = {type(tree.live[p]) for p in site.values}
    function = _method_around(file, site)
    if len(classes) != 1 or function is None:
        raise SharedCodeError(
            "this number differs between modules, but is not in a method of one class that has self",
            site=site.site, help="make it an attribute set in __init__",
        )  # fmt: skip
    paths = tree.instances.get(cls := classes.pop(), [])
    if not paths:
        raise SharedCodeError(
            f"this number differs between modules, but {cls.__qualname__} has no __init__ to set it in",
            site=site.site, help="write one",
        )  # fmt: skip
    wanted, fallback = site.keyword or _name(file, site), next(iter(site.values.values()))
    values = {path: Lit(site.values.get(path, fallback)) for path in paths}
    known = (n for n in attributes.get(paths[0], {}) if n.rstrip("_0123456789") == wanted)
    alike = (n for n in known if all(same(Lit(attributes[p].get(n)), v) for p, v in values.items()))
    name = next(alike, None) or _free_name(wanted, [tree.live[p] for p in paths], attributes)
    for path, value in values.items():
        attributes.setdefault(path, {})[name] = value.value
    return f"{function.args.args[0].arg}.{name}"


def _method_around(file: SourceFile, site: LiteralSite) -> ast.FunctionDef | None:
    found = None
    for node in ast.walk(file.tree):
        if isinstance(node, ast.ClassDef):
            for stmt in node.body:
                inside = stmt.lineno <= site.line and site.end_line <= (stmt.end_lineno or 0)
                if inside and isinstance(stmt, ast.FunctionDef) and stmt.args.args and stmt.name != "__init__":
                    kinds = {ast.unparse(d) for d in stmt.decorator_list}
                    found = found if kinds & {"staticmethod", "classmethod"} else stmt
    return found


def _name(file: SourceFile, site: LiteralSite) -> str:
    """After what the number is used for: the innermost call around it."""
    around = call_around(file.calls.values(), site.span)
    return _NAMES.get(last_word(around and around.func), "width")


def _free_name(name: str, modules: Iterable[object], attributes: Mapping[str, Mapping[str, object]]) -> str:
    taken = {n for names in attributes.values() for n in names}
    candidate, n = name, 2
    while candidate in taken or any(hasattr(m, candidate) for m in modules):
        candidate, n = f"{name}_{n}", n + 1
    return candidate
