"""How an error is told: with its code, and the line of the user's file that it is about."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tokenize
from pathlib import Path

import click

from ...pruners.errors import NotGivenError, OptionError, SecateurError, UnknownNameError
from ...pruners.places import Site

_TAB = 4


def told(error: SecateurError) -> str:
    """One line, or for an error about a place in a file that can be read also its line, a caret and the way out."""
    excerpt = _excerpt(error.site) if error.site is not None else []
    if error.site is None or not excerpt:
        return first_line(error.code, str(error))
    edge = _blue(f"{' ' * len(str(error.site.line))} =")
    notes = [f"{edge} help: {error.help}"] if error.help else []
    notes += [f"{edge} note: secateur explain {error.code}"] if error.code else []
    return "\n".join([first_line(error.code, _without_place(error)), *excerpt, *notes])


def of_click(error: click.UsageError) -> SecateurError:
    """What click refuses of the words of a command line, in one line, with the way out."""
    kinds = {
        click.MissingParameter: NotGivenError, click.NoSuchOption: UnknownNameError, click.BadParameter: OptionError,
    }  # fmt: skip
    kind = next((ours for theirs, ours in kinds.items() if isinstance(error, theirs)), OptionError)
    text = error.format_message().rstrip(".")
    if (words := re.search(r"unexpected extra arguments? \((.*\.py.*)\)", text)) and " " not in words[1]:
        return kind(text, help=f"write --model {words[1]}")
    wrong = isinstance(error, click.BadParameter) and not isinstance(error, click.MissingParameter)
    command = error.ctx.command_path if error.ctx and not wrong else ""
    return kind(text, help=command and f"{command} --help says what there is")


def first_line(code: str, reason: str) -> str:
    return click.style(f"error[{code}]" if code else "error", fg="red", bold=True) + f": {reason}"


def as_json(error: SecateurError) -> str:
    """The same for programs: ``line`` counts from 1, ``column`` too, in characters; null where nothing is known."""
    site, span, line = error.site, error.site and error.site.span, _line(error.site)
    column = len(line.encode()[: span[1]].decode()) + 1 if span and span[3] and line else None
    values = {
        "code": error.code, "message": _without_place(error), "file": site.file if site else None,
        "line": site.line if site else None, "column": column, "help": error.help or None,
    }  # fmt: skip
    return json.dumps({"schema": 1, "error": values}, indent=2)


def _without_place(error: SecateurError) -> str:
    text = str(error).removesuffix(f"; {error.help}") if error.help else str(error)
    return text.removeprefix(f"{error.site}: ").replace(f" ({error.site})", "")


def _line(site: Site | None) -> str:
    if site is None or not site.file:
        return ""
    try:
        with tokenize.open(site.file) as file:  # of Python it says the encoding, of others nothing and is UTF-8
            return next((line.rstrip() for number, line in enumerate(file, 1) if number == site.line), "")
    except (OSError, SyntaxError, ValueError):
        return ""


def _excerpt(site: Site) -> list[str]:
    """The place, its line and a caret under its expression; nothing where the file can't be read."""
    line = _line(site)
    if not line:
        return []
    start, end = _columns(site, line)
    shown, first, last = line.expandtabs(_TAB), _cells(line[:start]), _cells(line[:end])
    number = str(site.line)
    edge = " " * len(number)
    if sys.stderr.isatty():
        shown, first, last = _cropped(shown, first, last, shutil.get_terminal_size().columns - len(number) - 4)
    caret = " " * first + click.style("^" * max(1, last - first), fg="red", bold=True)
    column = f":{start + 1}" if site.span and site.span[3] else ""
    place = f"{_blue(f'{edge}-->')} {_shown(site.file)}:{site.line}{column}"
    return [place, _blue(f"{edge} |"), f"{_blue(f'{number} |')} {shown}", f"{_blue(f'{edge} |')} {caret}"]


def _blue(text: str) -> str:
    return click.style(text, fg="blue", bold=True)


def _columns(site: Site, line: str) -> tuple[int, int]:
    """First character of the expression and the one after its last on this line; all code of it where none is known."""
    raw, span = line.encode(), site.span
    if span is None or not span[3] or span[0] != site.line:
        return len(line) - len(line.lstrip()), len(line)
    end = span[3] if span[2] == site.line else len(raw)
    return len(raw[: span[1]].decode(errors="ignore")), len(raw[:end].decode(errors="ignore"))


def _cells(text: str) -> int:
    """How many columns of a terminal a text takes."""
    from rich.cells import cell_len

    return cell_len(text.expandtabs(_TAB))


def _cropped(text: str, first: int, last: int, width: int) -> tuple[str, int, int]:
    """The part of a long line that holds the caret's beginning."""
    if _cells(text) <= width or width < 20:
        return text, first, last
    left = max(0, min(first - width // 4, _cells(text) - width))
    return text[left : left + width], first - left, min(last - left, width)


def _shown(file: str) -> str:
    path = Path(file)
    return os.path.relpath(path) if path.is_absolute() and path.is_relative_to(Path.cwd()) else file
