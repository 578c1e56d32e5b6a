"""Where networks are compared: the example, another batch, another size, in evaluation and in training."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..run import batch_size
from .references import Found, Setting, Whole
from .sizes import few, other_batch, other_sizes, training_inputs


def settings(whole: Whole, inputs: Any, runs: bool) -> Iterator[Found]:
    """Those in which the original runs; the example in evaluation first. ``runs``: the pruned one does at any size.

    Left out is a size at which it takes layers that the example doesn't reach (they are told as not reached), or at
    which a reshape mixes images. Where a size does that is much smaller than the example's, it stands for it: in
    training, and for another batch.
    """
    yield whole.at(Setting("", inputs, usual=True))
    if small := _small(whole, inputs, runs):
        yield from small
        return
    trained = whole.tried(Setting(", in training", training_inputs(inputs), True, batch_size(inputs) > 1))
    larger, name = other_batch(inputs), "another batch"
    yield from whole.tried(Setting(f", {name}", larger))
    for shape, candidate in other_sizes(inputs):
        found = whole.tried(Setting(f", inputs of {shape}", candidate, resized=True))
        if found:
            yield from found
            larger, name = other_batch(candidate), f"another batch of {shape}"
            break
    yield from trained
    yield from whole.tried(Setting(f", {name}, in training", larger, True))


def _small(whole: Whole, inputs: Any, runs: bool) -> list[Found]:
    """A much smaller size, if the original stands for the pruned network there: alone, another batch, in training."""
    shape, candidate = next(other_sizes(inputs), ("", inputs))
    if not few(inputs, candidate):
        return []
    larger, name = other_batch(candidate), f", another batch of {shape}"
    found: list[Found] = []
    for setting in (
        Setting(f", inputs of {shape}", candidate, resized=True),
        Setting(name, larger),
        Setting(f"{name}, in training", larger, True),
    ):
        found += whole.tried(setting)
        if not found or found[-1].setting is not setting or found[-1].zeroed is None or (found[-1].drew and not runs):
            return []
    return found
