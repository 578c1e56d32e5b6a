"""Line breaking for generated snippets: on one line if it fits, else one argument per line, like a formatter would."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

WIDTH = 120
STEP = "    "


@dataclass(frozen=True)
class Group:
    """``open`` part, part, ``close``. ``before`` and ``after`` are comments that belong to the whole."""

    open: str
    parts: tuple[Group | str, ...]
    close: str
    explode: bool = False
    before: tuple[str, ...] = ()
    after: str = ""

    @property
    def is_commented(self) -> bool:
        """Whether there is a comment somewhere in it."""
        inner = any(isinstance(p, Group) and p.is_commented for p in self.parts)
        return bool(self.before or self.after) or inner

    @property
    def broken(self) -> bool:
        return self.explode or any(isinstance(p, Group) and (p.broken or p.before or p.after) for p in self.parts)

    def flat(self) -> str:
        return self.open + ", ".join(p if isinstance(p, str) else p.flat() for p in self.parts) + self.close


def labelled(label: str, code: Group | str) -> Group | str:
    """The code with a label such as ``name=`` before it."""
    return label + code if isinstance(code, str) else replace(code, open=label + code.open)


def commented(code: Group | str, before: Sequence[str], after: str) -> Group | str:
    """The code with comment lines before it and a comment behind it."""
    if not before and not after:
        return code
    group = code if isinstance(code, Group) else Group(code, (), "")
    return replace(group, before=tuple(before), after=after)


def flat(code: Group | str) -> str:
    """The code on one line."""
    return code if isinstance(code, str) else code.flat()


def lines_of(code: Group | str, prefix: str, suffix: str, width: int) -> list[str]:
    """Lines for ``prefix + code + suffix`` in at most ``width`` columns where that is possible."""
    line = prefix + flat(code) + suffix
    if isinstance(code, str) or not code.parts or (len(line) <= width and not code.broken):
        return line.split("\n")
    together = STEP + ", ".join(map(flat, code.parts))
    inner = _exploded(code, width) if code.broken or len(together) > width else [together]
    return [prefix + code.open, *inner, code.close + suffix]


def _exploded(code: Group, width: int) -> list[str]:
    lines: list[str] = []
    for part in code.parts:
        before, after = (part.before, part.after) if isinstance(part, Group) else ((), "")
        inner = lines_of(part, "", ",", width - len(STEP))
        inner[-1] += f"  {after}" if after else ""
        lines += [STEP + line for line in (*before, *inner)]
    return lines
