"""Every error the toolkit raises on purpose. Each message is one line that says what is wrong and what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .places import Site


class SecateurError(Exception):
    """Base of all errors; ``exit_code`` is what the command line returns."""

    exit_code = 2


class UsageError(SecateurError):
    """Something the user gave can't be used as it is (exit code 2)."""


class ModelFileError(UsageError):
    """The model file, module or factory can't be loaded."""


class MeasureError(UsageError):
    """The user's own measure of a network failed, or gave what is no number."""


class CheckpointError(UsageError):
    """The checkpoint is not plain tensors, or its keys, shapes or values don't fit."""


class PlanError(UsageError):
    """The pruning plan is malformed, impossible, or made for another source or other weights."""


class BudgetError(UsageError):
    """The budget is out of range or can't be reached."""


class DataError(UsageError):
    """The data set is missing, empty or has the wrong layout."""


class BundleExistsError(UsageError):
    """The output folder already holds something and ``--force`` was not given."""


class OutputError(UsageError):
    """The bundle can't be written: read-only folder, full disk."""


class NotPrunableError(SecateurError):
    """The network can't be traced, pruned or written; names file and line (exit code 3)."""

    exit_code = 3


class StuckError(NotPrunableError):
    """The code of a network can't follow a plan: ``reason`` at ``site``, for the ``widths`` that are counted there.

    ``alike``: it could if these widths kept equally many channels.
    """

    def __init__(
        self, reason: str, site: Site | None = None, widths: Sequence[str] = (), *, alike: bool = False, shown: str = ""
    ) -> None:
        super().__init__(shown or f"{site}: {reason}")
        self.reason, self.site, self.widths, self.alike = reason, site, tuple(widths), alike


class DeclarationError(NotPrunableError):
    """A decorator says something its class does not do; names class, layer and decorator line."""


class SourceError(NotPrunableError):
    """The source of a class or function can't be rewritten; names file and line."""


class VerificationError(SecateurError):
    """The bundle was generated, but it doesn't compute the same network; nothing is published (exit code 1)."""

    exit_code = 1


class OutOfMemory(SecateurError):  # noqa: N818  (torch's own name for it)
    """The machine has too little memory for what was asked; says what to lower (exit code 2)."""


class TrainingError(SecateurError):
    """Training ended early because its loss was no number; the weights of the best epoch are kept (exit code 1)."""

    exit_code = 1


class Interrupted(SecateurError):  # noqa: N818  (it reports a wish of the user, not a fault)
    """The user pressed Ctrl-C; everything done so far is kept and can be resumed (exit code 130)."""

    exit_code = 130


_VALUED = re.compile(r"(?<![\w/.-])--(search|transfer|per|metric|mode) (?!out\b)(\w+)")
_OPTION = re.compile(r"(?<![\w/.-])--([a-z]+(?:-[a-z]+)*)")
_ARGUMENTS = {"data": "batches=", "force": "force=True"}


@contextmanager
def named_as_in_python() -> Iterator[None]:
    """Errors name options as the command line does; out of this block they name the arguments of Python:
    ``--round-to`` is ``round_to=``, and ``--search global`` is ``search="global"``."""
    try:
        yield
    except UsageError as error:
        text = _VALUED.sub(r'\1="\2"', str(error)).replace(" with -o", " with output=")
        error.args = (_OPTION.sub(lambda m: _ARGUMENTS.get(m[1], m[1].replace("-", "_") + "="), text),)
        raise
