"""Frames of the author's code at some calls, kept so that their expressions can be looked at afterwards."""

from __future__ import annotations

import ast
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from torch import nn

from ..graph import Pass
from ..places import Site, Span
from ..run import FunctionMode, Modules, author_frame, author_site, call_arguments, in_stand_in, layer_frame, run, span
from ..trace import SITE_RULES
from .evaluate import Env, Unknown, evaluate
from .passes import retraced
from .separate import Sample

Where = tuple[Site, Span]


@dataclass(frozen=True)
class Seen:
    """One call: the names in the frames above it, and what expressions should have given."""

    frames: dict[int, Env] = field(default_factory=dict)
    wanted: dict[ast.expr, Any] = field(default_factory=dict)


class CallFrames:
    """``spots``: calls, and how many frames above each an expression stands."""

    def __init__(self, spots: Collection[tuple[Where, int]]) -> None:
        self._spots = spots
        self.seen: dict[tuple[str, Where], list[Seen]] = {}

    def saw(self, modules: Modules, where: Where) -> Seen | None:
        """Notes the frames of the call that runs, if it is one of the spots."""
        ups = {up for spot, up in self._spots if spot == where}
        if not ups:
            return None
        frame: FrameType | None = layer_frame(modules.path_of) or author_frame()
        found = Seen()
        for up in range(max(ups) + 1):
            if frame is None:
                break
            found.frames[up] = Env(dict(frame.f_locals), frame.f_globals)
            frame = frame.f_back
        self.seen.setdefault((modules.current, where), []).append(found)
        return found

    def over(self, model: nn.Module, how: Pass, inputs: Any) -> CallFrames:
        """Of a network that runs as in a pass of the trace."""
        args, kwargs = call_arguments(inputs)
        modules = Modules(model)
        with retraced(how, modules, _Watching(modules, self)):
            run(model.train(how.training), args, kwargs)
        return self


class _Watching(FunctionMode):
    def __init__(self, modules: Modules, frames: CallFrames) -> None:
        super().__init__()
        self._modules, self._frames = modules, frames

    def called(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        frame = author_frame()
        if func in SITE_RULES and frame is not None and not in_stand_in():
            self._frames.saw(self._modules, (author_site(), span(frame)))
        return func(*args, **kwargs)


def samples(
    before: Sequence[CallFrames], after: Sequence[CallFrames], call: Where | None, up: int, leaf: ast.expr | None
) -> dict[str, list[Sample]]:
    """How the expression ran in every module: the same pass of the original and of the pruned network side by side.
    Empty where they can't be paired."""
    found: dict[str, list[Sample]] = {}
    if call is None or leaf is None:
        return found
    for old, new in zip(before, after, strict=True):
        for (module, where), there in new.seen.items():
            if where != call:
                continue
            for first, second in zip(old.seen.get((module, where), ()), there, strict=False):
                if up not in first.frames or up not in second.frames:
                    continue
                try:
                    wanted = second.wanted[leaf] if leaf in second.wanted else evaluate(leaf, second.frames[up])
                except Unknown:
                    return {module: []}
                found.setdefault(module, []).append(Sample(first.frames[up], second.frames[up], wanted))
    return found
