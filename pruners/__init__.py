"""Secateur: prune a network and write its source anew.

    from pruners import prune, trace
    graph = trace(model, example_input)
    print(graph.why("layer1.0.conv1"))
    bundle = prune(model, example_input, ratio=0.5, output="generated/x")
    bundle.model, bundle.plan, bundle.path
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pruners.api import prune
    from pruners.base import BasicPruning
    from pruners.bundle import Bundle
    from pruners.tracing import trace

__all__ = ["BasicPruning", "Bundle", "prune", "trace"]

_HOMES = {"BasicPruning": "base", "Bundle": "bundle", "prune": "api", "trace": "tracing"}


def __getattr__(name: str) -> Any:
    """Import on first use: model files import this package for its decorators only, and must stay quick to load."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
