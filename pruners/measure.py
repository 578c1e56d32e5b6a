"""A measure of the user's own: a function of a network that returns a number, the larger the better."""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .errors import MeasureError
from .loading import Factory, cause, failed_at, load_factory
from .run import as_it_was, isolated, same_values

SECONDS = 60.0
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True)
class Measure:
    """``name``: ``FILE.py:FUNCTION``. The function is called with the network in evaluation mode, without gradients and
    with the same random numbers every time; whatever it does to modes and weights is undone. One that takes a second
    argument gets ``seconds``, the time it is to take.

    Raises MeasureError where it fails and where it returns anything but one finite real number.
    """

    factory: Factory
    seconds: float | None = None
    _timed: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_timed", _takes_seconds(self.factory, self.seconds))

    @classmethod
    def named(cls, spec: str, seconds: float | None = None) -> Measure:
        """Of ``FILE.py:FUNCTION``. Raises ModelFileError where there is none."""
        return cls(load_factory(spec, "--score"), seconds)

    @classmethod
    def of(cls, function: Callable[..., Any]) -> Measure:
        """Of a function, for Python."""
        code = getattr(inspect.unwrap(function), "__code__", None)
        name = getattr(function, "__qualname__", type(function).__qualname__)
        return cls(Factory(function, name, code.co_filename if code else "score=", "--score"))

    @property
    def name(self) -> str:
        return f"{Path(self.factory.where).name}:{self.factory.name}"

    def __call__(self, model: nn.Module) -> float:
        more = [self.seconds or SECONDS] if self._timed else []
        still = isolated.seeded(), torch.no_grad(), as_it_was(model), _weights_kept(model), redirect_stdout(sys.stderr)
        with ExitStack() as stack:
            for one in still:
                stack.enter_context(one)
            try:
                found = self.factory.call(model.eval(), *more)
            except (Exception, SystemExit) as error:
                where = self.factory.where
                told = f"--score {self.name} failed: {cause(error, where)}"
                raise MeasureError(told, site=failed_at(error, where)) from error
        return self._number(found)

    def _number(self, found: Any) -> float:
        value = found.item() if getattr(found, "ndim", None) == 0 and hasattr(found, "item") else found
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            kind = f"a {type(found).__name__}" if found is not None else "nothing"
            kind += f" of shape {tuple(found.shape)}" if isinstance(found, torch.Tensor) else ""
            raise MeasureError(f"--score {self.name} returned {kind}: return one number, larger for a better network")
        if not math.isfinite(value):
            raise MeasureError(f"--score {self.name} returned {float(value)}: return a finite number")
        return float(value)


def _takes_seconds(factory: Factory, seconds: float | None) -> bool:
    """Whether the function takes a second argument. MeasureError where it can't be called with a network."""
    try:
        parameters = list(inspect.signature(factory.call).parameters.values())
    except (TypeError, ValueError):
        return False  # compiled; called with the network alone
    ordered = [p for p in parameters if p.kind in _POSITIONAL]
    needed = [p for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    free = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    if not (ordered or free) or len(needed) > 2 or any(p not in ordered[:2] for p in needed):
        raise MeasureError(
            f"--score {factory.name} in {factory.where} takes ({', '.join(p.name for p in parameters)}): write "
            f"{factory.name}(model) or {factory.name}(model, seconds)"
        )
    timed = len(ordered) > 1 and (ordered[1] in needed or ordered[1].name == "seconds")
    if seconds is not None and not timed:
        raise MeasureError(
            f"--score-seconds {seconds:g}: {factory.name} in {factory.where} takes the network alone; write "
            f"{factory.name}(model, seconds), or leave the option out"
        )
    return timed


@contextmanager
def _weights_kept(model: nn.Module) -> Iterator[None]:
    """Puts parameters and buffers back to what they held, gradients as well."""
    tensors = [*model.parameters(), *model.buffers()]
    kept = [(t, t.data, t.detach().clone(), t.grad, t.requires_grad) for t in tensors if t.is_leaf]
    try:
        yield
    finally:
        for tensor, own, value, grad, learns in kept:
            tensor.requires_grad_(learns).grad = grad
            if tensor.data_ptr() != own.data_ptr():
                tensor.data = own
            if not same_values(own, value):
                own.copy_(value)
