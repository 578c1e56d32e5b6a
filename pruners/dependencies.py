"""What a declared block ties together, without running it: one dependency calculator per kind of block.

A calculator answers five questions about an instance from its convolutions' names; ``connect`` turns the answers
into facts between two ports: the channels that come in and the channels that go out.

    incoming ──> interface layers ──> internal connections ──> dependent conv ──> outgoing
        └──────────────── external dependency (a shortcut that adds) ────────────────┘

Names of layers are attribute names within the block, dotted where a layer lies deeper (``"downsample.0"``).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Any, ClassVar

import numpy as np
from torch import nn

from .decorators import Declaration, closest, declaration_of, layer_named
from .graph import NORMS, IntArray, LayerFacts, fits, groups_of, input_size, is_weighted, norm_size

Names = Sequence[str]
Connections = Mapping[str, Sequence[tuple[str, int]]]


@dataclass(frozen=True)
class Block:
    """One instance of a declared class, at ``path`` in its network."""

    path: str
    module: nn.Module
    declaration: Declaration

    def layer(self, name: str) -> nn.Module:
        """The convolution or linear layer of that name; DeclarationError with the closest name if there is none."""
        found = layer_named(self.module, name)
        if found is None:
            raise self.error(f"has no layer {name}{closest(self.module, name)}")
        if not is_weighted(found):
            raise self.error(f"names {name} among its convolutions, but that is {type(found).__name__}")
        return found

    def error(self, text: str) -> Exception:
        return self.declaration.error(type(self.module), self.path, text)

    @property
    def calculator(self) -> DependencyCalculator:
        found: DependencyCalculator = self.declaration.kind.part("calculator")
        return found


class DependencyCalculator(ABC):
    """The ties of one kind of block. ``convs`` and ``ds`` are what the decorator was given as ``convs`` and
    ``downsampling``; ``mType`` is its ``lType``; ``name`` and ``layerName`` are the instance's path.

    ``EXAMPLE`` builds a small network with the block and an example input; it is test and documentation of the kind.
    """

    EXAMPLE: ClassVar[Callable[[], tuple[nn.Module, Any]] | None] = None

    @abstractmethod
    def dependent_conv(self, layerName: str, convs: Names) -> str | Names:
        """The convolution whose output leaves the block; of several, the outputs are concatenated in this order."""

    @abstractmethod
    def internal_dependency(self, module: nn.Module, mType: str, convs: Names, ds: Names) -> tuple[bool, list[Names]]:
        """Whether filters in the block must be cut alike, and lists of convolutions: those of one list are."""

    @abstractmethod
    def external_dependency(self, module: nn.Module, mType: str, convs: Names, ds: Names) -> tuple[bool, Names]:
        """Whether the block's input is added to something, and the convolutions to whose outputs it is added."""

    @abstractmethod
    def get_internal_connections(self, name: str, module: nn.Module, convs: Names, ds: Names) -> Connections:
        """Convolution -> the layers that read its output, each with its number of groups."""

    @abstractmethod
    def get_interface_layers(self, name: str, module: nn.Module, convs: Names, ds: Names) -> list[tuple[str, int]]:
        """The layers that read the block's input, each with its number of groups."""

    def following_norm(self, module: nn.Module, conv: str) -> str | None:
        """The layer that normalises a convolution's output: by its name (``bn1`` for ``conv1``, ``squeeze_bn`` for
        ``squeeze``), else the next norm in the order of definition, before another convolution comes."""
        layers = {n: m for n, m in module.named_modules() if is_weighted(m) or isinstance(m, NORMS)}
        parent, _, own = conv.rpartition(".")
        prefix = f"{parent}." if parent else ""
        words = {own.replace("conv", "bn"), own.replace("conv", "norm"), f"{own}_bn", f"{own}_norm", f"bn_{own}"}
        named = [prefix + w for w in sorted(words) if isinstance(layers.get(prefix + w), NORMS)]
        after = list(layers)[list(layers).index(conv) + 1 :][:1]
        return next((n for n in [*named, *after] if isinstance(layers[n], NORMS)), None)

    def input_channels(self, block: Block) -> int:
        """Channels that the block takes."""
        name, groups = self.get_interface_layers(block.path, block.module, *_named(block))[0]
        return input_size(block.layer(name), groups)

    def connect(self, block: Block, incoming: IntArray | None, layers: LayerFacts, path: str) -> IntArray:
        """State the block's ties in ``layers``, where the block lies at ``path``; the channels that go out."""
        module, (convs, ds) = block.module, _named(block)
        wiring = _Wiring(block, layers, path, incoming if incoming is not None else self._unknown(block))
        for name in (*convs, *shortcut_convs(module, ds)):
            wiring.produce(name, self.following_norm(module, name))
        for name, groups in self.get_interface_layers(block.path, module, convs, ds):
            wiring.read(name, groups, None)
        for name, readers in self.get_internal_connections(block.path, module, convs, ds).items():
            for reader, groups in readers:
                wiring.read(reader, groups, name)
        for alike in self.internal_dependency(module, block.declaration.lType, convs, ds)[1]:
            for first, second in pairwise(alike):
                wiring.alike(first, second)
        for name in self.external_dependency(module, block.declaration.lType, convs, ds)[1]:
            wiring.add_input(name)
        last = self.dependent_conv(block.path, convs)
        return np.concatenate([wiring.output(n) for n in ([last] if isinstance(last, str) else last)])

    def _unknown(self, block: Block) -> IntArray:
        return np.zeros(self.input_channels(block), dtype=np.int64)


class _Wiring:
    """States one block's ties, layer by layer."""

    def __init__(self, block: Block, layers: LayerFacts, path: str, incoming: IntArray) -> None:
        self.block, self.layers, self.incoming = block, layers, incoming
        self._prefix = f"{path}." if path else ""
        self._site = block.declaration.site
        self._reason = f"@{block.declaration.kind.name}"
        self._out: dict[str, IntArray] = {}

    def output(self, name: str) -> IntArray:
        if name not in self._out:
            raise self.block.error(f"has a calculator that speaks of {name}, which is not among the declared layers")
        return self._out[name]

    def produce(self, name: str, norm: str | None) -> None:
        layer = self.block.layer(name)
        channels = self.layers.produce(self._prefix + name, layer, groups_of(layer), self._site)
        self._out[name] = channels
        if norm is not None:
            stored = self.block.module.get_submodule(norm)
            if norm_size(stored) == channels.size:
                self.layers.normalise(self._prefix + norm, stored, channels, self._site)

    def read(self, name: str, groups: int, producer: str | None) -> None:
        """A layer reads the outputs of another one, or the block's input."""
        layer = self.block.layer(name)
        channels, source = (self.incoming, "its input") if producer is None else (self.output(producer), producer)
        if not fits(layer, groups, channels):
            size = input_size(layer, groups)
            text = f"declares that {name} reads {source}, but {name} takes {size} channels, not {channels.size}"
            raise self.block.error(text)
        self.layers.read(self._prefix + name, layer, groups, channels, self._site)

    def alike(self, first: str, second: str) -> None:
        a, b = self.output(first), self.output(second)
        if a.size != b.size:
            raise self.block.error(
                f"declares that {first} and {second} are cut alike, but they make {a.size} and {b.size} channels"
            )
        self.layers.facts.tie(a, b, self._reason, self._site)

    def add_input(self, name: str) -> None:
        """The block's input is added to a layer's outputs, behind the zeros that pad it."""
        taken, made = self.incoming.size, self.output(name).size
        pad = (0, 0) if taken == made else getattr(self.block.module, "pad", None)
        if not isinstance(pad, (tuple, list)) or len(pad) != 2 or min(pad) < 0 or taken + sum(pad) != made:
            raise self.block.error(
                f"declares a shortcut that adds its {taken} input channels to the {made} of {name}: name the "
                "shortcut's convolution in downsampling, or set pad = (zeros before, zeros after)"
            )
        added = self.output(name)[pad[0] : pad[0] + taken]
        self.layers.facts.tie(self.incoming, added, self._reason, self._site)


class Chain(DependencyCalculator):
    """One convolution after the other, and nothing around them: the start for other kinds."""

    def dependent_conv(self, layerName: str, convs: Names) -> str | Names:
        return convs[-1]

    def internal_dependency(self, module: nn.Module, mType: str, convs: Names, ds: Names) -> tuple[bool, list[Names]]:
        return False, []

    def external_dependency(self, module: nn.Module, mType: str, convs: Names, ds: Names) -> tuple[bool, Names]:
        return False, []

    def get_internal_connections(self, name: str, module: nn.Module, convs: Names, ds: Names) -> Connections:
        return {a: [(b, _groups(module, b))] for a, b in pairwise(convs)}

    def get_interface_layers(self, name: str, module: nn.Module, convs: Names, ds: Names) -> list[tuple[str, int]]:
        return [(convs[0], _groups(module, convs[0]))]


class Residual(Chain):
    """A chain and a shortcut around it that is added: the convolutions in ``downsampling``, or the block's input
    itself. Where the block widens without a convolution, its attribute ``pad`` says how many channels of zeros the
    shortcut adds (before, after)."""

    def internal_dependency(self, module: nn.Module, mType: str, convs: Names, ds: Names) -> tuple[bool, list[Names]]:
        shortcut = shortcut_convs(module, ds)
        return bool(shortcut), [[convs[-1], shortcut[-1]]] if shortcut else []

    def external_dependency(self, module: nn.Module, mType: str, convs: Names, ds: Names) -> tuple[bool, Names]:
        shortcut = shortcut_convs(module, ds)
        return not shortcut, [] if shortcut else [convs[-1]]

    def get_internal_connections(self, name: str, module: nn.Module, convs: Names, ds: Names) -> Connections:
        return {c: r for n in (convs, shortcut_convs(module, ds))
                for c, r in super(Residual, self).get_internal_connections(name, module, n, ()).items()}  # fmt: skip

    def get_interface_layers(self, name: str, module: nn.Module, convs: Names, ds: Names) -> list[tuple[str, int]]:
        return [(n, _groups(module, n)) for n in (convs[0], *shortcut_convs(module, ds)[:1])]


class MBConv(Residual):
    """Expansion, depth-wise convolution, projection; the input is added where the stride is 1 and the width stays,
    unless the block's boolean attribute ``residual`` says otherwise."""

    def internal_dependency(self, module: nn.Module, mType: str, convs: Names, ds: Names) -> tuple[bool, list[Names]]:
        alike = super().internal_dependency(module, mType, convs, ds)[1]
        for a, b in pairwise(convs):
            if _groups(module, b) == _width(module, a) == _width(module, b):
                alike.append([a, b])
        return bool(alike), alike

    def external_dependency(self, module: nn.Module, mType: str, convs: Names, ds: Names) -> tuple[bool, Names]:
        adds = getattr(module, "residual", None)
        if not isinstance(adds, bool):
            stride = prod(prod(getattr(module.get_submodule(n), "stride", (1,))) for n in convs)
            adds = stride == 1 and input_size(module.get_submodule(convs[0])) == _width(module, convs[-1])
        return super().external_dependency(module, mType, convs, ds) if adds else (False, [])


class Fire(Chain):
    """The first convolution squeezes, the others read it and their outputs are concatenated."""

    def dependent_conv(self, layerName: str, convs: Names) -> str | Names:
        return convs[1:] or convs

    def get_internal_connections(self, name: str, module: nn.Module, convs: Names, ds: Names) -> Connections:
        return {convs[0]: [(c, _groups(module, c)) for c in convs[1:]]}


RESIDUAL, MB_CONV, FIRE = Residual(), MBConv(), Fire()


def declared_block(path: str, module: nn.Module) -> Block | None:
    """The module as a block, if its class is declared. Raises DeclarationError for a layer that isn't there."""
    declaration = declaration_of(type(module))
    if declaration is None:
        return None
    block = Block(path, module, declaration)
    for name in declaration.convs:
        block.layer(name)
    for name in declaration.downsampling:
        if not hasattr(module, name) and layer_named(module, name) is None:
            raise block.error(f"has no layer {name}{closest(module, name)}")
    return block


def shortcut_convs(module: nn.Module, ds: Names) -> tuple[str, ...]:
    """The convolutions in the modules on the shortcut, in order; such a module may be None or hold none."""
    found = ((n, layer_named(module, n)) for n in ds)
    inner = ((n, path, m) for n, layer in found if layer is not None for path, m in layer.named_modules())
    return tuple(f"{n}.{path}" if path else n for n, path, m in inner if is_weighted(m))


def _named(block: Block) -> tuple[Names, Names]:
    return block.declaration.convs, block.declaration.downsampling


def _groups(module: nn.Module, name: str) -> int:
    return groups_of(module.get_submodule(name))


def _width(module: nn.Module, name: str) -> int:
    layer: Any = module.get_submodule(name)
    return int(layer.weight.shape[0])
