"""Declared ties as a graph of their own, and compared with what the network really does.

``declared_graph`` composes blocks and free layers in the order of their definition, without running anything.
``check_declarations`` holds every decorated block against a trace: a decorator that says something else than its
class does is an error. What no decorator speaks of is not compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pruners.channel_graph import NOWHERE, ChannelGraph, IntArray, Slot
from pruners.decorators import BlockKind, skipped_layers
from pruners.dependencies import Block, declared_block, shortcut_convs
from pruners.errors import DeclarationError
from pruners.facts import Facts
from pruners.layer_facts import NORMS, LayerFacts, canonical_keys, groups_of, is_weighted
from pruners.solving import solve
from pruners.tracing import call_arguments, observe

_MODULES = nn.modules
_PASSING = (_MODULES.activation, _MODULES.pooling, _MODULES.dropout, _MODULES.flatten, _MODULES.padding,
            _MODULES.upsampling)  # fmt: skip
_MIXING = (nn.Softmax, nn.Softmax2d, nn.LogSoftmax, nn.Softmin, nn.GLU, nn.Unflatten, nn.MultiheadAttention)


# ---------------------------------------------------------------------------------------------- composing


def declared_graph(model: nn.Module) -> ChannelGraph:
    """The channel graph of a network whose layers and blocks run in the order of their definition.

    Fast, but that order is taken on trust: check it with ``same_groups(declared_graph(m), trace(m, x))``. Raises
    DeclarationError for a wrong declaration, NotPrunableError where the numbers of channels contradict the order.
    """
    layers = declare(model)
    return solve(layers.facts, aliases=layers.aliases)


def declare(model: nn.Module) -> LayerFacts:
    """The facts behind ``declared_graph``."""
    layers = LayerFacts(model)
    out = _compose(model, "", None, layers)
    if out is not None:
        layers.facts.freeze(out, "an output of the network", NOWHERE)
    for name, site in skipped_layers(model).items():
        layer = model.get_submodule(name)
        layers.facts.freeze(layers.produce(name, layer, groups_of(layer), site), "skipped by its decorator", site)
    return layers


def _compose(module: nn.Module, path: str, channels: IntArray | None, layers: LayerFacts) -> IntArray | None:
    """The channels after the module, from the channels before it; None: channels that stay."""
    block = declared_block(path, module)
    if block is not None:
        return block.calculator.connect(block, channels, layers, path)
    if is_weighted(module):
        groups = groups_of(module)
        layers.read(path, module, groups, channels, NOWHERE)
        return layers.produce(path, module, groups, NOWHERE)
    if isinstance(module, NORMS):
        if channels is not None:
            layers.normalise(path, module, channels, NOWHERE)
        return channels
    children = list(module.named_children())
    for name, child in children:
        channels = _compose(child, f"{path}.{name}" if path else name, channels, layers)
    if children or _passes(module):
        return channels
    if channels is not None:
        layers.facts.freeze(channels, f"{path or type(module).__name__} is not declared", NOWHERE)
    return None


def _passes(module: nn.Module) -> bool:
    """Whether a layer without children leaves channels as they are."""
    if isinstance(module, (nn.Identity, nn.Sequential, nn.ModuleList)):
        return True
    home = type(module).__module__
    return any(home == m.__name__ for m in _PASSING) and not isinstance(module, _MIXING)


def same_groups(first: ChannelGraph, second: ChannelGraph) -> bool:
    """Whether two graphs of one network say the same: equal groups, over equal positions of equal slots."""
    return _groups(first) == _groups(second)


def _groups(graph: ChannelGraph) -> set[frozenset[tuple[Slot, int]]]:
    found = set()
    for width in graph.widths:
        for group in range(width.size):
            found.add(frozenset((u.slot, int(i)) for u in width.uses for i in u.index[group] if not u.slot.virtual))
    return found


# ---------------------------------------------------------------------------------------------- comparing


@dataclass(frozen=True)
class Disagreement:
    """A declaration and a trace that contradict each other. ``outside``: the trace may have joined these channels
    outside of the block, as both go in or out of it."""

    text: str
    outside: bool = False


def check_declarations(model: nn.Module, facts: Facts, example_input: Any) -> None:
    """Compare every decorated block with the facts of a trace (``observe(model, example_input).facts``).

    Only convolutions that the decorator names are compared, not the norms behind them, and only blocks that the
    example input reaches. Raises DeclarationError, naming class, layer and the decorator's line.
    """
    blocks = declared_blocks(model)
    if not blocks:
        return
    traced = _Traced.of(facts, canonical_keys(model))
    for block in (b for b in blocks if _is_plain(b)):
        for found in disagreements(block, traced, block.path):
            if found.outside:
                _check_alone(model, block, example_input)
            else:
                raise block.error(found.text)


def declared_blocks(model: nn.Module) -> list[Block]:
    """Every instance of a decorated class, in the order of definition. Raises DeclarationError for a layer that isn't
    there."""
    found = (declared_block(path, module) for path, module in model.named_modules())
    return [b for b in found if b is not None]


def _is_plain(block: Block) -> bool:
    """Whether the weights are parameters themselves; computed ones (weight norm) have no slots of their own."""
    named = (*block.declaration.convs, *shortcut_convs(block.module, block.declaration.downsampling))
    layers = (block.layer(n) for n in named)
    return all("weight" in layer._parameters or "weight" in layer._buffers for layer in layers)


@dataclass(frozen=True)
class _Traced:
    """A trace's partition. ``stuck``: for every class whether it must stay."""

    facts: Facts
    keys: Mapping[str, str]
    slots: frozenset[Slot]
    classes: IntArray
    stuck: np.ndarray

    @staticmethod
    def of(facts: Facts, keys: Mapping[str, str]) -> _Traced:
        classes = facts.classes()
        stuck = np.zeros(int(classes.max()) + 1, dtype=bool)
        for freeze in facts.freezes:
            stuck[classes[freeze.atoms]] = True
        return _Traced(facts, keys, frozenset(facts.slots), classes, stuck)


def disagreements(block: Block, traced: _Traced, path: str) -> Iterator[Disagreement]:
    """What a block's declaration says otherwise than a trace in which the block lies at ``path``."""
    layers = LayerFacts(block.module)
    site = block.declaration.site
    incoming = layers.facts.virtual("input", block.calculator.input_channels(block), site)
    outgoing = block.calculator.connect(block, incoming, layers, "")
    claimed = [s for s in layers.facts.slots if not s.virtual and _is_claim(block, s)]
    there = {s: Slot(traced.keys[f"{path}.{s.parameter}" if path else s.parameter], s.dim, s.blocks) for s in claimed}
    seen = [s for s in claimed if there[s] in traced.slots]
    if not seen:
        return
    missing = next((s.layer for s in claimed if not any(t.parameter == there[s].parameter for t in traced.slots)), None)
    if missing is not None:
        yield Disagreement(f"names {missing}, but its forward doesn't run that layer")
        return
    owner = np.concatenate([np.full(layers.facts.atoms(s).size, i) for i, s in enumerate(seen)])
    classes = layers.facts.classes()
    declared = classes[np.concatenate([layers.facts.atoms(s) for s in seen])]
    found = traced.classes[np.concatenate([traced.facts.atoms(there[s]) for s in seen])]
    apart = _first_split(declared, found, traced.stuck[found])
    if apart is not None:
        a, b = (_axis(block, seen[owner[i]]) for i in apart)
        yield Disagreement(f"declares that {a} and {b} go together, but its forward doesn't join them one by one")
    joined = _first_split(found, declared, np.zeros(found.size, dtype=bool))
    if joined is not None:
        ports = set(classes[np.concatenate([incoming, outgoing])].tolist())
        a, b = (_axis(block, seen[owner[i]]) for i in joined)
        text = f"declares nothing that joins {a} and {b}, but its forward does"
        yield Disagreement(text, outside=all(int(declared[i]) in ports for i in joined))


def _first_split(together: IntArray, apart: IntArray, stuck: np.ndarray) -> tuple[int, int] | None:
    """Two positions in one class of ``together`` but in different ones of ``apart``, unless all of that class are
    stuck: what must stay is joined with nothing."""
    order = np.lexsort((np.arange(together.size), together))
    first = order[np.searchsorted(together[order], together)]
    for i in np.flatnonzero(apart != apart[first]):
        if not (stuck[i] and stuck[first[i]]):
            return int(first[i]), int(i)
    return None


def _is_claim(block: Block, slot: Slot) -> bool:
    return not isinstance(block.module.get_submodule(slot.layer), NORMS)


def _axis(block: Block, slot: Slot) -> str:
    weight = slot.parameter.endswith("weight")
    transposed = isinstance(block.module.get_submodule(slot.layer), nn.modules.conv._ConvTransposeNd)
    reads = weight and slot.dim == (0 if transposed else 1)
    return f"the {'input' if reads else 'output'} channels of {slot.layer}"


# ---------------------------------------------------------------------------------------------- one block alone


class _Alone(nn.Module):
    """A block behind a layer that gives its input channels of their own."""

    def __init__(self, entry: nn.Module, block: nn.Module, others: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        super().__init__()
        self.entry, self.block = entry, block
        self._others, self._named = others, named

    def forward(self, x: Tensor) -> Any:
        return self.block(self.entry(x), *self._others, **self._named)


def _check_alone(model: nn.Module, block: Block, example_input: Any) -> None:
    """Trace the block by itself: what is joined then is joined by its own forward."""
    inputs = _inputs_of(model, block.module, example_input)
    if inputs is None:
        return
    (x, *others), named = inputs
    size = block.calculator.input_channels(block)
    entry = _entry(size, x)
    if entry is None:
        return
    alone = _Alone(entry.to(x), block.module, tuple(others), named)
    traced = _Traced.of(observe(alone, x).facts, canonical_keys(alone))
    for found in disagreements(block, traced, "block"):
        raise block.error(found.text)


def _entry(size: int, x: Any) -> nn.Module | None:
    """A layer that maps ``size`` channels to as many; None if the tensor doesn't hold that many where we look."""
    kinds: dict[int, Callable[..., nn.Module]] = {3: nn.Conv1d, 4: nn.Conv2d, 5: nn.Conv3d}
    if not isinstance(x, Tensor) or x.ndim < 2 or not x.is_floating_point():
        return None
    if x.ndim in kinds and x.shape[1] == size:
        return kinds[x.ndim](size, size, 1)
    return nn.Linear(size, size) if x.shape[-1] == size else None


def _inputs_of(model: nn.Module, module: nn.Module, example_input: Any) -> tuple[Any, Mapping[str, Any]] | None:
    """The arguments of the module's first call."""
    calls: list[tuple[Any, Mapping[str, Any]]] = []
    hook = module.register_forward_pre_hook(lambda m, args, kwargs: calls.append((args, kwargs)), with_kwargs=True)
    args, kwargs = call_arguments(example_input)
    training = {m: m.training for m in model.modules()}
    try:
        with torch.no_grad():
            model.eval()(*args, **kwargs)
    finally:
        hook.remove()
        for m, flag in training.items():
            m.training = flag
    return next((c for c in calls if c[0]), None)


# ---------------------------------------------------------------------------------------------- trying a kind


def check_kind(kind: BlockKind) -> ChannelGraph:
    """Trace the EXAMPLE of a kind's calculator and hold the declaration against it; the traced graph."""
    example = kind.part("calculator").EXAMPLE
    if example is None:
        raise DeclarationError(f"@{kind.name}: its calculator has no EXAMPLE; it gives a model and an input")
    model, example_input = example()
    if not any(b.declaration.kind is kind for b in declared_blocks(model)):
        raise DeclarationError(f"@{kind.name}: no class in its calculator's EXAMPLE is decorated with it")
    tracer = observe(model, example_input)
    check_declarations(model, tracer.facts, example_input)
    return tracer.graph()
