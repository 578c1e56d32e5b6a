"""Rare layouts survive the writer: what is kept is the author's text byte for byte, and the written file runs."""

from __future__ import annotations

import ast
import importlib.util
import sys
from pathlib import Path
from typing import cast

import libcst
import pytest
import source_shapes as shapes
import torch
from source_helpers import assert_writes, load
from torch import nn

from secateur import prune
from secateur.pruners.errors import SourceError
from secateur.pruners.source import Entry, LiteralSite, write_source
from secateur.pruners.source.file.edits import Edit, with_edits
from secateur.pruners.source.text import Concrete, SourceFile

X = torch.arange(12.0).view(3, 4)
IMAGE = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def _concrete(text: str) -> Concrete:
    return Concrete("net.py", text.splitlines(keepends=True), ast.parse(text))


def _span(text: str, part: str, count: int = 0) -> tuple[int, int, int, int]:
    """The place of a part in the text as ``ast`` counts: lines from 1, columns in bytes."""
    at = -1
    for _ in range(count + 1):
        at = text.index(part, at + 1)
    line, col = text.count("\n", 0, at) + 1, len(text[text.rfind("\n", 0, at) + 1 : at].encode())
    return line, col, line, col + len(part.encode())


# refusals


def test_a_file_that_libcst_cannot_read_is_refused_by_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: str) -> None:
        raise libcst.ParserSyntaxError("unknown syntax", lines=["a", "b"], raw_line=2, raw_column=0)

    monkeypatch.setattr(libcst, "parse_module", fail)
    with pytest.raises(SourceError, match=r"net\.py:2: libcst can't read"):
        _concrete("x = 1\n")


def test_a_file_that_libcst_changes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    made = libcst.parse_module("x = 2\n")
    monkeypatch.setattr(libcst, "parse_module", lambda _: made)
    with pytest.raises(SourceError, match="doesn't give this file back"):
        _concrete("x = 1\n")


def test_two_trees_that_disagree_are_refused() -> None:
    with pytest.raises(SourceError, match="different statements"):
        Concrete("net.py", ["x = 1\n"], ast.parse("x = 1; y = 2"))


@pytest.mark.parametrize("span", [(1, 4, 1, 6), (1, 0, 1, 5), (9, 0, 9, 1)], ids=["half", "statement", "past the end"])
def test_a_span_that_is_no_expression_is_refused(span: tuple[int, int, int, int]) -> None:
    with pytest.raises(SourceError, match=f"net.py:{span[0]}: there is no expression"):
        with_edits(SourceFile("net.py", ["x = 100\n"]), (Edit(span, "1"),))


# replacing expressions


EXPRESSIONS = [
    "100", "-1", "(1, 2)", "((1, 2))", "f(1)[2]", "(x + 1)", "(a for a in b)", "(  1,  # one\n    2,\n)", "é + ü",
    "'é', 3", "x.view(-1, (4 * 8))", "[*a, {b: c}]", "a if b else c", "(yield)",
]  # fmt: skip


class _New(ast.NodeTransformer):
    """Another name in place of one expression."""

    def __init__(self, old: ast.expr) -> None:
        self.old = old

    def visit(self, node: ast.AST) -> ast.AST:
        return ast.Name("_new_", getattr(node, "ctx", ast.Load())) if node is self.old else super().visit(node)


@pytest.mark.parametrize("text", EXPRESSIONS)
def test_every_expression_is_replaced_where_ast_sees_it(text: str) -> None:
    for frame in ["größe = {}\n", "def f():\n    'é'; return {}\n", "'''\né\n'''\n\n@d({})\ndef f(): pass\n"]:
        file = SourceFile("net.py", frame.format(text).splitlines(keepends=True))
        for number, node in enumerate(ast.walk(file.tree)):
            if isinstance(node, ast.expr) and not isinstance(node, ast.Starred):
                span = (node.lineno, node.col_offset, node.end_lineno or 0, node.end_col_offset or 0)
                found = with_edits(file, (Edit(span, "_new_"),)).module.code
                tree = ast.parse(file.text)
                wanted = _New(cast(ast.expr, list(ast.walk(tree))[number])).visit(tree)
                assert ast.dump(ast.parse(found)) == ast.dump(wanted)


@pytest.mark.parametrize(
    ("call", "longer"),
    [
        ("f(1)", "f(1, groups=2)"),
        ("f(a, b)", "f(a, b, groups=2)"),
        ("f(a,\n  b,\n)", "f(a,\n  b,\n  groups=2,\n)"),
        ("f(a, (b))", "f(a, (b), groups=2)"),
        ("f(a,  # one\n  *b)", "f(a,  # one\n  *b, groups=2)"),
    ],
)
def test_an_argument_more_stands_behind_the_others(call: str, longer: str) -> None:
    file = SourceFile("net.py", f"x = {call}\n".splitlines(keepends=True))
    node = next(n for n in ast.walk(file.tree) if isinstance(n, ast.Call))
    span = (node.lineno, node.col_offset, node.end_lineno or 0, node.end_col_offset or 0)
    assert with_edits(file, (Edit(span, "2", "groups"),)).module.code == f"x = {longer}\n"


def test_of_edits_in_each_other_the_outer_one_counts() -> None:
    file = SourceFile("net.py", ["x = f(a, 10)\n"])
    inner, call, more = Edit((1, 9, 1, 11), "20"), Edit((1, 4, 1, 12), "1"), Edit((1, 4, 1, 12), "2", "groups")
    assert with_edits(file, (inner, call)).module.code == "x = 1\n"
    assert with_edits(file, (inner, more)).module.code == "x = f(a, 20, groups=2)\n"


# whole files


def _written(text: str, folder: Path, x: torch.Tensor, name: str = "Net") -> str:
    factory = getattr(load(text, folder, "shapes"), name)
    return assert_writes(factory(), Entry(factory, {}, name), folder, x)


def _assert_kept(source: str, written: str, *parts: str) -> None:
    for part in parts:
        assert part in source
        assert part in written


def test_tabs_and_comments_around_decorators_stay(tmp_path: Path) -> None:
    text = _written(shapes.TABS, tmp_path, IMAGE)
    start, end = shapes.TABS.index("# above the decorators"), shapes.TABS.index("class Net")
    _assert_kept(shapes.TABS, text, shapes.TABS[start:end].rstrip())
    start = shapes.TABS.index("\t# about forward")
    _assert_kept(shapes.TABS, text, shapes.TABS[start:].rstrip(), "\t\t# the layer\n")
    assert "\ta = 1; b = 2  # two on a line\n" in text


def test_statements_on_one_line_stay_there_and_leave_alone(tmp_path: Path) -> None:
    text = _written(shapes.ONE_LINE, tmp_path, IMAGE)
    _assert_kept(shapes.ONE_LINE, text, "class Act(nn.ReLU): pass", "class Marker: pass")
    _assert_kept(shapes.ONE_LINE, text, "class Values: x = 1; y = 2; z = 3  # three")
    twice = "class Twice(nn.Module): scale = 2; unused = 3; forward = lambda self, x: x * self.scale"
    _assert_kept(shapes.ONE_LINE, text, twice)
    assert "\nB = 2  # constants\n" in text
    assert "A = 1" not in text
    _assert_kept(shapes.ONE_LINE, text, "    def forward(self, x): y = self.act(self.conv(x)); return")


def test_form_feeds_do_not_shift_anything(tmp_path: Path) -> None:
    module = load(shapes.FORM_FEEDS, tmp_path, "shapes")
    span = _span(shapes.FORM_FEEDS.replace("\r", ""), "4", 1)
    site = LiteralSite(str(module.__file__), *span, {"": 2})
    text = write_source(module.Net(), Entry(module.make, {}, "make"), rewrites=[site])
    assert "x.view(-1, 2)" in text
    assert '"""A page\x0cbreak."""' in text
    load(text, tmp_path).make()


ENDS = """from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        return self.head(self.stem(x).mean((2, 3)))  # over all places
"""


def test_carriage_returns_come_out_as_plain_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "crlf.py"
    path.write_bytes(shapes.COMMENTS.replace("\n", "\r\n").encode())
    module = load("", tmp_path)
    exec(compile(path.read_bytes(), str(path), "exec"), vars(module))
    module.__file__ = str(path)
    text = write_source(module.Net(), Entry(module.Net, {}, "Net"))
    assert "\r" not in text
    assert "    # above forward\n    def forward" in text


def test_a_published_file_has_the_line_ends_of_the_authors(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_bytes(ENDS.replace("\n", "\r\n").encode())
    spec = importlib.util.spec_from_file_location("net_of_windows", tmp_path / "net.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules["net_of_windows"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    bundle = prune(module.Net(), torch.randn(1, 3, 8, 8), ratio=0.5, output=tmp_path / "out")
    assert bundle.path is not None
    written = (bundle.path / "model.py").read_bytes()
    assert written.count(b"\r\n") == written.count(b"\n") > 10
    assert written.count(b"\r\r") == 0 and "\r" not in bundle.source


def test_nested_classes_move_left_and_their_strings_do_not(tmp_path: Path) -> None:
    text = _written(shapes.NESTED, tmp_path, X[:, :3], "build")
    twin = load(text, tmp_path).build()
    assert twin.inner.text == load(shapes.NESTED, tmp_path).build().inner.text
    assert "\n    class Config:\n        scale = 2\n        # said inside\n\n        def twice(self): return" in text
    guarded = _written(shapes.NESTED, tmp_path, X[:, :3], "Net2")
    assert "\nclass Net2(nn.Module):\n    def __init__(self):\n" in guarded


@pytest.mark.parametrize("count", [0, 1], ids=["in parentheses", "behind wide letters"])
def test_a_number_behind_wide_letters_is_found(count: int, tmp_path: Path) -> None:
    module = load(shapes.UNICODE, tmp_path, "shapes")
    spans = [_span(shapes.UNICODE, "4 * 8 * 8", n) for n in range(2)]
    site = LiteralSite(str(module.__file__), *spans[count], {"": 256})
    text = write_source(module.Net(), Entry(module.Net, {}, "Net"), rewrites=[site])
    line = next(s for s in shapes.UNICODE.splitlines() if "größe =" in s)
    wanted = [line.replace("(4 * 8 * 8)", "(256)"), line.replace("), 4 * 8 * 8", "), 256")][count]
    assert wanted + "\n" in text
    assert load(text, tmp_path).Net()(IMAGE).shape == (2, 10)


def test_strings_of_several_lines_in_a_constructor_keep_their_value(tmp_path: Path) -> None:
    text = _written(shapes.STRINGS, tmp_path, X)
    before, after = load(shapes.STRINGS, tmp_path).Net(), load(text, tmp_path).Net()
    assert (after.note, after.more) == (before.note, before.more)
    assert type(after).__init__.__doc__ == type(before).__init__.__doc__


def test_a_constructor_that_a_parent_has_is_written_into_the_class(tmp_path: Path) -> None:
    text = _written(shapes.INHERITED, tmp_path, X)
    assert "    scale = 2\n\n    def __init__(self" in text


def test_comments_go_with_what_they_stand_at(tmp_path: Path) -> None:
    text = _written(shapes.COMMENTS, tmp_path, X)
    for stays in [
        "# above LIMIT\nLIMIT = (  # opens\n    1,  # first\n    2,\n)  # closes\n",
        "# far away\n\n# above Net\nclass Net(nn.Module):  # behind the colon\n    # opens the class\n",
        "    # above stays\n    stays = 2  # stays\n\n    # above the constructor\n    def __init__",
        "self.fc = self._gone()  # the layer\n\n    # above helper",
        "* LIMIT[1]\n    # at the end\n",
    ]:
        assert stays in text


def test_the_comment_at_the_top_is_carried_without_what_only_this_file_needed(tmp_path: Path) -> None:
    text = _written(shapes.COMMENTS, tmp_path, X)
    licence = "# Copyright (c) somebody. Licensed under the MIT licence.\n#\n# Second paragraph.\n\n"
    assert text.startswith(licence + '"""')
    origin = "# ----\n# Modified from somewhere.\n\n"
    assert _written(origin + shapes.TABS, tmp_path, IMAGE).startswith(origin + '"""')
    assert _written(shapes.TABS, tmp_path, IMAGE).startswith('"""')


def test_untouched_networks_keep_their_class(tmp_path: Path) -> None:
    assert isinstance(load(_written(shapes.COMMENTS, tmp_path, X), tmp_path).Net(), nn.Module)
