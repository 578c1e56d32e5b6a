"""Which room may import which: the table of the design, read from every file's imports.

A room is a folder with a face (its ``__init__.py``), or a file beside the folders. Others import a room's face and
nothing behind it; a room within a room is for that room only.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import networkx as nx
import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "secateur"
TOPS = ("app", "commands", "models", "pruners", "training")

_TABLE = {
    "app": "commands.cli commands.network pruners.ahead pruners.base pruners.errors pruners.imports",
    "commands.apply": (
        "commands.cli commands.network commands.show pruners.bundle pruners.errors pruners.plan pruners.shown "
        "training.fit"
    ),
    "commands.archs": "commands.cli models.registry",
    "commands.check": (
        "commands.cli commands.show pruners.base pruners.declare pruners.decorators pruners.errors "
        "pruners.loading"
    ),
    "commands.cli": (
        "models.registry pruners.budgets pruners.clusters pruners.errors pruners.named_files pruners.outputs "
        "pruners.places "
        "pruners.registry"
    ),
    "commands.compare": (
        "commands.cli commands.comparing commands.network commands.pack commands.show models.registry "
        "pruners.bundle pruners.errors pruners.latency pruners.outputs pruners.scratch training.data training.fit "
        "training.packing"
    ),
    "commands.comparing": "commands.cli pruners.errors pruners.outputs training.packing",
    "commands.curves": (
        "commands.cli commands.network commands.show pruners.errors pruners.metrics pruners.outputs "
        "pruners.plan pruners.search training.binarization.kinds training.data training.fit"
    ),
    "commands.doctor": "commands.cli commands.show pruners.errors",
    "commands.explain": "commands.cli pruners.errors",
    "commands.evaluate": (
        "commands.cli commands.network commands.show pruners.errors pruners.measure training.data training.fit"
    ),
    "commands.export": (
        "commands.cli commands.network commands.show pruners.bundle pruners.errors pruners.latency pruners.outputs "
        "pruners.run training.data training.exporting training.fit"
    ),
    "commands.inspect": "commands.cli commands.network commands.show models.registry pruners.bundle pruners.graph",
    "commands.network": (
        "commands.cli commands.show models.other_layouts models.registry pruners.base pruners.bundle "
        "pruners.configured pruners.entry pruners.errors pruners.hub pruners.imports pruners.loading "
        "pruners.named_files pruners.outputs pruners.run pruners.shown pruners.synthetic "
        "training.binarization.kinds training.data training.fit"
    ),
    "commands.pack": (
        "commands.cli commands.network commands.show pruners.bundle pruners.errors pruners.outputs pruners.scratch "
        "pruners.verify training.data training.packing"
    ),
    "commands.profile": (
        "commands.cli commands.network commands.show pruners.bundle pruners.costs pruners.run "
        "training.binarization"
    ),
    "commands.prune": (
        "commands.cli commands.network commands.profile commands.pruning commands.show pruners.bundle pruners.costs "
        "pruners.errors pruners.measure pruners.metrics pruners.pipeline pruners.search pruners.transfer training.data"
    ),
    "commands.pruning": (
        "commands.cli commands.network commands.show pruners.base pruners.bundle pruners.depth pruners.errors "
        "pruners.hub pruners.latency pruners.measure pruners.metrics pruners.named_files pruners.optimizer_groups "
        "pruners.pipeline pruners.plan pruners.run pruners.scratch pruners.search pruners.transfer "
        "pruners.weight_transfer training.binarization training.binarization.kinds training.data training.fit"
    ),
    "commands.quantize": (
        "commands.cli commands.network commands.quantizing commands.show pruners.bundle pruners.errors "
        "pruners.plan training.binarization training.data"
    ),
    "commands.quantizing": (
        "commands.cli commands.show pruners.bundle pruners.errors pruners.run training.binarization "
        "training.data training.fit"
    ),
    "commands.report": "commands.cli commands.show pruners.bundle pruners.errors pruners.outputs",
    "commands.retrain": (
        "commands.cli commands.network commands.show pruners.bundle pruners.configured pruners.costs pruners.errors "
        "pruners.hub pruners.run pruners.verify training.data training.fit"
    ),
    "commands.show": "pruners.bundle pruners.errors pruners.latency pruners.metrics pruners.search training.fit",
    "commands.train": (
        "commands.cli commands.network commands.show pruners.errors pruners.metrics pruners.outputs training.data "
        "training.fit"
    ),
    "models.binary": "pruners.decorators",
    "models.cifar": "pruners.decorators",
    "models.registry": "pruners.errors pruners.registry",
    "pruners.ahead": "pruners.imports",
    "pruners.alexnet": "pruners.base",
    "pruners.api": (
        "pruners.base pruners.bundle pruners.clusters pruners.configured pruners.costs pruners.entry pruners.errors "
        "pruners.hub pruners.latency pruners.measure pruners.metrics pruners.pipeline pruners.plan pruners.run "
        "pruners.search pruners.steps pruners.transfer"
    ),
    "pruners.base": (
        "pruners.bundle pruners.costs pruners.declare pruners.depth pruners.errors pruners.graph pruners.metrics "
        "pruners.plan pruners.run pruners.scratch pruners.slicing pruners.source pruners.trace pruners.verify"
    ),
    "pruners.budgets": "pruners.errors",
    "pruners.bundle": (
        "pruners.bundle.report pruners.errors pruners.graph pruners.hub pruners.named_files pruners.outputs "
        "pruners.places pruners.plan pruners.saving pruners.scratch pruners.shown"
    ),
    "pruners.clusters": "pruners.errors",
    "pruners.bundle.report": "pruners.errors pruners.plan pruners.shown",
    "pruners.configured": (
        "pruners.base pruners.bundle pruners.costs pruners.depth pruners.entry pruners.errors pruners.graph "
        "pruners.hub pruners.mixtures pruners.places pruners.plan pruners.run pruners.scratch pruners.slicing "
        "pruners.source pruners.trace pruners.verify pruners.weight_transfer"
    ),
    "pruners.costs": "pruners.budgets pruners.errors pruners.graph pruners.run",
    "pruners.declare": (
        "pruners.decorators pruners.dependencies pruners.errors pruners.graph pruners.run pruners.trace"
    ),
    "pruners.decorators": "pruners.errors pruners.places",
    "pruners.depth": "pruners.errors pruners.run",
    "pruners.dependencies": "pruners.decorators pruners.graph",
    "pruners.errors": "pruners.places",
    "pruners.graph": "pruners.errors pruners.places pruners.run pruners.shown",
    "pruners.healing": "pruners.errors pruners.run",
    "pruners.hub": "pruners.errors pruners.run pruners.scratch pruners.shown",
    "pruners.mixtures": "pruners.errors pruners.hub pruners.run pruners.verify",
    "pruners.layer_words": "pruners.registry",
    "pruners.latency": "pruners.costs pruners.errors pruners.graph pruners.outputs pruners.run pruners.slicing",
    "pruners.least_squares": "pruners.costs pruners.errors pruners.graph pruners.run",
    "pruners.lenet5": "pruners.base",
    "pruners.loading": "pruners.entry pruners.errors pruners.named_files pruners.places pruners.registry",
    "pruners.measure": "pruners.errors pruners.loading pruners.run",
    "pruners.metrics": (
        "pruners.costs pruners.errors pruners.graph pruners.least_squares pruners.registry pruners.run"
    ),
    "pruners.mobilenetv2": "pruners.base",
    "pruners.model_writers": "pruners.decorators",
    "pruners.named_files": "pruners.errors",
    "pruners.nin": "pruners.base",
    "pruners.optimizer_groups": "pruners.errors pruners.run",
    "pruners.outputs": "pruners.errors",
    "pruners.pipeline": (
        "pruners.base pruners.bundle pruners.costs pruners.depth pruners.errors pruners.graph pruners.latency "
        "pruners.plan pruners.run pruners.search pruners.transfer"
    ),
    "pruners.plan": "pruners.errors pruners.graph pruners.provenance pruners.shown",
    "pruners.provenance": "pruners.errors",
    "pruners.registry": "pruners.errors",
    "pruners.resnet": "pruners.base",
    "pruners.run": "pruners.errors pruners.places pruners.run.isolated",
    "pruners.run.isolated": "",
    "pruners.search": (
        "pruners.clusters pruners.costs pruners.errors pruners.graph pruners.layer_words pruners.metrics "
        "pruners.outputs pruners.plan pruners.registry pruners.run pruners.saving "
        "pruners.scratch pruners.slicing"
    ),
    "pruners.slicing": (
        "pruners.errors pruners.graph pruners.places pruners.run pruners.trace pruners.weight_transfer"
    ),
    "pruners.source": (
        "pruners.entry pruners.errors pruners.model_writers pruners.places pruners.run pruners.source.author "
        "pruners.source.constructor pruners.source.file pruners.source.live pruners.source.text"
    ),
    "pruners.source.author": "pruners.errors pruners.places pruners.run pruners.source.live pruners.source.text",
    "pruners.source.constructor": (
        "pruners.errors pruners.places pruners.run pruners.source.author pruners.source.live "
        "pruners.source.text"
    ),
    "pruners.source.file": (
        "pruners.entry pruners.errors pruners.places pruners.run pruners.shown pruners.source.author "
        "pruners.source.constructor pruners.source.live pruners.source.text"
    ),
    "pruners.source.live": "pruners.entry pruners.errors pruners.places pruners.run pruners.source.text",
    "pruners.source.text": "pruners.errors pruners.places pruners.shown",
    "pruners.squeezenet": "pruners.base",
    "pruners.steps": (
        "pruners.base pruners.bundle pruners.costs pruners.entry pruners.errors pruners.graph pruners.hub "
        "pruners.metrics pruners.pipeline pruners.places pruners.plan pruners.run pruners.search pruners.slicing "
        "pruners.weight_transfer"
    ),
    "pruners.trace": (
        "pruners.decorators pruners.errors pruners.graph pruners.layer_words pruners.places pruners.run "
        "pruners.trace.labelling pruners.trace.rules"
    ),
    "pruners.trace.labelling": "pruners.errors pruners.graph pruners.places pruners.run",
    "pruners.trace.rules": "pruners.errors pruners.places pruners.run pruners.trace.labelling",
    "pruners.synthetic": "pruners.run",
    "pruners.transfer": (
        "pruners.errors pruners.graph pruners.healing pruners.least_squares pruners.registry pruners.run "
        "pruners.weight_transfer"
    ),
    "pruners.verify": (
        "pruners.ahead pruners.costs pruners.errors pruners.graph pruners.run pruners.scratch pruners.slicing "
        "pruners.weight_transfer"
    ),
    "pruners.vgg": "pruners.base",
    "pruners.vgg_small": "pruners.base",
    "pruners.weight_transfer": "pruners.decorators pruners.errors pruners.graph",
    "training.binarization": "pruners.costs pruners.errors pruners.registry pruners.run",
    "training.binarization.kinds": "pruners.costs pruners.errors pruners.registry training.binarization",
    "training.data": (
        "pruners.errors pruners.loading pruners.named_files pruners.places pruners.registry pruners.run "
        "training.binarization"
    ),
    "training.exporting": "pruners.errors pruners.hub pruners.latency pruners.run pruners.verify",
    "training.fit": (
        "pruners.errors pruners.named_files pruners.outputs pruners.registry pruners.run pruners.saving "
        "training.binarization training.binarization.kinds training.data"
    ),
    "training.packing": (
        "pruners.bundle pruners.costs pruners.errors pruners.latency pruners.run pruners.verify training.binarization"
    ),
}
MAY_IMPORT = {room: set(allowed.split()) for room, allowed in _TABLE.items()}


@dataclass(frozen=True)
class Import:
    """What one file imports: the module, and the name in it, if it is no module itself."""

    file: str
    line: int
    module: str
    name: str = ""


def _name(path: Path) -> str:
    """``pruners.graph.widths``; a package by its own name."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {_name(p): p for top in TOPS[1:] for p in sorted((ROOT / top).rglob("*.py"))} | {"app": ROOT / "app.py"}
PACKAGES = {name for name, path in FILES.items() if path.name == "__init__.py"}


def room_of(module: str) -> str:
    """The folder a module lies in; the module itself where it lies beside the folders."""
    folder = module if module in PACKAGES else module.rpartition(".")[0]
    return module if folder in TOPS or not folder else folder


def imports(name: str) -> Iterator[Import]:
    """All imports of the project's own modules, inside functions too."""
    path = FILES[name]
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                around = f"{PACKAGE}.{package}".rstrip(".").split(".")
                base = ".".join([*around[: len(around) - node.level + 1], *filter(None, [node.module])])
            if base.partition(".")[0] != PACKAGE:
                continue
            module = base.partition(".")[2]
            for alias in node.names:
                whole = f"{module}.{alias.name}".strip(".")
                # a function may have the name of the file it is in; a face hands on the function
                if whole in FILES and alias.name not in _faces(module):
                    yield Import(name, node.lineno, whole)
                else:
                    yield Import(name, node.lineno, module, alias.name)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                assert not alias.name.startswith(f"{PACKAGE}."), f"{path}:{node.lineno}: import from it"


def _faces(module: str) -> set[str]:
    """What a room offers."""
    if module not in PACKAGES:
        return set()
    for node in ast.parse(FILES[module].read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "__all__":
            return set(ast.literal_eval(node.value))
    return set()


IMPORTS = [i for name in FILES for i in imports(name) if i.module]


@pytest.mark.parametrize("room", sorted(MAY_IMPORT))
def test_a_room_imports_only_the_rooms_of_its_row(room: str) -> None:
    used = {room_of(i.module): i for i in IMPORTS if room_of(i.file) == room} | {room: None}
    assert set(used) - {room} <= MAY_IMPORT[room], f"{room} imports {sorted(set(used) - {room} - MAY_IMPORT[room])}"
    assert MAY_IMPORT[room] <= set(used), f"the row of {room} has more than it needs"


def test_every_room_has_a_row_or_imports_nothing() -> None:
    assert {room_of(i.file) for i in IMPORTS if room_of(i.module) != room_of(i.file)} <= set(MAY_IMPORT)


@pytest.mark.parametrize("room", sorted({r for n in FILES if (r := room_of(n)) in PACKAGES}))
def test_nothing_reaches_past_a_face(room: str) -> None:
    around = [i for i in IMPORTS if room_of(i.module) == room and room_of(i.file) != room]
    for found in around:
        fine = found.module == room and found.name in _faces(room)
        fine |= found.module.rpartition(".")[0] == room and found.module.rpartition(".")[2] in _faces(room)
        fine |= room.startswith("models")  # model files are loaded, not imported
        assert fine, f"{found.file}:{found.line} reaches for {found.module} {found.name}"
        outer = room.rpartition(".")[0]
        if outer and outer not in TOPS and room != "training.binarization.kinds":
            assert found.file == outer or found.file.startswith(f"{outer}."), f"{found.file} looks into {outer}"


def test_there_are_no_circles() -> None:
    graph = nx.DiGraph((i.file, i.module) for i in IMPORTS if i.file != i.module)
    rooms = nx.DiGraph((room_of(i.file), room_of(i.module)) for i in IMPORTS if room_of(i.file) != room_of(i.module))
    for drawn in (graph, rooms):
        assert [sorted(c) for c in nx.strongly_connected_components(drawn) if len(c) > 1] == []


def test_networks_import_torch_and_the_decorators_only() -> None:
    for file in (ROOT / "models" / "cifar").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom):
                light = {"__future__", "collections", "collections.abc", "math", "torch", "torch.nn.functional"}
                assert node.module in light | {f"{PACKAGE}.pruners.decorators"}, f"{file.name} imports {node.module}"


def test_the_command_line_imports_only_click_when_it_starts() -> None:
    light = {
        "__future__", "collections.abc", "errno", "importlib", "os", "pathlib", "shlex", "shutil", "signal", "sys",
        "typing", "click", "click.shell_completion",
    }  # fmt: skip
    for file in (ROOT / "app.py", ROOT / "commands" / "cli" / "flags.py"):
        for node in ast.parse(file.read_text("utf-8")).body:
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert set(names) <= light | {PACKAGE, f"{PACKAGE}.commands.cli"}
