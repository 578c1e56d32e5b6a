"""The channel graph of a network from its declarations and the order of its layers, without running anything."""

from __future__ import annotations

from torch import nn

from secateur.pruners.decorators import skipped_layers
from secateur.pruners.dependencies import declared_block
from secateur.pruners.graph import NORMS, ChannelGraph, IntArray, LayerFacts, Slot, groups_of, is_weighted, solve
from secateur.pruners.places import NOWHERE

_MODULES = nn.modules
_PASSING = (_MODULES.activation, _MODULES.pooling, _MODULES.dropout, _MODULES.flatten, _MODULES.padding,
            _MODULES.upsampling)  # fmt: skip
_MIXING = (nn.Softmax, nn.Softmax2d, nn.LogSoftmax, nn.Softmin, nn.GLU, nn.Unflatten, nn.MultiheadAttention)


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
