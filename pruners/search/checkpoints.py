"""What makes retraining inside a search repeatable: seeded generators, and weights kept beside the ledger."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from ..errors import OutputError, ResumeError
from ..outputs import replaced
from ..plan import sha256_of_state
from ..saving import save
from .scatter import State


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed all random generators a training loop may use, and put them back afterwards (accelerators excepted)."""
    states = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed)
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


class Checkpoints:
    """Whole-network weights after the first, second ... retraining, beside a ledger; nothing without one."""

    def __init__(self, ledger: Path | None) -> None:
        self._ledger = ledger

    def _path(self, number: int) -> Path | None:
        return self._ledger and self._ledger.with_name(f"{self._ledger.stem}-weights-{number:03d}.pth")

    def save(self, number: int, state: State) -> None:
        """Write atomically. Raises ``OutputError``."""
        path = self._path(number)
        if path is None:
            return
        try:
            with replaced(path) as file:
                save(state, file)
        except OSError as error:
            raise OutputError(f"{path}: can't be written ({error.strerror}); make room and use --resume") from None

    def load(self, number: int, digest: str) -> State:
        """Raises ``CheckpointError`` unless the file is there and holds tensors with this digest."""
        path = self._path(number)
        assert path is not None
        lost = ResumeError(f"{path}: missing or changed, the search can't go on; start anew without --resume")
        try:
            state: State = torch.load(path, map_location="cpu", weights_only=True)
            fits = sha256_of_state(state) == digest
        except Exception as error:  # missing, torn, or not what it says: all the same to the user
            raise lost from error
        if not fits:
            raise lost
        return state

    def drop(self, number: int) -> None:
        path = self._path(number)
        if path is not None:
            path.unlink(missing_ok=True)
