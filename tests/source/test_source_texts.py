"""Whatever a text holds, written into a file it stays that text: in the header, as an argument, in the report."""

from __future__ import annotations

import ast
import builtins
import html
import importlib.util
import re
import sys

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from secateur.pruners.bundle import render_report
from secateur.pruners.entry import Entry
from secateur.pruners.errors import SourceError
from secateur.pruners.plan import PruningPlan, WidthPlan
from secateur.pruners.source import Header, write_source
from secateur.pruners.source.file import render
from secateur.pruners.source.file.render import Top
from secateur.pruners.source.text import as_docstring, quoted

CALL = 'setattr(__import__("builtins"), "was_run", True)'
BREAKING_OUT = [
    f'"""";{CALL};x="a"""""', f'""";{CALL};x="""', f'\\""";{CALL};x="""', f'\n"""\n{CALL}\nx="""', f'\\\\""";{CALL}#',
    f'"\r"""\r{CALL}\r"""', '"', '""', '"""', '""""', '\\', '\\"', "'''", "\x00", "\r\n", "\f", "\ud800",
    "\u202e\u2066", "{{ 1 }}", "{% raw %}", "<script>", "\\N{DEGREE SIGN}", "\\u0022" * 3,
]  # fmt: skip
pieces = st.sampled_from(['"', "'", "\\", "\n", "\r", "\t", "\x00", "\u202e", "\u2028", "\ud83d", "{{", "#", "a", CALL])
texts = st.one_of(st.lists(pieces).map("".join), st.text(st.characters(exclude_categories=())))
NET = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, note="", keys=()):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.note = note
        self.keys = dict.fromkeys(keys, note)

    def forward(self, x):
        if self.note in self.keys:
            x = x + 1
        return self.conv(x)
"""


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    path = tmp_path_factory.mktemp("net") / "net_of_texts.py"
    path.write_text(NET)
    spec = importlib.util.spec_from_file_location("net_of_texts", path)
    module = sys.modules["net_of_texts"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module.Net
    del sys.modules["net_of_texts"]


def test_a_header_that_would_be_more_than_a_docstring_is_refused(monkeypatch):
    monkeypatch.setitem(render.__globals__, "as_docstring", lambda text: f'"""{text}"""')
    with pytest.raises(SourceError, match="something in its header is no text"):
        render(Entry(dict, {}, "dict", 'x""";print();"""'), None, Top("", ""), [], [], False)


@given(texts)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])  # on a busy machine
@pytest.mark.parametrize("known", BREAKING_OUT)
def test_literals_are_the_text(known, text):
    for meant in (known, text, known + text, text + known):
        for literal in (quoted(meant), as_docstring(meant)):
            parsed = ast.parse(f"a\n{literal}\nb").body
            assert len(parsed) == 3 and parsed[1].value.value == meant
            literal.encode()
            assert all(c.isprintable() or c == "\n" for c in literal)


@given(texts, texts)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(BREAKING_OUT[0], BREAKING_OUT[3])
@example("\ud800", "\u202e")
def test_texts_of_header_and_arguments_stay_texts_in_the_written_file(net, note, origin):
    model = net(note, (note, "other"))
    source = write_source(model, Entry(net, {}, "Net", origin), header=Header(origin=origin, plan=note))
    assert not hasattr(builtins, "was_run")
    parsed = ast.parse(source.encode())
    if origin:
        told = origin.encode(errors="backslashreplace").decode()
        assert f"Source:   {told}\n" in parsed.body[0].value.value
    constants = {n.value for n in ast.walk(parsed) if isinstance(n, ast.Constant)}
    assert note in constants
    module: dict = {"__name__": "written"}
    exec(compile(source, "written", "exec"), module)
    twin = module["Net"]()
    assert twin.note == note and list(twin.keys) == list(dict.fromkeys((note, "other")))
    assert not hasattr(builtins, "was_run")


@given(texts, texts)
@settings(max_examples=50, deadline=None)
@example("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>')
def test_texts_in_the_report_are_shown_and_nothing_else(name, value):
    summary = {
        "factory": name, "file": "model.py", "source": value, "max_abs_diff": 0.0,
        "frozen": [{"layers": [name], "channels": 1, "reason": value, "place": name}],
    }  # fmt: skip
    plan = PruningPlan({name: WidthPlan(2, (0,))}, {"arguments": {name: value}, name or "x": value})
    page = render_report(summary, plan)
    plain = render_report(
        {**summary, "factory": "", "source": "", "frozen": [{**summary["frozen"][0], "layers": [""], "reason": ""}]},
        PruningPlan({"": WidthPlan(2, (0,))}, {"arguments": {"": ""}, "x": "y"}),
    )
    page.encode()
    assert set(re.findall(r"<[a-z!/][^ >]*", page)) <= set(re.findall(r"<[a-z!/][^ >]*", plain))
    assert "\u202e" not in page and "\x00" not in page
    if name.isprintable():
        assert html.escape(name) in page.replace("&#34;", "&quot;").replace("&#39;", "&#x27;")
