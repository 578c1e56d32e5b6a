"""The generated file's text: header, imports, definitions, through ``templates/model.py.j2``."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile

from ...entry import Entry
from ...errors import WrittenError
from ...shown import template
from ..text import SourceFile, as_docstring, first_line
from .gather import Chunk, Import
from .imports import import_sections

_ENCODING = re.compile(r"#.*?coding[:=]")  # the generated file is UTF-8
_TITLE = ", with its widths written out."
_OURS = re.compile(rf"^(?:\w+{re.escape(_TITLE)}|Source:   )", re.MULTILINE)  # where the lines of a header begin


def render(
    entry: Entry, header: Header | None, top: Top, imports: Iterable[Import], chunks: Sequence[Chunk], future: bool,
    author: SourceFile | None = None,
) -> str:  # fmt: skip
    """The whole file. ``top``: what stands above the author's code. ``author``: whose imports stay in order."""
    sections = import_sections(imports, author)
    if future:
        sections.insert(0, ["from __future__ import annotations"])
    told, definitions = docstring(entry, header or Header(), top.docstring), _spaced(chunks)
    text = template("model.py.j2").render(
        licence=top.licence,
        docstring=as_docstring(told),
        imports=sections,
        definitions=definitions,
        gap="\n" * (_first_gap(chunks) - 1),
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


def _spaced(chunks: Sequence[Chunk]) -> str:
    """As many empty lines as the author has between two; else two around functions and classes, one between
    constants."""
    text = ""
    previous: Chunk | None = None
    for chunk in chunks:
        if previous is not None:
            beside = chunk.fills and not previous.is_definition
            usual = 2 if chunk.is_definition or previous.is_definition else 0 if beside else 1
            text += "\n" * _empty_lines(previous, chunk, usual)
        text += chunk.text
        previous = chunk
    return text


def _first_gap(chunks: Sequence[Chunk]) -> int:
    """Empty lines below the imports, at least one."""
    usual = 1 if chunks and not chunks[0].is_definition else 2
    if not chunks or chunks[0].file is None:
        return usual
    pair = chunks[0].file.pair_at(chunks[0].line)
    imported = pair is not None and isinstance(pair[0], ast.Import | ast.ImportFrom)
    return max(1, _empty_between(*pair, chunks[0].file)) if pair is not None and imported else usual


def _empty_lines(previous: Chunk, chunk: Chunk, usual: int) -> int:
    """``usual``: between two that don't follow each other in one file of the author."""
    if chunk.file is None or previous.file is not chunk.file:
        return usual
    pair = chunk.file.pair_at(chunk.line)
    follow = pair is not None and (pair[0].lineno, pair[1].lineno) == (previous.line, chunk.line)
    return _empty_between(*pair, chunk.file) if pair is not None and follow else usual


def _empty_between(before: ast.stmt, stmt: ast.stmt, file: SourceFile) -> int:
    between = file.lines[before.end_lineno or 0 : first_line(stmt) - 1]
    inside = list(takewhile(lambda line: not line[:1].strip(), between))  # comments of the one before, too
    return len(list(takewhile(lambda line: not line.strip(), inside[::-1])))


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
