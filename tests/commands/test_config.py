"""Options from ``secateur.toml`` and ``pyproject.toml``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from app_helpers import MODEL, app, refusal

pytestmark = pytest.mark.usefixtures("here")
NAMED = f'model = "{MODEL[1]}"\ninput-shape = "{MODEL[3]}"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("macs = = 1", "secateur.toml is no TOML: Invalid value (at line 1, column 8)"),
        ("macs = true", "secateur.toml: --macs takes a text or a number, not True"),
        ("macs = [0.5]", "secateur.toml: --macs takes a text or a number, not [0.5]"),
        ("skip = [true]", "secateur.toml: --skip takes texts or numbers, not [True]"),
        ("force = 1", "secateur.toml: --force is true or false, not 1"),
        ("prune = 1", "secateur.toml: prune is a command: write a table, [prune], with options in it"),
        ("[prune]\nmaxs = 0.5", "secateur.toml: prune: option 'maxs', did you mean 'macs'?"),
        ("rations = 0.5", "secateur.toml: option 'rations', did you mean 'ratio'?"),
        ("[prun]\nmacs = 1", "secateur.toml: option 'prun'"),
    ],
    ids=lambda text: " ".join(text.split())[:30],
)  # fmt: skip
def test_what_can_not_be_meant_is_refused_with_the_files_name(here: Path, text: str, said: str) -> None:
    (here / "secateur.toml").write_text(text)
    code, message = refusal("prune", *MODEL, "--ratio", "0.5")
    assert code == 2
    assert said in message


def test_a_value_that_the_option_does_not_take_is_refused_as_on_the_command_line(here: Path) -> None:
    (here / "secateur.toml").write_text('macs = "half"\n')
    assert "Invalid value for '--macs': 'half' is not a valid float" in app("prune", *MODEL).stderr


def test_a_file_that_is_named_and_missing_is_refused(here: Path) -> None:
    code, message = refusal("prune", *MODEL, "--config", "gone.toml")
    assert (code, message) == (2, "error: gone.toml can't be read: No such file or directory")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("secateur.toml", f"{NAMED}[prune]\nratio = 0.5\n"),
        ("pyproject.toml", f"[tool.secateur]\n{NAMED}[tool.secateur.prune]\nratio = 0.5\n"),
    ],
)
def test_options_of_a_file_count_as_if_they_were_typed(here: Path, name: str, text: str) -> None:
    (here / name).write_text(text)
    done = app("prune", "--search", "uniform", "--dry-run")
    assert done.exit_code == 0, done.stderr
    assert done.stderr.splitlines()[0] == f"from {name}: model, input-shape, ratio"
    typed = app("prune", *MODEL, "--search", "uniform", "--ratio", "0.5", "--dry-run", "--config", nothing())
    assert done.stdout == typed.stdout


def test_the_command_line_goes_before_the_file_and_replaces_its_other_budgets(here: Path) -> None:
    (here / "secateur.toml").write_text(f"{NAMED}macs = 0.9\nmin-channels = 3\nskip = 'conv2'\n")
    words = ("prune", "--search", "uniform", "--ratio", "0.5", "--dry-run", "--json")
    more = ("--min-channels", "2", "--skip", "fc")

    def kept(*typed: str) -> dict[str, int]:
        return {name: w["kept"] for name, w in json.loads(app(*words, *typed).stdout)["widths"].items()}

    assert (kept(), kept(*more)) == ({"conv1": 3}, {"conv1": 3, "conv2": 4})


def test_a_bundle_on_the_command_line_takes_the_place_of_the_files_network(here: Path) -> None:
    assert app("prune", "-q", *MODEL, "--ratio", "0.5", "-o", "out").exit_code == 0
    (here / "secateur.toml").write_text(NAMED)
    assert app("profile", "out", "--repeats", "1").exit_code == 0


def test_other_commands_options_are_left_out(here: Path) -> None:
    (here / "secateur.toml").write_text("ratio = 0.5\n[prune]\nforce = true\n")
    assert app("inspect", "--json", *MODEL).exit_code == 0


def nothing() -> str:
    Path("empty.toml").write_text("")
    return "empty.toml"
