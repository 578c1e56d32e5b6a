"""The proof: outputs matched in a process that holds nothing of ours."""

from __future__ import annotations

from .alike import Likeness
from .case import Case
from .cases import cases, refuse_unchecked
from .outputs import fits_double, measured, trains, varied
from .process import Verification, verify_bundle

__all__ = [
    "Case", "Likeness", "Verification", "cases", "fits_double", "measured", "refuse_unchecked", "trains", "varied",
    "verify_bundle",
]
