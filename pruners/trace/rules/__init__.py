"""The label rules. Importing this package registers them; adding a file with rules is importing it here."""

from __future__ import annotations

from ..labelling import Call
from . import along_axes, contractions, elementwise, indexing, movement, normalisation
from .registry import RULES, Rule, rule, rule_for

__all__ = [
    "RULES", "Call", "Rule", "along_axes", "contractions", "elementwise", "indexing", "movement", "normalisation",
    "rule", "rule_for",
]
