"""A network, or a pruned copy of it, runs once more as it ran in a pass of the trace."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from ..graph import Pass
from ..places import Site
from ..run import AsDecided, Left, Modules, Watch, Way, repeatable, training_batch


def inputs_of(how: Pass, examples: Sequence[Any]) -> Any:
    """What the network ran on."""
    inputs = examples[how.example] if how.inputs is None else how.inputs
    return training_batch(inputs) if how.training else inputs


@contextmanager
def retraced(how: Pass, modules: Modules, mode: TorchFunctionMode, decided: bool = False) -> Iterator[None]:
    """Within this block a network runs as in a pass of the trace, with the same random numbers and along the same ways,
    under a mode that sees its calls. ``decided``: what the data decided then isn't decided anew."""
    with ExitStack() as stack:
        stack.enter_context(repeatable())
        if decided:
            stack.enter_context(AsDecided(how.decided))
        stack.enter_context(torch.set_grad_enabled(how.graded))
        stack.enter_context(modules.watching())
        stack.enter_context(mode)
        if how.tried:
            stack.enter_context(Watch(modules, how.tried, _Retried(how.failed)).watching())
        yield


@dataclass(frozen=True)
class _Retried:
    """Ways that the trace tried are tried again."""

    failed: Collection[Any]

    def attempt(self, way: Way, site: Site, call: Callable[[], Left], foreign: bool) -> Left | str:
        return "the trace failed here" if way in self.failed else call()

    def join(self, first: Any, second: Any, site: Site) -> None:
        """The trace did so."""

    def hold(self, values: Any, site: Site, why: str) -> None:
        """The trace did so."""
