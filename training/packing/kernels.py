"""Kernels for packed layers."""

from __future__ import annotations

