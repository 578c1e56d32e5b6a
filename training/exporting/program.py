"""A network as torch's own exported program, whose batch may have any size."""

from __future__ import annotations

import inspect
import io
import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram, ShapesCollection

from ...pruners.errors import UnsuitedError
from ...pruners.hub import is_configured
from ...pruners.latency import with_batch
from ...pruners.run import call_arguments, copied, describe, tree_leaves

_TRACED = 3  # inputs: torch takes sizes of 0 and 1 for constants


@dataclass(frozen=True)
class Program:
    """``network`` and an example of what it is called with. ``most``: the largest batch, where the target must know
    it. ``tokens``: sequences may have any length, too."""

    network: nn.Module
    inputs: Any
    most: int | None = None
    tokens: bool = False

    @cached_property
    def exported(self) -> ExportedProgram:
        """The network's operations. UsageError, in one line, where torch can't export it for any batch."""
        args, kwargs = call_arguments(with_batch(self.inputs, _TRACED))
        shapes = ShapesCollection()
        for tensor, dims in self._dims((args, kwargs)):
            shapes[tensor] = dims
        try:
            with quiet(), torch.no_grad():
                dynamic = shapes.dynamic_shapes(self.network, args, kwargs)
                return torch.export.export(self.network, args, kwargs, dynamic_shapes=dynamic)
        except Exception as error:  # the network's code, or torch's
            raise UnsuitedError(f"{type(self.network).__name__} can't be exported: {_reason(error)}") from error

    def _dims(self, arguments: Any) -> Iterator[tuple[Tensor, dict[int, Any]]]:
        """The axes that may have any size: the batch, and the tokens of a library's model."""
        batch = Dim("batch", min=1, max=self.most)
        for leaf in tree_leaves(arguments):
            if isinstance(leaf, Tensor) and leaf.ndim and leaf.shape[0] == _TRACED:
                tokens = self.tokens and leaf.ndim == 2 and not leaf.is_floating_point()
                yield leaf, {0: batch, 1: Dim.DYNAMIC} if tokens else {0: batch}


def program_of(network: nn.Module, inputs: Any, most: int | None = None) -> Program:
    """The program of a network. A library's model keeps nothing between calls, and takes sequences of any length where
    the target needs no largest size."""
    library = is_configured(network)
    if library and isinstance(inputs, dict) and "use_cache" in inspect.signature(network.forward).parameters:
        inputs = {**inputs, "use_cache": False}
    return Program(network, inputs, most, library and most is None)


def _reason(error: Exception) -> str:
    text = str(error)
    if "Constraints violated" in text or "specialized" in text:
        fixed = re.search(r"inferred to be a constant \((\d+)\)", text)
        return f"its code fixes the batch{f' to {fixed[1]}' if fixed else ''}, and a program must take any"
    return describe(error)


@contextmanager
def quiet() -> Iterator[None]:
    """Without what exporters say to their own authors."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        # some is printed: the operations of a network that can't be exported
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def in_float16(network: nn.Module) -> nn.Module:
    """A copy whose numbers are float16. UsageError where one is too large for that."""
    made = copied(network).half()
    for key, tensor in made.state_dict().items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise UnsuitedError(f"{key} holds numbers too large for float16: leave --half out")
    return made


def packed_layers(network: nn.Module) -> list[str]:
    """The layers whose weights are bits."""
    return [name for name, m in network.named_modules() if hasattr(m, "bits") and hasattr(m, "fits")]
