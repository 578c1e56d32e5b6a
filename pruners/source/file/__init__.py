"""The file as a whole: what is kept, edited, gathered, checked and rendered."""

from __future__ import annotations

from .attributes import losses, set_from_outside, stale
from .authors_factory import as_written, called, gone_parameters, loaders
from .beside import Beside
from .beside_forward import follow_beside
from .branches import Branches
from .check import check, failing_lines, run, sizes
from .choices import broken_choices
from .edits import Changes, Edit
from .factory import factory_chunk, returning, source_of
from .gather import Chunk, Gatherer
from .literals import Rewrites, plan_rewrites
from .quiet_run import namespace
from .reach import Reach, Unreached
from .render import Header, render, top_of
from .repairs import repairs, shared, tie
from .splice import ClassParts, class_text, statement_text

__all__ = [
    "Beside", "Branches", "Changes", "Chunk", "ClassParts", "Edit", "Gatherer", "Header", "Reach", "Rewrites",
    "Unreached", "as_written", "broken_choices", "called", "check", "class_text", "factory_chunk", "failing_lines",
    "follow_beside", "gone_parameters", "loaders", "losses", "namespace", "plan_rewrites", "render", "repairs",
    "returning", "run", "set_from_outside", "shared", "sizes", "source_of", "stale", "statement_text", "tie", "top_of",
]
