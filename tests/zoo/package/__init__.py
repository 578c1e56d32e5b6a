"""A network in several files."""

from .model import build_model

__all__ = ["build_model"]
