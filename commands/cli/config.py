"""Options from a file: ``secateur.toml``, or ``[tool.secateur]`` in ``pyproject.toml``, in the current folder."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click

from ...pruners.budgets import MEANING
from ...pruners.errors import ConfigError
from ...pruners.places import Site
from ...pruners.registry import check_name

OWN, PROJECTS = Path("secateur.toml"), Path("pyproject.toml")
_NETWORK = {"arch", "model", "bundle"}
_INSTEAD = (set(MEANING), _NETWORK)
"""What the command line says of one of these takes the place of what the file says of the others."""
_OF_A_NETWORK = {
    "weights", "network", "kind_arg", "model_arg", "first_layer", "last_layer", "init_from", "input_shape", "example",
    "dtype", "attn", "residual", "per_layer", "ema", "allow_class",
}  # fmt: skip


def from_file(
    command: click.Command, given: Mapping[str, Any], commands: Mapping[str, click.Command]
) -> tuple[Path, dict[str, Any]]:
    """The file, and what it says for a command: options by their names in Python, without those that ``given``, the
    ones of the command line, replace.

    Keys are options without the dashes before them, of all ``commands`` at the top and of one in the table of its name.
    Raises UsageError for what is no TOML, and for keys and values that can't be meant, with the file's name.
    """
    path, table = _found(given.get("config"))
    options = {name: _options(each) for name, each in commands.items()}
    known, takes = {key for each in options.values() for key in each}, _options(command)
    own = {}
    for key, value in table.items():
        if key in options:
            if not isinstance(value, dict):
                raise ConfigError(f"{path}: {key} is a command: write a table, [{key}], with options in it")
            if key == command.name:
                own = _named(value, takes, f"{path}: {key}: option")
        else:
            check_name(f"{path}: option", key.replace("_", "-"), sorted(known))
    common = {k: v for k, v in table.items() if k not in options and k.replace("_", "-") in takes}
    found = {**_named(common, takes, f"{path}: option"), **own}
    for name, value in found.items():
        _check(path, command, name, value)
    gone = {name for names in _INSTEAD if names & given.keys() for name in names}
    gone |= _OF_A_NETWORK if _NETWORK & given.keys() else set()
    return path, {name: value for name, value in found.items() if name not in gone and name not in given}


def _found(asked: str | None) -> tuple[Path, dict[str, Any]]:
    """The file, and what it says."""
    path = Path(asked) if asked is not None else OWN if OWN.is_file() else PROJECTS
    if asked is None and not path.is_file():
        return path, {}
    table = _read(path)
    return path, _section(path, table) if path.name == PROJECTS.name else table


def _section(path: Path, table: Mapping[str, Any]) -> dict[str, Any]:
    tools = table.get("tool", {})
    found = tools.get("secateur", {}) if isinstance(tools, dict) else {}
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: tool.secateur must be a table, [tool.secateur]")
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror}") from None
    except ValueError as error:  # of TOML or of its encoding
        at = re.search(r"\(at line (\d+), column (\d+)\)", str(error))
        line, column = (int(at[1]), int(at[2]) - 1) if at else (0, 0)
        site = Site(str(path), line, span=(line, column, line, column + 1)) if at else None
        way = 'options are written in TOML, as in arch = "resnet"' if path.suffix in (".yaml", ".yml", ".json") else ""
        raise ConfigError(f"{path} is no TOML: {str(error).splitlines()[0]}", site=site, help=way) from None


def _options(command: click.Command) -> dict[str, click.Option]:
    return {
        word.removeprefix("--"): p for p in command.params if isinstance(p, click.Option) and p.name != "config"
        for word in p.opts if word.startswith("--")
    }  # fmt: skip


def _named(table: Mapping[str, Any], options: Mapping[str, click.Option], kind: str) -> dict[str, Any]:
    found = {}
    for key, value in table.items():
        word = key.replace("_", "-")
        check_name(kind, word, sorted(options))
        option = options[word]
        if option.multiple and isinstance(value, dict):
            value = [f"{k}={v}" for k, v in value.items()]
        several = option.multiple and not isinstance(value, list)
        found[str(option.name)] = [value] if several else value
    return found


def _check(path: Path, command: click.Command, name: str, value: Any) -> None:
    """UsageError for a value of a kind that the option doesn't take."""
    option = next(p for p in command.params if p.name == name)
    assert isinstance(option, click.Option)
    word = max(option.opts, key=len)
    if option.is_flag and option.type.name == "boolean":
        if not isinstance(value, bool):
            raise ConfigError(f"{path}: {word} is true or false, not {value!r}")
    elif option.count:
        if not isinstance(value, int):
            raise ConfigError(f"{path}: {word} is a number, not {value!r}")
    elif not all(isinstance(v, (str, int, float)) and not isinstance(v, bool) for v in _each(option, value)):
        raise ConfigError(f"{path}: {word} takes {'texts or numbers' if option.multiple else 'a text or a number'}, "
                         f"not {value!r}")  # fmt: skip


def _each(option: click.Option, value: Any) -> Iterable[Any]:
    return value if option.multiple else [value]
