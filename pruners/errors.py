"""Every error the toolkit raises on purpose: one class for each kind of refusal, with the code that the terminal shows.

Each message is one line that says what is wrong and what to do. What a code means, with an example, is in
``explanations.md`` beside this file, which ``secateur explain CODE`` prints. A code keeps its meaning for ever.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from .places import Site

EXPLANATIONS = Path(__file__).with_name("explanations.md")
FAULT_CODE = "SEC900"  # of a fault of the tool itself


class SecateurError(Exception):
    """Base of all errors. ``exit_code`` is what the command line returns, ``code`` the kind of refusal.

    ``reason``: what is wrong. ``site``: the place in the user's file that it is about, which the message names before
    the reason, unless the reason does. ``help``: the way out, after it.
    """

    exit_code = 2
    code: ClassVar[str] = ""

    def __init__(self, reason: str = "", *, site: Site | None = None, help: str = "") -> None:
        self.reason, self.site, self.help = reason, site, help
        super().__init__(self._told())

    def _told(self) -> str:
        named = self.site is None or not self.site.file or str(self.site) in self.reason
        place = "" if named else f"{self.site}: "
        return place + self.reason + (f"; {self.help}" if self.help else "")

    def retell(self, words: Callable[[str], str]) -> None:
        """Say the same in other words."""
        self.reason, self.help = words(self.reason), words(self.help)
        self.args = (self._told(),)


def some(names: Sequence[str], shown: int = 3) -> str:
    """``a, b, c and 12 more``: how messages name several things."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


# -- 1: the command line


class UsageError(SecateurError):
    """Something the user gave can't be used as it is (exit code 2)."""


class OptionError(UsageError):
    """An option has a value that it can't take."""

    code = "SEC101"


class ConflictError(UsageError):
    """Options that don't go together."""

    code = "SEC102"


class NotGivenError(UsageError):
    """Something has to be said that wasn't."""

    code = "SEC103"


class UnknownNameError(UsageError):
    """There is nothing of that name."""

    code = "SEC104"


class ConfigError(UsageError):
    """The file of options can't be used."""

    code = "SEC105"


class PackageError(UsageError):
    """A package is missing that this needs, or doesn't fit the others."""

    code = "SEC106"


class UnsuitedError(UsageError):
    """What was asked for can't be done with this network or these data."""

    code = "SEC107"


# -- 2: the model file, and other code of the user's


class ModelFileError(UsageError):
    """The model file, module, folder or factory can't be loaded."""

    code = "SEC201"


class FactoryError(ModelFileError):
    """The function that makes the network is not there, or can't be called so."""

    code = "SEC202"


class UserCodeError(ModelFileError):
    """The user's own code failed when it was imported or called."""

    code = "SEC203"


class InputError(UsageError):
    """The network can't be run on these inputs."""

    code = "SEC204"


class MeasureError(UsageError):
    """The user's own measure of a network failed, or gave what is no number."""

    code = "SEC205"


# -- 3: data and weights


class DataError(UsageError):
    """The data set is missing, empty or has the wrong layout."""

    code = "SEC301"


class NeedsDataError(DataError):
    """What was asked for needs images, or their labels."""

    code = "SEC302"


class OwnDataError(DataError):
    """The user's own function gives data in a form that can't be used."""

    code = "SEC303"


class CheckpointError(UsageError):
    """The checkpoint is missing, or not plain tensors."""

    code = "SEC304"


class WeightsMismatchError(CheckpointError):
    """The weights are another network's: keys or shapes don't fit."""

    code = "SEC305"


class NotFiniteError(CheckpointError):
    """Weights hold NaN or infinity, or give them."""

    code = "SEC306"


# -- 4: budgets, plans, and runs that go on


class BudgetError(UsageError):
    """The budget is out of range or can't be reached."""

    code = "SEC401"


class PlanError(UsageError):
    """The pruning plan is malformed or impossible."""

    code = "SEC402"


class PlanMismatchError(PlanError):
    """The plan was made for another network, other source or other weights."""

    code = "SEC403"


class ResumeError(CheckpointError):
    """A run can't go on, or not beside another one."""

    code = "SEC404"


class BundleError(UsageError):
    """The folder is no bundle, or its files are damaged."""

    code = "SEC405"


class TrainingError(SecateurError):
    """Training ended early because its loss was no number; the weights of the best epoch are kept (exit code 1)."""

    exit_code = 1
    code = "SEC406"


# -- 5: the network


class NotPrunableError(SecateurError):
    """The network can't be traced, pruned or written; names file and line (exit code 3)."""

    exit_code = 3


class NothingToPruneError(NotPrunableError):
    """No channels and no layers may go."""

    code = "SEC501"


class TraceError(NotPrunableError):
    """The network can't be run, or followed, to find which channels go together."""

    code = "SEC502"


class StuckError(NotPrunableError):
    """The code of a network can't follow a plan: ``reason`` at ``site``, for the ``widths`` that are counted there.

    ``alike``: it could if these widths kept equally many channels.
    """

    code = "SEC503"

    def __init__(
        self, reason: str, site: Site | None = None, widths: Sequence[str] = (), *, alike: bool = False, shown: str = ""
    ) -> None:
        super().__init__(shown or reason, site=site)
        self.reason, self.widths, self.alike = reason, tuple(widths), alike


class SharedNumberError(StuckError):
    """One number in the code counts two widths."""

    code = "SEC504"


class MixedNumberError(StuckError):
    """A number in the code mixes channels with sizes."""

    code = "SEC505"


class OtherWayError(StuckError):
    """With fewer channels the code goes another way."""

    code = "SEC506"


class ConfiguredError(NotPrunableError):
    """The configuration of a library's model can't say what is pruned."""

    code = "SEC507"


class DeclarationError(NotPrunableError):
    """A decorator says something its class does not do; names class, layer and decorator line."""

    code = "SEC508"


# -- 6: the file that is written


class SourceError(NotPrunableError):
    """The source of a class or function can't be rewritten; names file and line."""

    code = "SEC601"


class NoSourceError(SourceError):
    """There is no source to rewrite."""

    code = "SEC602"


class ValueTextError(SourceError):
    """A value that the network holds can't be written as code."""

    code = "SEC603"


class UnsavedError(SourceError):
    """A tensor or layer that neither the constructor nor the weights bring back."""

    code = "SEC604"


class SharedCodeError(SourceError):
    """Code that several modules share needs another number for each."""

    code = "SEC605"


class NameClashError(SourceError):
    """A name can't be brought into the written file."""

    code = "SEC606"


class UnwritableLayerError(SourceError):
    """A layer is of a kind, or in a state, that can't be written."""

    code = "SEC607"


class WrittenError(SourceError):
    """The written file isn't what was meant."""

    code = "SEC608"


# -- 7: what is published


class OutputError(UsageError):
    """The bundle can't be written: read-only folder, full disk."""

    code = "SEC701"


class BundleExistsError(UsageError):
    """The output folder already holds something and ``--force`` was not given."""

    code = "SEC702"


class VerificationError(SecateurError):
    """The bundle was generated, but it doesn't compute the same network; nothing is published (exit code 1)."""

    exit_code = 1
    code = "SEC703"


class OutOfMemory(SecateurError):  # noqa: N818  (torch's own name for it)
    """The machine has too little memory for what was asked; says what to lower (exit code 2)."""

    code = "SEC704"


class Interrupted(SecateurError):  # noqa: N818  (it reports a wish of the user, not a fault)
    """The user pressed Ctrl-C; everything done so far is kept and can be resumed (exit code 130)."""

    exit_code = 130


_VALUED = re.compile(r"(?<![\w/.-])--(search|transfer|per|metric|mode) (?!out\b)(\w+)")
_RATIO = re.compile(r"(?<![\w/.-])--ratio (\S+)=([\d.e-]+)")
_OPTION = re.compile(r"(?<![\w/.-])--([a-z]+(?:-[a-z]+)*)(?: (?=-?\d))?")
_ARGUMENTS = {"data": "batches=", "force": "force=True"}


@contextmanager
def named_as_in_python() -> Iterator[None]:
    """Errors name options as the command line does; out of this block they name the arguments of Python:
    ``--round-to`` is ``round_to=``, and ``--search global`` is ``search="global"``."""
    try:
        yield
    except UsageError as error:
        error.retell(_as_argument)
        raise


def _as_argument(text: str) -> str:
    text = _RATIO.sub(r'ratio={"\1": \2}', _VALUED.sub(r'\1="\2"', text)).replace(" with -o", " with output=")
    return _OPTION.sub(lambda m: _ARGUMENTS.get(m[1], m[1].replace("-", "_") + "="), text)
