"""The transfer strategy ``lstsq``."""

from __future__ import annotations

import math
from typing import Any

from ..least_squares import Fitted, QuickFits, Reconstruction, Settings, reconstruct
from ..weight_transfer import Transferred
from .registry import Transfer, transfer_strategy

_NAMED = 3


@transfer_strategy("lstsq", images=1024, quick=QuickFits)
def lstsq(request: Transfer) -> Transferred:
    """Every layer from the first that reads a pruned width on, fitted by least squares to what the original gives."""
    found = reconstruct(
        request.original, request.pruned, request.graph, request.kept, request.batches or (),
        Settings(seed=request.seed), request.report,
    )  # fmt: skip
    return Transferred(found.state, _facts(found), tuple(_notes(found)))


def _facts(found: Reconstruction) -> dict[str, Any]:
    return {
        "name": "lstsq",
        "images": found.images,
        "fitted": [_rounded(fit) for fit in found.fitted],
        "sliced": dict(found.left),
    }


def _rounded(fit: Fitted) -> dict[str, Any]:
    """``condition`` is null where the system was singular."""
    numbers = {k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in vars(fit).items()}
    return {**numbers, "condition": numbers["condition"] if math.isfinite(fit.condition) else None}


def _notes(found: Reconstruction) -> list[str]:
    taken = [fit for fit in found.fitted if fit.taken]
    notes = []
    if taken:
        worst = max(taken, key=lambda fit: fit.after)
        notes.append(
            f"least squares on {found.images} images: {len(taken)} layers fitted, {len(found.fitted) - len(taken)} "
            f"left alone; lost is at most {worst.after:.0%} of an output's variance ({worst.layer})"
        )
    if found.left:
        layers = list(found.left.items())
        named = "; ".join(f"{layer}: {reason}" for layer, reason in layers[:_NAMED])
        more = f"; and {len(layers) - _NAMED} more" if len(layers) > _NAMED else ""
        notes.append(f"sliced only: {named}{more}")
    return [*notes, found.shortage] if found.shortage else notes
