"""``app.py explain``: what the code of an error means, with an example. Needs no torch."""

from __future__ import annotations

import difflib
import json
import re
import sys
from dataclasses import asdict, dataclass

from ..pruners.errors import EXPLANATIONS, UnknownNameError
from .cli import ExplainOptions

_INTRODUCTION = """# Errors

What Secateur refuses, it refuses in one line with a code, before the work where it can. Where the reason lies in a file
of yours, its line follows, with a mark under the operation and the way out:

```text
error[SEC605]: this number differs between modules, but is not in a method of one class that has self
  --> net.py:41:64
   |
41 |         self.shortcut = Lambda(lambda x: F.pad(x, (0, 0, 0, 0, 16, 16)))
   |                                                                ^^
   = help: make it an attribute set in __init__
   = note: secateur explain SEC605
```

`secateur explain CODE` prints what stands here; a code keeps its meaning. With `--json` a refusal is an object on
stdout, `{"schema": 1, "error": {"code": ..., "message": ..., "file": ..., "line": ..., "column": ..., "help": ...}}`.
In Python each kind is a class of `secateur.pruners.errors` with the attributes `code`, `reason`, `site` and `help`.
"""


@dataclass(frozen=True)
class Explanation:
    """``text``: Markdown, with an example of before and after."""

    code: str
    title: str
    family: str
    text: str


def run(options: ExplainOptions) -> None:
    known = explanations()
    asked = [known[_named(options.error_code, list(known))]] if options.error_code else list(known.values())
    if options.json:
        print(json.dumps([asdict(e) for e in asked], indent=2))
    elif options.error_code:
        _show(asked[0])
    else:
        for family in dict.fromkeys(e.family for e in asked):
            print(f"{family}:", *(f"  {e.code}  {e.title}" for e in asked if e.family == family), "", sep="\n")


def explanations() -> dict[str, Explanation]:
    """All of them by code, in order."""
    found = {}
    for part in re.split(r"(?m)^# ", EXPLANATIONS.read_text("utf-8"))[1:]:
        family, *each = re.split(r"(?m)^## ", part)
        for one in each:
            head, _, text = one.partition("\n")
            code, _, title = head.partition(": ")
            found[code] = Explanation(code, title, family.strip(), text.strip())
    return found


def document() -> str:
    """``docs/errors.md``."""
    text, family = _INTRODUCTION, ""
    for e in explanations().values():
        if e.family != family:
            text, family = f"{text}\n## {e.family}\n", e.family
        text += f"\n### {e.code}: {e.title}\n\n{e.text}\n"
    return text


def _named(asked: str, known: list[str]) -> str:
    code = asked.upper() if not asked.isdecimal() else f"SEC{asked}"
    if code not in known:
        close = difflib.get_close_matches(code, known, 3)
        raise UnknownNameError(
            f"there is no code {asked!r}" + (f", did you mean {' or '.join(close)}?" if close else ""),
            help="explain without a code lists all",
        )
    return code


def _show(found: Explanation) -> None:
    text = f"## {found.code}: {found.title}\n\n{found.text}"
    if not sys.stdout.isatty():
        print(text)
        return
    from rich.console import Console
    from rich.markdown import Markdown

    Console().print(Markdown(text))
