"""The generated file's text: header, imports, definitions, through ``templates/model.py.j2``."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

from ...entry import Entry
from ...errors import WrittenError
from ...shown import template
from ..text import STEP, WIDTH, SourceFile, as_docstring
from .gather import Chunk, Import

_ENCODING = re.compile(r"#.*?coding[:=]")  # the generated file is UTF-8
_TITLE = ", with its widths written out."
_OURS = re.compile(rf"^(?:\w+{re.escape(_TITLE)}|Source:   )", re.MULTILINE)  # where the lines of a header begin


def render(
    entry: Entry, header: Header | None, top: Top, imports: Iterable[Import], chunks: Sequence[Chunk], future: bool
) -> str:
    """The whole file. ``top``: what stands above the author's code."""
    sections = import_sections(imports)
    if future:
        sections.insert(0, ["from __future__ import annotations"])
    told, definitions = docstring(entry, header or Header(), top.docstring), _spaced(chunks)
    text = template("model.py.j2").render(
        licence=top.licence,
        docstring=as_docstring(told),
        imports=sections,
        definitions=definitions,
        gap=bool(chunks) and not chunks[0].is_definition,
    )
    _check(text, told, "\n".join([*(line for section in sections for line in section), definitions]))
    return text


def _check(text: str, told: str, code: str) -> None:
    """Raises SourceError unless the file, read again, is the docstring that was meant and the code, and no more."""
    try:
        module, meant = ast.parse(text), ast.parse(code)
    except SyntaxError:
        return  # nothing in it can run: running the text says where
    found = ast.get_docstring(module, clean=False)
    if found != told or ast.dump(ast.Module(module.body[1:], [])) != ast.dump(meant):
        raise WrittenError("the written source is not what was meant: something in its header is no text")


@dataclass(frozen=True)
class Top:
    """What stands above the code of the author's file: a comment, and its docstring."""

    licence: str
    docstring: str


def top_of(file: SourceFile, whole: bool) -> Top:
    """``whole``: also the docstring, without what an earlier pruning added to it."""
    said = (ast.get_docstring(file.tree, clean=False) or "").rstrip() if whole else ""
    return Top(licence(file), _OURS.split(said)[0].rstrip())


def licence(file: SourceFile) -> str:
    """The comment at the top of the author's file: whose it is, and under what terms."""
    lines = list(takewhile(lambda line: line.startswith("#") or not line.strip(), file.lines))
    text = "".join(s for s in lines if not s.startswith("#!") and not _ENCODING.match(s)).strip()
    return text + "\n\n" if text else ""


def docstring(entry: Entry, header: Header, said: str = "") -> str:
    """The text of the file's docstring: what the author's file says, and where this one is from."""
    lines = [*(said.split("\n") if said else [entry.name + _TITLE]), ""]
    origin = header.origin or entry.origin
    rows = [("Source", origin), ("Plan", header.plan), ("Pruned", _costs(header))]
    lines += [f"{name + ':':<9} {text}" for name, text in rows if text]
    if header.weights:
        lines.append(f"{'Weights:':<9} model = {entry.name}()")
        lines.append(f'{"":<9} model.load_state_dict(torch.load("{header.weights}", weights_only=True))')
    while lines and not lines[-1]:
        lines.pop()
    text = "\n".join(lines) + ("\n" if len(lines) > 1 else "")
    return text.encode(errors="backslashreplace").decode()  # Python 3.13 takes no docstring with half a surrogate pair


def _costs(header: Header) -> str | None:
    params = f"{header.params_before} -> {header.params_after} parameters" if header.params_after else None
    macs = f"{header.macs_before} -> {header.macs_after} MACs" if header.macs_after else None
    return ", ".join(t for t in (params, macs) if t) or None


def import_sections(imports: Iterable[Import]) -> list[list[str]]:
    """Standard library, then the rest; in each section ``import x`` before ``from x import y``, as isort has it.
    What only type checkers need stands last."""
    everything = list(imports)
    wanted = [i for i in everything if not i.checkers]
    sections = []
    for standard in (True, False):
        mine = [i for i in wanted if (i.module.partition(".")[0] in sys.stdlib_module_names) is standard]
        aliases = {i: "" if i.name == i.module else f" as {i.name}" for i in mine}
        plain = sorted({f"import {i.module}{aliases[i]}" for i in mine if not i.member}, key=str.lower)
        modules = sorted({i.module for i in mine if i.member}, key=str.lower)
        lines = plain + [line for m in modules for line in _from(m, [i for i in mine if i.module == m and i.member])]
        if lines:
            sections.append(lines)
    checked = [replace(i, checkers=False) for i in everything if i.checkers]
    if checked:
        inner = import_sections(checked)
        sections.append(["if TYPE_CHECKING:", *(STEP + line for section in inner for line in section)])
    return sections


def _from(module: str, wanted: list[Import]) -> list[str]:
    wanted = sorted(wanted, key=lambda i: (_kind(i.member), i.member.lower(), i.member))
    names = [i.member if i.member == i.name else f"{i.member} as {i.name}" for i in wanted]
    line = f"from {module} import {', '.join(names)}"
    if len(line) <= WIDTH:
        return [line]
    return [f"from {module} import (", *(f"{STEP}{n}," for n in names), ")"]


def _kind(name: str) -> int:
    """Constants, then classes, then the rest."""
    if name.isupper() and len(name) > 1:
        return 0
    return 1 if name[:1].isupper() else 2


def _spaced(chunks: Sequence[Chunk]) -> str:
    """Two blank lines around functions and classes, one between constants."""
    text = ""
    previous: Chunk | None = None
    for chunk in chunks:
        if previous is not None:
            beside = chunk.fills and not previous.is_definition
            text += "\n\n" if chunk.is_definition or previous.is_definition else "" if beside else "\n"
        text += chunk.text
        previous = chunk
    return text


@dataclass(frozen=True)
class Header:
    """Ready strings for the docstring of the generated file; None leaves a line out."""

    origin: str | None = None
    plan: str | None = None
    params_before: str | None = None
    params_after: str | None = None
    macs_before: str | None = None
    macs_after: str | None = None
    weights: str | None = None
