"""The transfer strategy ``heal``."""

from __future__ import annotations

from dataclasses import replace

from ..healing import LEAST, Healed, HealSettings, held_out
from ..healing import heal as healed
from ..run import copied, images_of
from ..weight_transfer import Transferred
from .least_squares import lstsq
from .registry import Transfer, transfer_strategy


@transfer_strategy("heal", images=1024, for_candidates="lstsq", trains=True, least=LEAST)
def heal(request: Transfer) -> Transferred:
    """Least squares first; then all weights are trained for a short time to say what the original says, without
    labels. Neither sees the inputs that are to judge the second step."""
    given = [images_of(b) for b in request.batches or ()]
    inputs, judges = held_out(given, request.seed)
    together = max(map(len, given))
    fitted = lstsq(replace(request, batches=[part for batch in inputs for part in batch.split(together)]))
    network = copied(request.pruned)
    network.load_state_dict(fitted.state)
    chosen = HealSettings(seed=request.seed)
    if request.seconds is not None:
        chosen = HealSettings(steps=None, seconds=request.seconds, seed=request.seed)
    found = healed(request.teacher or request.original, network, inputs, judges, chosen, request.report)
    facts = {**fitted.facts, "name": "heal", "healed": {k: v for k, v in vars(found).items() if k != "state"}}
    return Transferred(found.state, facts, (*fitted.notes, _note(found)))


def _note(found: Healed) -> str:
    steps = f"heal: {found.steps} steps in {found.seconds:.0f} s on {found.inputs} inputs without labels"
    if found.after >= found.before:
        return f"{steps}; {found.held_out} held-out ones were no better, so that the fitted weights stay"
    return f"{steps}; on {found.held_out} held-out ones outputs are off by {found.after:.3g}, {found.before:.3g} before"
