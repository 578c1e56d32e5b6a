"""Errors: each kind has a code that is explained, and shows the line of the user's file that it is about."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from app_helpers import MODEL, app, uncoded

from secateur.commands import explain
from secateur.commands.cli import refusals
from secateur.pruners import errors
from secateur.pruners.errors import FAULT_CODE, Interrupted, SecateurError, SourceError
from secateur.pruners.places import Site

ROOT = Path(__file__).parents[2]
ROOMS = ("app.py", "commands", "models", "pruners", "training")
KINDS = {n: c for n, c in vars(errors).items() if isinstance(c, type) and issubclass(c, SecateurError)}
CODED = {n: c for n, c in KINDS.items() if c.code}


# -- codes


def raised() -> Iterator[tuple[str, str]]:
    """Every place in the product that makes one of our errors, and the name of its class there."""
    for room in ROOMS:
        for file in [ROOT / room] if room.endswith(".py") else sorted((ROOT / room).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text("utf-8"))):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in KINDS:
                    yield f"{file.relative_to(ROOT)}:{node.lineno}", node.func.id


def test_every_error_that_is_raised_has_a_code() -> None:
    places = dict(raised())
    assert len(places) > 300
    assert [p for p, name in places.items() if not KINDS[name].code and KINDS[name] is not Interrupted] == []


def test_every_kind_is_raised_and_has_a_code_of_its_own() -> None:
    assert set(CODED) == {name for _, name in raised()} - {"Interrupted"}
    codes = [vars(c)["code"] for c in CODED.values()]
    assert len(set(codes)) == len(codes) and all(re.fullmatch(r"SEC[1-7]\d\d", c) for c in codes)


def test_every_code_is_explained_with_an_example_of_before_and_after() -> None:
    found = explain.explanations()
    assert list(found) == sorted({c.code for c in CODED.values()} | {FAULT_CODE})
    for e in found.values():
        examples = re.findall(r"```\w+\n(.*?)```", e.text, re.DOTALL)
        assert e.title and e.family and e.text and "\n# " not in e.text
        assert ("# before" in e.text and "# after" in e.text) or len(examples) == 2, e.code


@pytest.mark.parametrize("e", explain.explanations().values(), ids=lambda e: e.code)
def test_examples_name_options_that_there_are_and_are_python(e: explain.Explanation) -> None:
    from secateur.app import cli

    for language, text in re.findall(r"```(\w+)\n(.*?)```", e.text, re.DOTALL):
        for command, rest in re.findall(r"^secateur (\w+)(.*)$", text, re.MULTILINE) if language == "sh" else ():
            known = {o for p in cli.commands[command].params for o in p.opts}
            assert set(re.findall(r"(?<= )--[a-z][\w-]*", rest.partition("#")[0])) <= known
        if language == "python":
            ast.parse(text)


def test_the_document_is_what_is_explained() -> None:
    file = ROOT / "docs" / "errors.md"
    if os.environ.get("SECATEUR_UPDATE_GOLDEN"):
        file.write_text(explain.document(), "utf-8")
    assert file.read_text("utf-8") == explain.document()


# -- explain


@pytest.mark.parametrize("asked", ["SEC605", "sec605", "605"])
def test_a_code_is_explained(asked: str) -> None:
    result = app("explain", asked)
    assert result.exit_code == 0 and result.stdout.startswith("## SEC605: code that several modules share")


def test_all_are_listed() -> None:
    result = app("explain")
    assert re.findall(r"^  (SEC\d+)", result.stdout, re.MULTILINE) == list(explain.explanations())
    assert max(map(len, result.stdout.splitlines())) <= 80


@pytest.mark.parametrize(("asked", "near"), [("SEC65", "SEC605"), ("help", "")])
def test_an_unknown_code_is_told_near_ones(asked: str, near: str) -> None:
    result = app("explain", asked)
    assert result.exit_code == 2 and result.stdout == ""
    assert result.stderr.startswith(f"error[SEC104]: there is no code '{asked}'")
    assert near in result.stderr and ("did you mean" in result.stderr) == bool(near)


def test_explaining_needs_no_torch(tmp_path: Path) -> None:
    run = f"import sys; sys.path[0] = {str(ROOT)!r}; from secateur.app import cli; cli(['explain', '605'], 'secateur', "
    run += "standalone_mode=False); assert not {'torch', 'numpy', 'libcst'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", run], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0 and "SEC605" in done.stdout, done.stderr


# -- what is shown


def error(file: Path, line: int, span: tuple[int, int, int, int] | None = None, **more: str) -> SecateurError:
    return SourceError("it can't be", site=Site(str(file), line, span=span), **more)


@pytest.mark.parametrize(
    "content",
    [None, b"", b"a\n", b"a\nb\n\xff\xfe = 1\n", b"# coding: nothing\n\nx = 1\n"],
    ids=["no file", "an empty one", "too few lines", "another encoding", "an unknown one"],
)
def test_without_the_line_it_is_one_line_with_the_place(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "net.py"
    if content is not None:
        file.write_bytes(content)
    said = refusals.told(error(file, 3, help="leave it out"))
    assert said.splitlines() == [refusals.first_line("SEC601", f"{file}:3: it can't be; leave it out")]


def plain(text: str) -> list[str]:
    return re.sub(r"\x1b\[\d*m", "", text).splitlines()


@pytest.mark.parametrize(
    ("line", "part", "shown", "caret"),
    [
        ("    y = f(x)", "f(x)", "    y = f(x)", "        ^^^^"),
        ("\ty = f(x)", "f(x)", "    y = f(x)", "        ^^^^"),
        ("größe = f(x)", "f(x)", "größe = f(x)", "        ^^^^"),
        ("見 = f(x)", "f(x)", "見 = f(x)", "     ^^^^"),
    ],
    ids=["spaces", "a tab", "letters of several bytes", "wide letters"],
)
def test_the_caret_is_under_the_operation(tmp_path: Path, line: str, part: str, shown: str, caret: str) -> None:
    file = tmp_path / "net.py"
    file.write_text(f"# net\n{line}\n", "utf-8")
    start = len(line[: line.index(part)].encode())
    said = error(file, 2, (2, start, 2, start + len(part.encode())), help="write g")
    assert plain(refusals.told(said)) == [
        "error[SEC601]: it can't be", f" --> {file}:2:{line.index(part) + 1}", "  |", f"2 | {shown}", f"  | {caret}",
        "  = help: write g", "  = note: secateur explain SEC601",
    ]  # fmt: skip
    assert str(said) == f"{file}:2: it can't be; write g"


def test_an_expression_over_several_lines_is_marked_on_its_first(tmp_path: Path) -> None:
    file = tmp_path / "net.py"
    file.write_text("class Net(\n    Module\n): pass\n")
    assert plain(refusals.told(error(file, 1, (1, 0, 3, 7))))[4] == "  | ^^^^^^^^^^"
    assert plain(refusals.told(error(file, 2)))[3:5] == ["2 |     Module", "  |     ^^^^^^"]


def test_a_long_line_is_cut_to_the_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "net.py"
    file.write_text("x = [" + "1, " * 100 + "f(x)" + ", 2" * 100 + "]\n")
    said = error(file, 1, (1, 305, 1, 309))
    assert max(map(len, plain(refusals.told(said)))) > 600
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "60")
    *_, line, caret, _ = plain(refusals.told(said))
    assert 50 < len(line) <= 60
    assert line[caret.index("^") : caret.rindex("^") + 1] == "f(x)"


# -- files of the user's

HOOKED = """from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3)
        self.first.register_forward_hook(lambda *_: None)
        self.last = nn.Conv2d(8, 4, 3)

    def forward(self, x):
        return self.last(self.first(x))


def make():
    return Net()
"""


def test_a_hook_is_shown_where_the_layer_is_made(here: Path) -> None:
    (here / "net.py").write_text(HOOKED)
    result = app("prune", "-q", "--model", "net.py:make", "--input-shape", "1,8,8", "--ratio", "0.5")
    assert result.exit_code == 3 and result.stdout == ""
    assert result.stderr.splitlines() == [
        "error[SEC607]: first (Conv2d) has a forward hook, which the generated source would lose", " --> net.py:7",
        "  |", "7 |         self.first = nn.Conv2d(1, 8, 3)", "  |         ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^",
        "  = help: remove it or put its work into forward", "  = note: secateur explain SEC607",
    ]  # fmt: skip


FILES = {
    "slip.py": ("from torch import nn\n\ndef make(:\n", "SEC203", 3, 10),
    "fails.py": ("one = 1; two = one / 0\n", "SEC203", 1, 16),
    "shape.py": (HOOKED.replace("first(x))", "first(x).flatten())"), "SEC204", 12, 16),
    "secateur.toml": ("ratio = 0.5\nmodel = net.py\n", "SEC105", 2, 9),
}


@pytest.mark.parametrize("name", FILES)
def test_the_place_in_a_file_is_told_to_programs(here: Path, name: str) -> None:
    text, code, line, column = FILES[name]
    (here / name).write_text(text)
    words = ("--model", f"{name}:make") if name.endswith(".py") else ()
    result = app("prune", *words, "--ratio", "0.5", "--input-shape", "1,8,8", "--json")
    found = json.loads(result.stdout)["error"]
    assert result.exit_code == 2
    assert (found["code"], Path(found["file"]).name, found["line"], found["column"]) == (code, name, line, column)
    assert f"{name}:{line}:{column}" in result.stderr


def test_a_refusal_without_a_file_is_one_line_and_an_object(here: Path) -> None:
    result = app("prune", *MODEL, "--ratio", "2", "--json")
    message = "--ratio 2: must lie between 0 and 1, both excluded; 0.5 removes half of the channels"
    nowhere = dict.fromkeys(("file", "line", "column", "help"))
    assert json.loads(result.stdout) == {"schema": 1, "error": {"code": "SEC401", "message": message, **nowhere}}
    assert result.stderr == f"error[SEC401]: {message}\n"
    assert uncoded(result.stderr) == f"error: {message}"
