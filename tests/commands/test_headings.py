"""Help under headings."""

from __future__ import annotations

import re

import click
import pytest
from click.testing import CliRunner

from secateur.app import cli
from secateur.commands.cli.headings import FIRST, HEADINGS, OWN

LISTED = [name for names in HEADINGS.values() for name in names.split()]


def options(command: click.Command) -> set[str]:
    return {p.name for p in command.params if isinstance(p, click.Option) and not p.hidden and p.name}


def test_no_option_is_listed_twice_or_for_nothing() -> None:
    known = set().union(*map(options, cli.commands.values()))
    assert len(set(LISTED)) == len(LISTED)
    assert set(LISTED) <= known


@pytest.mark.parametrize("name", cli.commands)
def test_every_option_is_shown_once(name: str) -> None:
    text = CliRunner().invoke(cli, [name, "--help"], prog_name="secateur").output
    words = re.findall(r"^  (?:-\w, )?(--[\w-]+)", text, re.MULTILINE)
    ways = {o for p in cli.commands[name].params if isinstance(p, click.Option) and not p.hidden for o in p.opts}
    assert len(words) == len(set(words)) == len(options(cli.commands[name])) + 1
    assert set(words) <= ways | {"--help"}


def test_what_matters_first_comes_first() -> None:
    text = CliRunner().invoke(cli, ["prune", "--help"]).output
    assert re.findall(r"^(\S.*):$", text, re.MULTILINE) == [h for h in HEADINGS if h != OWN]
    first = text[: text.index("The network:")]
    assert re.findall(r"--([\w-]+) ", first[first.index("First of all:") :])
    assert [w.replace("_", "-") for w in FIRST.split()] == re.findall(r"^  (?:-\w, )?--([a-z-]+)", first, re.MULTILINE)


def test_a_few_options_have_no_headings() -> None:
    assert "Options:" in CliRunner().invoke(cli, ["archs", "--help"]).output


@pytest.mark.parametrize("name", cli.commands)
@pytest.mark.parametrize("width", [60, 80])
def test_help_fits_the_terminal(name: str, width: int) -> None:
    text = CliRunner().invoke(cli, [name, "--help"], prog_name="secateur", terminal_width=width).output
    listed = [line for line in text.splitlines() if not re.match(r"  -[\w-]", line)]  # they stay whole
    assert max(map(len, listed)) <= width
    assert width < 80 or max(map(len, text.splitlines())) <= width


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("prune --met", {"--metric"}),
        ("prune --metric l", {"l1", "l2"}),
        ("prune --arch resnet2", {"resnet20"}),
        ("prune --search s", {"sensitivity"}),
        ("exp", {"explain"}),
    ],
)
def test_the_shell_completes(typed: str, offered: set[str]) -> None:
    words = {"_SECATEUR_COMPLETE": "zsh_complete", "COMP_WORDS": f"secateur {typed}"}
    words["COMP_CWORD"] = str(len(typed.split()))
    output = CliRunner().invoke(cli, prog_name="secateur", env=words).output
    assert offered <= set(output.splitlines())
