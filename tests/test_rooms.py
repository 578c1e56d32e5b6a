"""Which room may import which: the table of the design, read from every file's imports."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "secateur"
MAY_IMPORT = {
    "models": {"secateur.pruners.decorators", "secateur.pruners.errors", "models"},
    "pruners": {"pruners"},
    "training": {"secateur.pruners.costs.model", "secateur.pruners.errors", "secateur.pruners.costs.precision", "training"},
    "commands": {"commands", "models", "pruners", "training"},
    "app.py": {"commands", "pruners"},
}


def imports(file: Path, top_only: bool = False) -> set[str]:
    """Full names of the modules a file imports; ``top_only``: when it is itself imported."""
    tree = ast.parse(file.read_text("utf-8"))
    nodes = tree.body if top_only else ast.walk(tree)
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_only_the_rooms_below_it(room):
    files = [ROOT / room] if room.endswith(".py") else sorted((ROOT / room).rglob("*.py"))
    assert files
    for file in files:
        for name in imports(file):
            top, _, own = name.partition(".")
            allowed = any(own == a or own.startswith(f"{a}.") for a in MAY_IMPORT[room])
            assert allowed or top != PACKAGE, f"{file.relative_to(ROOT)} imports {name}"


def test_networks_import_torch_and_the_decorators_only():
    for file in (ROOT / "models" / "cifar").glob("*.py"):
        for name in imports(file):
            assert name in {"__future__", "math", "secateur.pruners.decorators"} or name.partition(".")[0] in {
                "torch", "collections",
            }, f"{file.name} imports {name}"  # fmt: skip


def test_the_command_line_imports_only_click_when_it_starts():
    light = {"__future__", "collections.abc", "importlib", "os", "pathlib", "shlex", "sys", "typing", "click"}
    assert imports(ROOT / "app.py", top_only=True) <= light | {"secateur.commands"}  # for its flags
    assert imports(ROOT / "commands" / "flags.py", top_only=True) <= light
