"""What a training script of somebody's own keeps beside weights."""

from __future__ import annotations


class Settings:
    """Notes whether it was read."""

    read: list[object] = []

    def __init__(self) -> None:
        self.rate = 0.1

    def __setstate__(self, state: object) -> None:
        self.read.append(state)
