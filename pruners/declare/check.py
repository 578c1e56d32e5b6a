"""Declarations held against what the network really does.

Every decorated block is traced alone, between two layers of our own: what goes in and what comes out then have
channels of their own, and what is joined is joined by the block's forward. A decorator that says something else is
an error. What no decorator speaks of is not compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..decorators import BlockKind
from ..dependencies import Block, declared_block, shortcut_convs
from ..errors import DeclarationError
from ..graph import NORMS, ChannelGraph, Facts, IntArray, LayerFacts, Slot, Tie, canonical_keys
from ..run import ConvTransposeBase, as_it_was, call_arguments, hooked
from ..trace import observe


def check_declarations(model: nn.Module, facts: Facts, example_input: Any, tied: bool = False) -> None:
    """Compare every decorated block that the example input reaches with what its forward does.

    ``facts``: a trace of the whole network (``observe(model, example_input).facts``); a block that can't be run
    alone, because it doesn't take one tensor of channels, is compared with that instead. Only what the decorator
    names is compared, not the norms behind it. ``tied``: layers of a block that are declared to go together do so, as
    ``declared_ties`` says, whether its forward joins them or not. Raises DeclarationError, naming class, layer and
    decorator line.
    """
    blocks = [b for b in declared_blocks(model) if _is_plain(b)]
    if not blocks:
        return
    calls = _first_calls(model, [b.module for b in blocks], example_input)
    whole = _Traced.of(model, facts)
    for claim in (_Claim.of(b) for b in blocks):
        call = calls.get(claim.block.module)
        alone = _alone(claim, call) if call is not None else None
        for found in _disagreements(claim, alone or whole, "block" if alone else claim.block.path, tied):
            if alone or not found.outside:
                raise claim.block.error(found.text)


def declared_ties(model: nn.Module, facts: Facts) -> list[Tie]:
    """What decorated blocks declare of their own layers' channels, in the atoms of a trace of the whole network."""
    blocks, whole = [b for b in declared_blocks(model) if _is_plain(b)], _Traced.of(model, facts)
    claims = (_Claim.of(block) for block in blocks)
    return [tie for claim in claims for tie in _ties(_layers(claim, whole, claim.block.path)[0], claim)]


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


# ---------------------------------------------------------------------------------------------- comparing


@dataclass(frozen=True)
class _Claim:
    """What a block's declaration says: facts about its own tensors, between the channels that go in and out."""

    block: Block
    facts: Facts
    incoming: IntArray
    outgoing: IntArray

    @staticmethod
    def of(block: Block) -> _Claim:
        layers = LayerFacts(block.module)
        incoming = layers.facts.virtual("input", block.calculator.input_channels(block), block.declaration.site)
        return _Claim(block, layers.facts, incoming, block.calculator.connect(block, incoming, layers, ""))


@dataclass(frozen=True)
class _Disagreement:
    """A contradiction between declaration and trace. ``outside``: all these channels go in or out of the block, so
    in a trace of the whole network something else may have joined them."""

    text: str
    outside: bool = False


@dataclass(frozen=True)
class _Traced:
    """A trace's partition. ``stuck``: for every class whether it must stay. ``ports``: what stands for the block's
    input and output, where it was traced alone."""

    facts: Facts
    keys: Mapping[str, str]
    classes: IntArray
    stuck: np.ndarray
    ports: tuple[Slot | None, Slot | None] = (None, None)

    @staticmethod
    def of(model: nn.Module, facts: Facts, ports: tuple[Slot | None, Slot | None] = (None, None)) -> _Traced:
        classes = facts.classes()
        stuck = np.zeros(int(classes.max()) + 1, dtype=bool)
        for freeze in facts.freezes:
            stuck[classes[freeze.atoms]] = True
        return _Traced(facts, canonical_keys(model), classes, stuck, ports)


@dataclass(frozen=True)
class _Axis:
    """One list of channels that both sides know."""

    name: str
    declared: IntArray
    traced: IntArray


def _disagreements(claim: _Claim, traced: _Traced, path: str, tied: bool) -> Iterator[_Disagreement]:
    """What a block's declaration says otherwise than a trace in which the block lies at ``path``. ``tied``: its layers
    are joined as it says."""
    axes, missing = _layers(claim, traced, path)
    if missing and (axes or traced.ports[0] is not None):  # else the example doesn't reach the block
        yield _Disagreement(f"names {missing[0]}, but its forward doesn't run that layer")
    if not axes or missing:
        return
    ties = _ties(axes, claim)
    for name, port, atoms in zip(("input", "output"), traced.ports, (claim.incoming, claim.outgoing), strict=True):
        if port is None:
            continue
        known = traced.facts.atoms(port)
        if known.size != atoms.size:
            yield _Disagreement(f"declares {atoms.size} {name} channels, but has {known.size}")
            return
        axes.insert(0 if name == "input" else len(axes), _Axis(f"its {name}", atoms, known))
    yield from _compared(axes, claim, traced, ties, tied)


def _layers(claim: _Claim, traced: _Traced, path: str) -> tuple[list[_Axis], list[str]]:
    """The axes of the declared layers that both sides know, and the layers that the trace didn't see."""
    block, facts = claim.block, claim.facts
    there = set(traced.facts.slots)
    seen = {s.parameter for s in there}
    axes, missing = [], []
    for slot in facts.slots:
        if slot.virtual or isinstance(block.module.get_submodule(slot.layer), NORMS):
            continue
        key = traced.keys[f"{path}.{slot.parameter}" if path else slot.parameter]
        other = Slot(key, slot.dim, slot.blocks)
        if other in there:
            axes.append(_Axis(_called(block, slot), facts.atoms(slot), traced.facts.atoms(other)))
        elif key not in seen:
            missing.append(slot.layer)
    return axes, missing


def _ties(axes: Sequence[_Axis], claim: _Claim) -> list[Tie]:
    """Between channels that the block makes itself: what comes into it isn't cut alike because it says so."""
    if not axes:
        return []
    classes = claim.facts.classes()
    declared = classes[np.concatenate([a.declared for a in axes])]
    own = ~np.isin(declared, classes[claim.incoming])
    declared, traced = declared[own], np.concatenate([a.traced for a in axes])[own]
    _, first, inverse = np.unique(declared, return_index=True, return_inverse=True)
    return [Tie(traced[first][inverse], traced, "declared to go together", claim.block.declaration.site)]


def _compared(
    axes: Sequence[_Axis], claim: _Claim, traced: _Traced, ties: Sequence[Tie], tied: bool
) -> Iterator[_Disagreement]:
    names = [a.name for a in axes for _ in range(a.declared.size)]
    classes = claim.facts.classes()
    ports = np.concatenate([claim.incoming, claim.outgoing])
    declared = classes[np.concatenate([a.declared for a in axes])]
    found = traced.classes[np.concatenate([a.traced for a in axes])]
    with_ties = traced.facts.classes(tuple(ties))[np.concatenate([a.traced for a in axes])]
    apart = _first_split(declared, with_ties if tied else found, traced.stuck[found])
    if apart is not None:
        a, b = (names[i] for i in apart)
        helps = _first_split(declared, with_ties, traced.stuck[found]) is None
        remedy = "; --tie-declared cuts them alike all the same" if helps else ""
        reason = "go together, but its forward doesn't join them one by one"
        yield _Disagreement(f"declares that {a} and {b} {reason}{remedy}")
    joined = _first_split(found, declared, np.zeros(found.size, dtype=bool))
    if joined is not None:
        a, b = (names[i] for i in joined)
        outside = bool(np.isin(declared[list(joined)], classes[ports]).all())
        yield _Disagreement(f"declares nothing that joins {a} and {b}, but its forward does", outside)


def _first_split(together: IntArray, apart: IntArray, stuck: np.ndarray) -> tuple[int, int] | None:
    """Two positions in one class of ``together`` but in different ones of ``apart``, unless both are stuck: what
    must stay is joined with nothing."""
    order = np.lexsort((np.arange(together.size), together))
    first = order[np.searchsorted(together[order], together)]
    for i in np.flatnonzero(apart != apart[first]):
        if not (stuck[i] and stuck[first[i]]):
            return int(first[i]), int(i)
    return None


def _called(block: Block, slot: Slot) -> str:
    transposed = isinstance(block.module.get_submodule(slot.layer), ConvTransposeBase)
    reads = slot.parameter.endswith("weight") and slot.dim == (0 if transposed else 1)
    return f"the {'input' if reads else 'output'} channels of {slot.layer}"


# ---------------------------------------------------------------------------------------------- one block alone


@dataclass(frozen=True)
class _FirstCall:
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    out: Any


class _Between(nn.Module):
    """A block between a layer that gives its input channels of their own and one that reads its output."""

    def __init__(self, entry: nn.Module, block: nn.Module, leave: nn.Module, call: _FirstCall) -> None:
        super().__init__()
        self.entry, self.block, self.leave = entry, block, leave
        self._call = call

    def forward(self, x: Tensor) -> Any:
        return self.leave(self.block(self.entry(x), *self._call.args[1:], **self._call.kwargs))


def _alone(claim: _Claim, call: _FirstCall) -> _Traced | None:
    """A trace of the block by itself; None if it doesn't take and give one tensor of channels."""
    if not call.args:
        return None
    with torch.random.fork_rng(devices=[]):  # new layers draw random weights, which nobody asked for
        entry = _layer_for(call.args[0], claim.incoming.size)
        leave = _layer_for(call.out, claim.outgoing.size) or _layer_for(call.out, None)
    if entry is None or leave is None:
        return None
    between = _Between(entry, claim.block.module, leave, call)
    facts = observe(between, call.args[0]).facts
    read = Slot("leave.weight", 1)
    return _Traced.of(between, facts, (Slot("entry.weight", 0), read if read in facts.slots else None))


def _layer_for(x: Any, size: int | None) -> nn.Module | None:
    """A layer that maps the channels of ``x``, on axis 1 or on the last one, to as many. None if neither axis has
    ``size`` (None: any size)."""
    kinds: dict[int, Callable[..., nn.Module]] = {3: nn.Conv1d, 4: nn.Conv2d, 5: nn.Conv3d}
    if not isinstance(x, Tensor) or x.ndim < 2 or not x.is_floating_point():
        return None
    first, last = x.shape[1], x.shape[-1]
    if x.ndim in kinds and size in (None, first):
        return kinds[x.ndim](first, first, 1).to(x)
    return nn.Linear(last, last).to(x) if size in (None, last) else None


def _first_calls(model: nn.Module, modules: Sequence[nn.Module], example_input: Any) -> dict[nn.Module, _FirstCall]:
    """Arguments and result of each module's first call; a module that the example doesn't reach has none."""
    calls: dict[nn.Module, _FirstCall] = {}

    def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        calls.setdefault(module, _FirstCall(args, kwargs, out))

    args, kwargs = call_arguments(example_input)
    with hooked(m.register_forward_hook(note, with_kwargs=True) for m in modules), as_it_was(model), torch.no_grad():
        model.eval()(*args, **kwargs)
    return calls


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
