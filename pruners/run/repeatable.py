"""Random numbers that are the same in every run of a network."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import torch

from .isolated import DispatchMode, seed
from .torch_private import WithoutTorchFunction


@cache
def _draws(func: Any) -> bool:
    return torch.Tag.nondeterministic_seeded in func.tags


class _Drawing(DispatchMode):
    """What an operation draws follows from its number among those that draw, not from how much others drew: a network
    with fewer channels takes the same random ways."""

    def __init__(self) -> None:
        super().__init__()
        self._drawn = 0

    def called(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if _draws(func):
            self._drawn += 1
            seed(self._drawn)
        with WithoutTorchFunction():  # what scripted code and numpy hand over isn't a call of the author's
            return func(*args, **kwargs)


@contextmanager
def repeatable() -> Iterator[None]:
    """Within this block random numbers are those of every other such block; the random states are left as they were."""
    plain, arrays = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            random.seed(0)
            np.random.seed(0)
            seed(0)
            with _Drawing():
                yield
    finally:
        random.setstate(plain)
        np.random.set_state(arrays)
