"""Secateur: prune a PyTorch network and get its own source file back, with the new widths and weights that fit.

>>> from secateur import prune, trace
>>> graph = trace(model, example_input)
>>> graph.why("layer1.0.conv1")
>>> bundle = prune(model, example_input, ratio=0.5, output="generated/x")
>>> bundle.model, bundle.plan, bundle.path
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from secateur import _documented

if TYPE_CHECKING:
    from secateur.pruners.api import prune
    from secateur.pruners.base import BasicPruning
    from secateur.pruners.bundle import Bundle
    from secateur.pruners.entry import Entry
    from secateur.pruners.steps import PruneStep, prune_step, publish
    from secateur.pruners.trace import trace

__version__ = "0.2.0"
__all__ = ["BasicPruning", "Bundle", "Entry", "PruneStep", "__version__", "prune", "prune_step", "publish", "trace"]

_HOMES = {
    "BasicPruning": "base", "Bundle": "bundle", "Entry": "entry", "PruneStep": "steps", "prune": "api",
    "prune_step": "steps", "publish": "steps", "trace": "trace",
}  # fmt: skip

_documented.install()


def __getattr__(name: str) -> Any:
    """Import on first use: a decorated model file imports this package for its decorators only."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.pruners.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
