"""The strategies ``slice`` and ``bn``."""

from __future__ import annotations

from torch import nn

from ..errors import NeedsDataError
from ..run import NormBase, copied, estimate_batch_norm
from ..weight_transfer import State, Transferred
from .registry import Transfer, transfer_strategy


@transfer_strategy("slice")
def keep_slices(request: Transfer) -> Transferred:
    """The weights as they are."""
    return Transferred(_copied(request.pruned))


@transfer_strategy("bn", images=1024)
def reestimate_batch_norm(request: Transfer) -> Transferred:
    """Batch-norm statistics taken anew: running mean and variance become the plain averages over ``batches`` of the
    batches' means and (unbiased) variances; all other layers run in eval mode. The count of batches is kept."""
    network = copied(request.pruned).eval()
    norms = [m for m in network.modules() if isinstance(m, NormBase) and m.track_running_stats]
    if estimate_batch_norm(network, norms, request.batches or ()) == 0:
        raise NeedsDataError("--transfer bn got no batches: the statistics would be lost")
    return Transferred(_copied(network))


def _copied(model: nn.Module) -> State:
    return {k: v.detach().clone() for k, v in model.state_dict().items()}
