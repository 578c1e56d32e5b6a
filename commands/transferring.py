"""From the weights of the whole network to those of the pruned one, by ``--transfer``."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from pruners.base import BasicPruning
from pruners.errors import UsageError
from pruners.plan import PruningPlan
from pruners.weight_transfer import slice_state
from training.data import Data


def check_transfer(name: str, with_data: bool) -> None:
    """Refuse an unknown unit, or one that needs images where there are none."""
    if name != "slice":
        raise UsageError(f"unknown transfer {name!r}; known are slice")


def transferred(
    name: str, whole: Mapping[str, Tensor], pruner: BasicPruning, plan: PruningPlan, data: Data | None
) -> dict[str, Tensor]:
    return slice_state(whole, pruner.graph, plan.kept)
