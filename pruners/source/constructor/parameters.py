"""The parameters of a written constructor, and its first lines."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..author import AuthorClass, Vector
from ..live import Call, Term
from ..text import STEP, WIDTH, Group, lines_of, rows, same_code


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


def header_lines(author: AuthorClass, parameters: Sequence[Parameter]) -> list[str]:
    """``def __init__(...):`` at column 0: the author's own lines if they say the same."""
    init, file = author.init, author.init_file
    assert init is not None
    texts = [author.self_name, *(p.text for p in parameters)]
    if any(p.keyword_only for p in parameters):
        texts.insert(1 + sum(not p.keyword_only for p in parameters), "*")
    returns = f" -> {file.segment(init.returns)}" if init.returns else ""
    line = f"def __init__({', '.join(texts)}){returns}:"
    own = file.lines[init.lineno - 1 : author.header_end]
    if own and same_code(f"{line} pass", textwrap.dedent("".join(own)).rstrip() + "\n    pass"):
        return [s.rstrip("\n")[init.col_offset :] for s in own if s.strip()]
    code = Group("def __init__(", tuple(texts), f"){returns}:")
    return rows("\n".join(lines_of(code, "", "", WIDTH - len(STEP))))
