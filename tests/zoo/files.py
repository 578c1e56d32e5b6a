"""Networks over several files."""

from __future__ import annotations

import torch

from .package import build_model

CASES = {
    build_model: (torch.randn(2, 3, 8, 8), "stem:8", ""),
}  # fmt: skip
