"""Where networks are compared: the example, another batch, another size, in evaluation and in training."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..run import batch_size, training_batch
from .references import Found, Setting, Whole
from .sizes import other_batch, other_sizes


def settings(whole: Whole, inputs: Any) -> Iterator[Found]:
    """Those in which the original runs; the example in evaluation first.

    Left out is a size at which it takes layers that the example doesn't reach (they are told as not reached), or at
    which a reshape mixes images.
    """
    yield whole.at(Setting("", inputs, usual=True))
    trained = whole.tried(Setting(", in training", training_batch(inputs), True, batch_size(inputs) > 1))
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
