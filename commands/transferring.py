"""From the weights of the whole network to those of the pruned one, by ``--transfer``."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from pruners.base import BasicPruning
from pruners.errors import UsageError
from pruners.plan import PruningPlan
from pruners.weight_transfer import find_strategy, slice_state, transfer
from training.data import Data, calibration_images

_IMAGES, _BATCH = 1024, 128


def check_transfer(name: str, with_data: bool) -> None:
    """Refuse an unknown strategy, or one that needs images where there are none."""
    find_strategy(name)
    if name != "slice" and not with_data:
        raise UsageError(f"--transfer {name} looks at images: add --data, or use --transfer slice")


def transferred(
    name: str, network: nn.Module, whole: Mapping[str, Tensor], pruner: BasicPruning, plan: PruningPlan,
    data: Data | None,
) -> dict[str, Tensor]:  # fmt: skip
    """The state of ``network``, the pruned one, from the state of the whole one."""
    network.load_state_dict(slice_state(whole, pruner.graph, plan.kept, pruner.model))
    return transfer(name, network, calibration_images(data, _IMAGES).split(_BATCH) if data else None)
