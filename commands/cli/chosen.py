"""What the application chooses for its commands."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

SETUP_PRUNER: ContextVar[Callable[..., Any] | None] = ContextVar("setup_pruner", default=None)
"""The application's ``setup_pruner``, called for every pruner that a command makes; None where no application runs."""
