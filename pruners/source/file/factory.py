"""The function of the generated file that offers the network under the name the user knows."""

from __future__ import annotations

import ast
import inspect
import types
from collections.abc import Sequence, Set
from textwrap import dedent
from typing import Any

import torch
from torch import nn

from ...entry import Entry
from ..author import AuthorClass, Namer, argument_hints
from ..constructor import Parameter, WrittenInit
from ..live import Birth
from ..text import STEP, WIDTH, FunctionNode, SourceFile, Sources, dedented, indented, renamed, without_entries
from .gather import LAST, Chunk

_CASTS = {torch.float16: ".half()", torch.bfloat16: ".bfloat16()", torch.float64: ".double()"}


def factory_chunk(
    entry: Entry, root: type, name: str, parameters: Sequence[Parameter], birth: Birth | None, sources: Sources
) -> Chunk | None:
    """None if the root class itself has the name. Arguments that the root class still takes stay arguments."""
    if entry.name == name:
        return None
    place = source_of(entry.factory, sources)
    words = _arguments(entry, parameters, birth, place, sources)
    texts: list[str] = []
    passed: list[str] = []
    for parameter in parameters:
        word = words.get(parameter.name)
        if word is not None:
            texts.append(word + parameter.text.removeprefix(parameter.name))
            same = word == parameter.name and len(passed) == parameters.index(parameter)
            positional = not parameter.keyword_only and (same or len(passed) == parameters.index(parameter))
            passed.append(word if positional else f"{parameter.name}={word}")
    annotated = place is None or place[1].returns is not None or any(a.annotation for a in place[1].args.args)
    returns = f" -> {name}" if annotated else ""
    line = f"def {entry.name}({', '.join(texts)}){returns}:"
    lines = [line] if len(line) <= WIDTH else [f"def {entry.name}(", *(f"{STEP}{t}," for t in texts), f"){returns}:"]
    gone = set(inspect.signature(entry.factory).parameters) - set(words.values()) if place else set()
    lines += _docstring(place, gone)
    cast = "" if entry.dtype is None else _CASTS.get(entry.dtype, "")
    lines.append(f"{STEP}return {name}({', '.join(passed)}){cast}")
    extra: dict[str, Any] = {name: root}
    return Chunk(
        entry.name, place[0] if place else None, LAST, "\n".join(lines) + "\n", extra, second=sources.of_class(root)[0]
    )


def returning(entry: Entry, author: AuthorClass, written: WrittenInit) -> Chunk:
    """The factory of a network that is torch's own ``nn.Sequential``: what would be its class's constructor."""
    place = source_of(entry.factory, Sources())
    namer = Namer(author.globals, {}, author.file.spelled)
    kind = namer.text(nn.Sequential)
    returns = f" -> {kind}" if place and place[1].returns is not None else ""
    lines = [f"def {entry.name}(){returns}:", *_docstring(place, set(inspect.signature(entry.factory).parameters))]
    statements = dedent(dedent("\n".join(written.lines)).partition("\n")[2]).rstrip("\n")
    cast = "" if entry.dtype is None else _CASTS.get(entry.dtype, "")
    if len(ast.parse(statements).body) == 1:
        statements = statements.replace("super().__init__(", f"return {kind}(", 1) + cast
    else:
        statements = renamed(statements, {author.self_name: "layers"})
        statements = f"{statements.replace('super().__init__(', f'layers = {kind}(', 1)}\nreturn layers{cast}"
    text = "\n".join([*lines, *indented(statements.split("\n"))]) + "\n"
    return Chunk(entry.name, author.file, LAST, text, {**written.extra, **namer.extra})


def source_of(factory: object, sources: Sources) -> tuple[SourceFile, FunctionNode] | None:
    function = inspect.unwrap(factory) if callable(factory) else None
    return sources.of_function(function) if isinstance(function, types.FunctionType) else None


def _arguments(
    entry: Entry, parameters: Sequence[Parameter], birth: Birth | None, place: object, sources: Sources
) -> dict[str, str]:
    """Parameter of the root class -> the factory's name for it."""
    if isinstance(entry.factory, type) or place is None:
        return {p.name: p.name for p in parameters}
    signature = inspect.signature(entry.factory).parameters
    names = set(signature)
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in signature.values()):
        names |= {p.name for p in parameters}
    hints = argument_hints(birth, 0, sources) if birth and birth.frames else {}
    words = {n: e.id for n, e in hints.items() if isinstance(e, ast.Name) and e.id in names}
    return {p.name: words.get(p.name, p.name) for p in parameters if words.get(p.name, p.name) in names}


def _docstring(place: tuple[SourceFile, FunctionNode] | None, gone: Set[str]) -> list[str]:
    if place is None or ast.get_docstring(place[1]) is None:
        return []
    file, node = place
    first = node.body[0]
    lines = dedented(file.segment(first), first.col_offset)
    return [STEP + s if s.strip() else "" for s in without_entries(lines, gone)]
