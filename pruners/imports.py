"""Imports that stay: Python's collector of garbage needn't look through them."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def staying() -> Iterator[None]:
    """Within this block modules are imported, and hardly anything else is done: the collector rests, and never looks at
    what they made. Torch alone makes half a million objects, which it would go through again and again."""
    known, active = len(sys.modules), gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > known:
            gc.freeze()
        if active:
            gc.enable()
