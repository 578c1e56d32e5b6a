"""The label rules. Importing this package registers them; adding a file with rules is importing it here."""

from __future__ import annotations

from ..labelling import Call
from . import along_axes, contractions, indexing, movement, normalisation
from .elementwise import pointwise as elementwise
from .registry import RULES, Rule, freeze_axes, label_rule, rule, rule_for, unknown

__all__ = [
    "RULES", "Call", "Rule", "along_axes", "contractions", "elementwise", "freeze_axes", "indexing", "label_rule",
    "movement", "normalisation", "rule", "rule_for", "unknown",
]
