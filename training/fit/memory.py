"""Running out of memory, told in one line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from ...pruners.errors import OutOfMemory

_SAID_ON_CPU = ("not enough memory", "can't allocate memory", "bad allocation")


@contextmanager
def memory_explained(where: Callable[[], str]) -> Iterator[None]:
    """OutOfMemory with what ``where`` returns (what was going on, and what to lower) in place of torch's error."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError):
        raise OutOfMemory(f"out of memory {where()}") from None
    except RuntimeError as error:
        if not any(said in str(error) for said in _SAID_ON_CPU):
            raise
        raise OutOfMemory(f"out of memory {where()}") from None
