"""What a file computes in its runtime, held against the network."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...pruners.errors import VerificationError
from ...pruners.latency import with_batch
from ...pruners.run import batch_size, call_arguments, described, isolated, larger_sizes, run, scores_of, wide
from ...pruners.verify import varied

TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}
"""Of the largest output, by the type of the file's numbers."""
TOLERANCE_INT8 = 1e-1
"""Of the network in 8 bits: a sum between two steps is rounded to the other one."""
_SEEDS = (1, 2, 3)
_SMALLEST = 1e-6


@dataclass(frozen=True)
class Match:
    """``max_rel_diff``: the largest difference, of the largest output; ``batches``: compared at these sizes."""

    max_rel_diff: float
    output_scale: float
    batches: tuple[int, ...]
    tolerance: float


def matched(
    network: nn.Module, file: nn.Module, inputs: Any, dtype: torch.dtype, tolerance: float, most: int | None = None,
    longer: bool = False,
) -> Match:  # fmt: skip
    """Holds ``file`` (which takes numbers of ``dtype``) against the network, on random inputs in several batches, up to
    ``most``, and with ``longer`` on sequences of twice the length. VerificationError where it can't be run, or gives
    something else."""
    had = batch_size(inputs)
    batches = tuple(sorted({1, min(had, most or had), most or had + 4}))
    cases = [(batch, with_batch(inputs, batch)) for batch in batches]
    cases += [(had, next(larger_sizes(inputs))[0])] if longer else []
    worst, scale = 0.0, 0.0
    for batch, case in cases:
        for seed in _SEEDS:
            given = varied(case, seed, network)
            expected = outputs(network, given)
            if not all(bool(t.isfinite().all()) for t in expected):
                raise VerificationError("the network's own outputs are not finite on random inputs: nothing is written")
            try:
                off, size = isolated.compare(outputs(file, wide(given, dtype)), expected)
            except Exception as error:  # the runtime's
                raise VerificationError(
                    f"the file can't be run with a batch of {batch}: {described(error)}; nothing is written"
                ) from error
            worst, scale = max(worst, off), max(scale, size)
    worst /= max(scale, _SMALLEST)
    if not worst <= tolerance:
        raise VerificationError(
            f"the file computes something else than the network: outputs differ by {worst:.2g} of the largest, more "
            f"than {tolerance:g}; nothing is written"
        )
    return Match(worst, scale, batches, tolerance)


@torch.no_grad()
def outputs(network: nn.Module, inputs: Any) -> list[Tensor]:
    """What comes out, with the network left as it was."""
    with isolated.buffers_restored(network), isolated.without_traces(network), isolated.seeded():
        return isolated.tensors_in(run(network, *call_arguments(inputs)))


def agreement(network: nn.Module, file: nn.Module, batches: Iterable[Tensor]) -> float | None:
    """The share of inputs that both take for the same class; None where the outputs are no rows of scores."""
    same, count = 0, 0
    for batch in batches:
        one, two = (scores_of(outputs(m, batch)[0], batch) for m in (network, file))
        if one is None or two is None or one.shape[1] < 2:
            return None
        same, count = same + int((one.argmax(1) == two.argmax(1)).sum()), count + len(one)
    return same / max(count, 1)
