"""Proof that a bundle's file computes the pruned network: in a fresh process that can't import the toolkit."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import ahead
from ..costs import Costs
from ..errors import VerificationError
from ..run import isolated as fresh
from ..scratch import scratch
from .case import Case

BLOCKED = ("secateur", "pruners")
_TIMEOUT = 1800
_SMALLEST = 1e-6  # outputs all smaller than this are compared as if the largest were this


@dataclass(frozen=True)
class Verification:
    """What the fresh process found: exact counts, and whether a step in training mode ran.

    ``max_abs_diff``: the largest absolute difference in any case; ``output_scale``: the largest absolute output there.
    ``max_rel_diff``: the largest difference in any case, relative to the largest absolute output of that case.
    """

    max_abs_diff: float
    max_rel_diff: float
    output_scale: float
    params: int
    macs: int
    cases: tuple[str, ...]
    double: bool
    trained: bool

    def about_macs(self, planned: Mapping[str, Any], by_data: bool = False) -> dict[str, Any]:
        """For ``summary.json``: the MACs that the file has, and a warning where others were planned. ``by_data``: how
        many these are may follow from what the network finds in its input, which is another one here."""
        found: dict[str, Any] = {"macs": {**planned, "after": self.macs}}
        if self.macs != planned["after"] and by_data:
            said = "MACs follow from what is found in the input: before and after, they are counted for the example's"
            found = {"macs": {**planned}, "warnings": [f"warning: {said}"]}
        elif self.macs != planned["after"]:
            off = 100 * abs(planned["after"] / self.macs - 1) if self.macs else 100.0
            said = f"the file has {self.macs:,} MACs, {planned['after']:,} were planned"
            found["warnings"] = [f"warning: {said}: the prediction is {off:.2g} % off"]
        return found

    def as_dict(self) -> dict[str, Any]:
        """As ``summary.json`` tells it."""
        precision = "float64" if self.double else "float32"
        return {
            "max_abs_diff": self.max_abs_diff,
            "max_rel_diff": self.max_rel_diff,
            "output_scale": self.output_scale,
            "precision": precision,
            "trained": self.trained,
            "compared": list(self.cases),
        }


def verify_bundle(
    file: Path, factory: str, cases: Sequence[Case], expected: Costs, batch: int, weights: bool = True
) -> Verification:
    """Import the generated file in a fresh process, load ``weights.pth`` beside it strictly and compare every case.

    ``weights``: False for a file whose network has its own. Raises VerificationError with the reason: an import that is
    not standalone, keys or shapes that don't fit, outputs that differ by more than 1e-9 of the largest absolute output
    in float64 (1e-4 in float32, for networks of more than 200 million parameters; up to 1e-3 in training mode where
    rounding alone makes that much), parameters that are not the planned ones, a training step that fails where the
    original's works. MACs are counted anew; what is found is published, whatever was planned.
    """
    report = _run(file, factory, cases, (*BLOCKED, *_unneeded(file)), weights)
    if "error" in report:
        raise VerificationError(f"the generated file does not work in a fresh process: {report['error']}")
    for case, found in zip(cases, report["cases"], strict=True):
        limit = case.allowed * max(found["scale"], _SMALLEST)
        if not found["diff"] <= limit:
            raise VerificationError(
                f"the generated file computes something else ({case.name}): largest difference {found['diff']:.3g}, "
                f"allowed {limit:.3g} where outputs reach {found['scale']:.3g}"
            )
        if found["train"] and case.trains():
            raise VerificationError(f"the generated file fails in training mode: {found['train']}")
    if report["params"] != expected.params:
        raise VerificationError(
            f"the generated file has {report['params']:,} parameters, planned were {expected.params:,}"
        )
    macs = round(report["cases"][0]["macs"] / batch)
    trained = any(c.train_inputs is not None and not f["train"] for c, f in zip(cases, report["cases"], strict=True))
    names = tuple(c.name for c in cases)
    worst = max(report["cases"], key=lambda f: (f["diff"], f["scale"]))
    relative = max(f["diff"] / max(f["scale"], _SMALLEST) for f in report["cases"])
    return Verification(
        worst["diff"], relative, worst["scale"], report["params"], macs, names, all(c.double for c in cases), trained
    )  # fmt: skip


def _unneeded(file: Path) -> tuple[str, ...]:
    """torchvision, unless the file imports it or a library that may need it: then it is there for whoever runs it."""
    with suppress(SyntaxError):  # which the fresh process tells of
        if _imported(file) <= {"torch", "numpy", "numba", "llvmlite", *sys.stdlib_module_names}:
            return ("torchvision",)
    return ()


def _imported(file: Path) -> set[str]:
    """The packages that a file imports. Raises SyntaxError."""
    found = [n for n in ast.walk(ast.parse(file.read_bytes())) if isinstance(n, ast.Import | ast.ImportFrom)]
    names = [[n.module or ""] if isinstance(n, ast.ImportFrom) else [a.name for a in n.names] for n in found]
    return {name.partition(".")[0] for several in names for name in several}


def _run(
    file: Path, factory: str, cases: Sequence[Case], blocked: Sequence[str], weights: bool
) -> dict[str, Any]:
    with scratch() as folder:
        check = folder / "check.pt"
        files = _Files(folder)
        torch.save([_plain(c, files) for c in cases], check)
        own = file.resolve()  # the fresh process runs elsewhere
        state = own.with_name("weights.pth") if weights else ""
        arguments = [own, factory, state, check, ",".join(blocked)]
        return dict(json.loads(_ask(list(map(str, arguments)), str(folder))))


_COMMAND = [sys.executable, "-I", "-W", "ignore", fresh.SCRIPT]
_many: ExitStack | None = None  # what ends where many bundles have been verified
_ready: tuple[str, ...] = ()  # modules
_servers: dict[tuple[str, ...], subprocess.Popen[str]] = {}  # by the modules that they have imported


def _ask(arguments: list[str], folder: str) -> str:
    """One line of JSON from a fresh process."""
    if _many is not None:
        server = _serving(Path(arguments[0]), _many)
        assert server.stdin is not None and server.stdout is not None
        server.stdin.write(json.dumps(arguments) + "\n")
        server.stdin.flush()
        return server.stdout.readline() or json.dumps({"error": "the process died"})
    try:
        done = ahead.ask(fresh.SCRIPT, arguments, folder, _TIMEOUT) or subprocess.run(
            [*_COMMAND, *arguments], capture_output=True, text=True, timeout=_TIMEOUT, cwd=folder,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise VerificationError(f"the generated file did not finish within {_TIMEOUT} s") from error
    lines = done.stdout.strip().splitlines()
    last = (done.stderr.strip().splitlines() or ["no output"])[-1]
    return lines[-1] if lines else json.dumps({"error": f"the process ended with code {done.returncode}: {last}"})


@contextmanager
def many_verifications(ready: Sequence[str] = ()) -> Iterator[None]:
    """Within this block every fresh process is forked from one that has torch imported: for many small bundles. The
    first of them starts it. ``ready``: modules that are imported there for files that import their packages."""
    global _many, _ready
    with ExitStack() as _many:
        _ready = tuple(ready)
        try:
            yield
        finally:
            _many = None
            _servers.clear()


def _serving(file: Path, stack: ExitStack) -> subprocess.Popen[str]:
    """The process that answers for a file, until the ``stack`` ends."""
    packages: set[str] = set()
    with suppress(SyntaxError):
        packages = _imported(file)
    ready = tuple(m for m in _ready if m.partition(".")[0] in packages)
    if ready not in _servers:
        place = {**os.environ, "HF_MODULES_CACHE": str(stack.enter_context(scratch()))}  # set before the import
        command = [*_COMMAND, "--serve", *ready]
        server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=place)
        stack.enter_context(server)  # waits for it
        assert server.stdin is not None
        stack.callback(server.stdin.close)
        _servers[ready] = server
    return _servers[ready]


class _Files:
    """Files of weights that come and go, one for each, which the cases that share them share."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names: dict[int, str] = {}

    def of(self, made: Callable[[], Tensor]) -> str:
        if id(made) not in self._names:
            self._names[id(made)] = str(self._folder / f"{len(self._names)}.pt")
            torch.save(made(), self._names[id(made)])
        return self._names[id(made)]


def _plain(case: Case, files: _Files) -> dict[str, Any]:
    """What a file can hold of it."""
    state = None
    if case.state is not None:
        state = {k: v.detach() if isinstance(v, Tensor) else files.of(v) for k, v in case.state.items()}
    outputs = None if case.outputs is None else list(case.outputs)
    return {**vars(case), "outputs": outputs, "state": state, "trains": None}
