"""What a channel graph is made of: slots, uses, widths, frozen channels, and the numbers that count them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from ..places import Site, Span
from ..run import Decision
from ..shown import listed

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
Kept = Mapping[str, npt.ArrayLike]
"""Width name -> the indices of its groups that stay; a width without an entry stays whole."""
Realize = Callable[[nn.Module, Kept], nn.Module]
"""(the whole model, what is kept) -> a sliced copy that runs; ``kept`` counts the whole model's channels."""


@dataclass(frozen=True, order=True)
class Slot:
    """One axis of one parameter or buffer where channels live.

    ``parameter`` is the state_dict key; with tied weights, the first of its names. ``blocks`` is 1 except for
    the input axis of a grouped convolution's weight, which holds ``blocks`` different channel lists, one per
    convolution group; such a slot counts ``blocks * shape[dim]`` positions, group-major.
    A slot whose ``parameter`` starts with ``<`` is virtual: channels that no tensor stores (zero padding).
    """

    parameter: str
    dim: int
    blocks: int = 1

    @property
    def layer(self) -> str:
        return self.parameter.rpartition(".")[0]

    @property
    def virtual(self) -> bool:
        return self.parameter.startswith("<")

    def __str__(self) -> str:
        return f"{self.parameter}[{self.dim}]"


@dataclass(frozen=True)
class Use:
    """How one width appears in one slot.

    ``index`` has shape (groups, m): the m positions of the slot that go when a group goes (m > 1 after a
    flatten, where one channel owns height * width features). ``role`` is ``"out"`` (the slot produces the
    channel), ``"in"`` (a consumer's weights: zeroing them is removing the channel) or ``"per"`` (norms, biases,
    depth-wise weights: one value per channel).
    """

    slot: Slot
    role: str
    index: IntArray = field(compare=False)


@dataclass(frozen=True, repr=False)
class Width:
    """An ordered set of interchangeable groups: one number a search may change.

    ``block_of`` lists every group's block; the number of kept groups must be equal in all blocks and at least
    one (convolution groups, GroupNorm), or in proportion to ``shares``, one number a block. ``places``: how many
    positions of an axis a group takes, where the blocks differ in this. ``exact`` is False where a statistic is taken
    over these channels (LayerNorm, GroupNorm), so that removing differs from zeroing; ``comparable`` is False where it
    isn't known how the original would take it over the kept channels only.
    """

    name: str
    size: int
    uses: tuple[Use, ...]
    block_of: IntArray = field(compare=False)
    n_blocks: int = 1
    exact: bool = True
    comparable: bool = True
    shares: tuple[int, ...] = ()
    places: tuple[int, ...] = ()

    @property
    def share_of(self) -> tuple[int, ...]:
        """How many groups of each block go together."""
        return self.shares or (1,) * self.n_blocks

    @property
    def step(self) -> int:
        """How many groups go at a time, of all blocks."""
        return sum(self.share_of)

    def __repr__(self) -> str:
        made, read = listed(self.producers), listed(self.consumers)
        return f"Width({self.name}: {self.size} channels, made by {made or 'none'}, read by {read or 'none'})"

    @property
    def producers(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(u.slot.layer for u in self.uses if u.role == "out"))

    @property
    def consumers(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(u.slot.layer for u in self.uses if u.role == "in"))


@dataclass(frozen=True)
class FrozenChannels:
    """Channels that must stay, and why."""

    slots: tuple[Slot, ...]
    count: int
    reason: str
    site: Site


@dataclass(frozen=True)
class Extent:
    """How many channels an integer counts, or lie along an index: ``fixed`` ones, and groups of widths."""

    fixed: int
    parts: tuple[tuple[str, tuple[int, ...]], ...]

    @property
    def size(self) -> int:
        return self.fixed + sum(len(groups) for _, groups in self.parts)

    def count(self, kept: Kept) -> int:
        total = self.fixed
        for name, groups in self.parts:
            total += int(np.isin(groups, np.asarray(kept[name])).sum()) if name in kept else len(groups)
        return total


@dataclass(frozen=True)
class Contraction:
    """One convolution or matrix product: how many multiply-accumulates it takes for one image.

    ``parameter``: the weight that is multiplied, or a part of it; "" where there is none, as in the products of
    attention, or where it is made of weights. ``over``: the indices that the product runs over whose channels may go;
    its cost is in proportion to the size of each.
    """

    parameter: str
    macs: Fraction
    module: str
    over: tuple[Extent, ...] = ()


Step = tuple[str, Site]  # a function of torch that gave a tensor, and where it was called


@dataclass(frozen=True)
class CountedCall:
    """A call whose integers count channels: path into (args, kwargs) -> what is counted there."""

    name: str
    module: str
    site: Site
    span: Span
    extents: Mapping[tuple[int | str, ...], Extent] = field(compare=False)
    constants: Mapping[tuple[int | str, ...], float] = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class Pass:
    """A run of the network: on which example (from 0), or on other ``inputs`` made of it (another batch, another size),
    in training mode or not, with gradients or not, which ways it tries that no run takes by itself, those of them that
    fail, its steps, its calls that count channels, and what the data decided, in order."""

    example: int = 0
    training: bool = False
    graded: bool = False
    tried: frozenset[Any] = field(default=frozenset(), repr=False)
    failed: frozenset[Any] = field(default=frozenset(), repr=False)
    inputs: Any = field(default=None, compare=False, repr=False)
    steps: tuple[Step, ...] = field(default=(), compare=False, repr=False)
    calls: tuple[CountedCall, ...] = field(default=(), compare=False, repr=False)
    decided: tuple[Decision, ...] = field(default=(), compare=False, repr=False)


@dataclass(frozen=True)
class Untaken:
    """A place in the code that no run of the network takes by itself. ``held``: why it can't be tried either, so that
    all channels it could read stay."""

    site: Site
    held: str = ""


# the n-th call of an aten operation in a pass, from 0, an axis of the operand that holds channels, and whether the pass
# is one in training
Operation = tuple[str, int, int, bool]


@dataclass(frozen=True)
class Positions:
    """Which group of which width each position of an axis belongs to; the width is "" where it must stay."""

    widths: tuple[str, ...]
    width_of: IntArray = field(compare=False)  # number in ``widths``, or -1
    group_of: IntArray = field(compare=False)

    def mask(self, kept: Kept) -> BoolArray:
        """The positions that stay."""
        stays = np.ones(self.width_of.size, dtype=bool)
        for number, name in enumerate(self.widths):
            if name in kept:
                here = self.width_of == number
                stays[here] = np.isin(self.group_of[here], np.asarray(kept[name]))
        return stays
