"""ONNX, opened by ONNX Runtime on the CPU."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...pruners.errors import UnsuitedError
from ...pruners.run import described
from .opened import Opened
from .program import Program, quiet

_MOST_BYTES = 2**31  # of a message of protobuf, which such a file is


def write(program: Program, path: Path) -> None:
    held = sum(t.nbytes for t in program.network.state_dict().values() if isinstance(t, Tensor))
    if held >= _MOST_BYTES:
        raise UnsuitedError(
            f"{held:,} bytes of weights don't fit into one ONNX file: take --half, or --to torch_export"
        )
    exported = program.exported
    try:
        with quiet(), torch.no_grad():
            made = torch.onnx.export(exported, dynamo=True, verbose=False)
            assert made is not None
            _name_axes(made.model)
            made.save(path)
    except Exception as error:  # an operation that ONNX has no form for
        raise UnsuitedError(f"ONNX has no form for {type(program.network).__name__}: {_last(error)}") from error


def _name_axes(model: Any) -> None:
    """The sizes that torch calls ``s77`` by what they are."""
    first: dict[str, str] = {}
    for value in model.graph.inputs:
        for axis, size in enumerate(value.shape or ()):
            if name := getattr(size, "value", None):
                first.setdefault(str(name), ("batch", "tokens")[axis] if axis < 2 else f"size{axis}")
    taken: dict[str, int] = {}
    names = {}
    for old, new in first.items():
        taken[new] = number = taken.get(new, 0) + 1
        names[old] = new if number == 1 else f"{new}{number}"
    values = [*model.graph.inputs, *(output for node in model.graph for output in node.outputs)]
    for value in values:
        for axis, size in enumerate(value.shape or ()):
            if text := getattr(size, "value", None):
                value.shape[axis] = re.sub(r"\bs\d+\b", lambda found: names.get(found[0], found[0]), str(text))


def _last(error: BaseException) -> str:
    """The exporter wraps errors in errors; the innermost says what it was."""
    while error.__cause__ is not None:
        error = error.__cause__
    return described(error)


def opened(path: Path, program: Program) -> Opened:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    wanted = program.exported.graph_signature.user_inputs
    read = [number for number, name in enumerate(wanted) if name in names]

    def call(leaves: list[Any]) -> list[Tensor]:
        given = {wanted[i]: leaves[i].numpy() for i in read}
        return [torch.from_numpy(array) for array in session.run(None, given)]

    return Opened(call)
