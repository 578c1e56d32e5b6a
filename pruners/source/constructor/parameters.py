"""The parameters of a written constructor, and its first lines."""

from __future__ import annotations

import ast
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..author import AuthorClass, Vector
from ..live import Call, Term
from ..text import STEP, WIDTH, Group, SourceFile, lines_of, rows, spliced


@dataclass(frozen=True)
class Parameter:
    """A parameter of the written constructor. ``vector``: its value in every instance."""

    name: str
    vector: Vector
    default: Term | None
    default_text: str | None
    annotation: str | None
    keyword_only: bool
    order: tuple[float, ...]

    @property
    def text(self) -> str:
        if self.default_text is None:
            return f"{self.name}: {self.annotation}" if self.annotation else self.name
        note, equals = (f": {self.annotation}", " = ") if self.annotation else ("", "=")
        return f"{self.name}{note}{equals}{self.default_text}"


@dataclass(frozen=True)
class WrittenInit:
    """``lines``: the method, indented for a class body; empty where none is needed. ``extra``: names its file lacks.
    ``lost``: what of the author's it doesn't have."""

    lines: list[str]
    parameters: list[Parameter]
    calls: Mapping[str, Call]
    extra: Mapping[str, Any]
    lost: tuple[str, ...] = ()

    @property
    def code(self) -> str:
        """A class with the method alone, which can be parsed; empty where none is needed."""
        return "\n".join(["class _:", *self.lines]) if self.lines else ""


def header_lines(author: AuthorClass, parameters: Sequence[Parameter]) -> list[str]:
    """``def __init__(...):`` at column 0: the author's own lines, with other defaults, if they say the same."""
    init, file = author.init, author.init_file
    assert init is not None
    texts = [author.self_name, *(p.text for p in parameters)]
    if any(p.keyword_only for p in parameters):
        texts.insert(1 + sum(not p.keyword_only for p in parameters), "*")
    returns = f" -> {file.segment(init.returns)}" if init.returns else ""
    line = f"def __init__({', '.join(texts)}){returns}:"
    own = _with_defaults(line, "".join(file.lines[init.lineno - 1 : author.header_end]))
    if own is not None:
        return own
    above = {a.arg: (a.end_lineno or 0) for a in ast.walk(init.args) if isinstance(a, ast.arg)}
    counts = Counter(above.values())
    said = {n: file.comment_behind(at) for n, at in above.items() if counts[at] == 1 and at in file.comments}
    said = {n: text for n, text in said.items() if init.lineno < above[n] < author.header_end}
    end = file.comment_behind(author.header_end)
    end = f"  {end}" if end else ""
    if not any(p.name in said for p in parameters):
        code = Group("def __init__(", tuple(texts), f"){returns}:")
        lines = rows("\n".join(lines_of(code, "", "", WIDTH - len(STEP))))
        return [*lines[:-1], lines[-1] + end]
    notes = {p.text: f"  {said[p.name]}" for p in parameters if p.name in said}
    return ["def __init__(", *(f"{STEP}{t},{notes.get(t, '')}" for t in texts), f"){returns}:{end}"]


def _with_defaults(line: str, own: str) -> list[str] | None:
    """The author's header with the defaults of another one, if no more than these differ."""
    try:
        file = SourceFile("", (textwrap.dedent(own).rstrip() + "\n    pass\n").splitlines(keepends=True))
    except SyntaxError:  # with a body behind it
        return None
    found = spliced(file, file.tree.body[0], f"{line} pass")
    return None if found is None else found.split("\n")[:-1]
