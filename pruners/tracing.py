"""Finding ties by running the network once with labels beside its tensors (abstract interpretation).

The network runs on a small concrete input under a ``TorchDispatchMode``: below modules and functions, where all of
torch is about a hundred operations. Every tensor's labels say which channel each element belongs to; a rule per
kind of operation (``rules``) carries them along and states facts; ``solving`` makes widths
of the facts.
"""

from __future__ import annotations

import copy
import difflib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from pruners.channel_graph import (
    NOWHERE,
    ChannelGraph,
    Contraction,
    FrozenChannels,
    IntArray,
    Operation,
    Site,
    Slot,
    Step,
)
from pruners.decorators import skipped_layers
from pruners.errors import NotPrunableError, SecateurError, UsageError
from pruners.facts import SILENT, Facts, SiteCall
from pruners.frames import author_site, describe, forward_site, run
from pruners.fresh import tensors_in, without_compiler
from pruners.labels import NONE, Labels, on_axis
from pruners.rules import Call, rule_for
from pruners.running import Modules, as_it_was, batch_size, call_arguments, training_batch
from pruners.sites import SiteRecorder
from pruners.solving import solve
from pruners.source.entry import SMALL, is_blank
from pruners.splits import Splits


def trace(model: nn.Module, example_input: Any, *, skip: Sequence[str] = ()) -> ChannelGraph:
    """Find the channel dependencies of a network.

    ``example_input``: a tensor, a tuple of positional arguments or a dict of keyword arguments, with the batch on
    the first axis. The model is run once in eval mode without gradients and is left as it was. ``skip``: names of
    layers whose output channels must stay. Raises NotPrunableError, naming file and line, where the network can't
    be run or a label rule fails.
    """
    return observe(model, example_input, skip=skip).graph()


def observe(
    model: nn.Module, example_input: Any, *, skip: Sequence[str] = (), held: Mapping[Site, str] | None = None
) -> Tracer:
    """Run the network under labels; the tracer holds the facts it collected. ``held``: places where all channels must
    stay, and why."""
    splits = Splits()
    while True:
        splits.begin()
        tracer = Tracer(model, batch_size(example_input), splits, held)
        _run(tracer, model, example_input)
        if tracer.unreached():
            _run_in_training(tracer, model, example_input)
        if not splits.revise(tracer.facts):
            break
    tracer.skip(dict.fromkeys(skip, NOWHERE), "asked to be skipped")
    tracer.skip(skipped_layers(model), "skipped by its decorator")
    return tracer


def _run(tracer: Tracer, model: nn.Module, example_input: Any, training: bool = False) -> None:
    """One pass under labels."""
    args, kwargs = call_arguments(example_input)
    with as_it_was(model), ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        stack.enter_context(tracer.modules.watching())
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))  # products and a softmax, which have label rules
        model.train(training)
        try:
            with _LabelMode(tracer), SiteRecorder(tracer):
                out = run(model, args, kwargs)
        except SecateurError:
            raise
        except Exception as error:
            raise NotPrunableError(f"the network can't be run on the example input: {describe(error)}") from error
        for leaf in tensors_in(out):
            tracer.freeze(tracer.labels(leaf).planes, "an output of the network", forward_site(model))
        tracer.hold_unsaved(model)


def _run_in_training(tracer: Tracer, model: nn.Module, example_input: Any) -> None:
    """Some modules run in training only (auxiliary heads): a pass of a copy finds their ties too.

    What can't be trained on the example input keeps those modules frozen, as not reached.
    """
    twice = training_batch(example_input)
    copied = copy.deepcopy(model).train()
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            run(copy.deepcopy(copied), *call_arguments(twice))
    except Exception:
        return
    tracer.adopt(copied)
    with torch.random.fork_rng(devices=[]):
        _run(tracer, copied, twice, training=True)


class Tracer:
    """Labels of live tensors and the facts found so far: what rules talk to."""

    def __init__(
        self, model: nn.Module, batch: int, splits: Splits, held: Mapping[Site, str] | None = None
    ) -> None:
        tensors = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
        self._names: dict[int, str] = {}
        self.aliases: dict[str, str] = {}
        for name, tensor in tensors:
            first = self._names.setdefault(id(tensor), name)
            if first != name:
                self.aliases[name] = first
        self._tensors = [t for _, t in tensors]  # keeps the identities alive
        shapes = {n: tuple(t.shape) for n, t in tensors if n not in self.aliases}
        self.facts = Facts(shapes, [n for n, _ in model.named_buffers(remove_duplicate=False)])
        self.modules = Modules(model)
        self.batch = batch
        self.held = dict(held or {})
        self.contractions: list[tuple[Contraction, Sequence[IntArray]]] = []
        self.site_calls: list[SiteCall] = []
        self.steps: list[Step] = []
        self._labels = WeakTensorKeyDictionary()
        self.splits = splits
        self.eval_calls = self.site_calls
        self.training_calls: list[SiteCall] = []
        self._counting = True
        self._operations: Counter[str] = Counter()
        self._readers: dict[Operation, IntArray] = {}
        self.integers_follow = False  # the running function's integers are recorded as sites
        self._blocked: dict[tuple[str, int], Slot] = {}

    # -- labels

    def labels(self, tensor: Tensor) -> Labels:
        found = self._labels.get(tensor)
        if found is not None:
            self.freeze(found.numbered, "channels are read by number", author_site() if found.numbered else NOWHERE)
            return found
        name = self._names.get(id(tensor))
        if name is None:
            return NONE
        planes = (on_axis(self.axis(tensor, a), a, tensor.ndim) for a, n in enumerate(tensor.shape) if n > 1)
        return Labels(tuple(planes), None if name in self.facts.buffers else name)

    def label(self, tensor: Tensor, labels: Labels) -> Tensor:
        if id(tensor) not in self._names:
            self._labels[tensor] = labels
        return tensor

    def axis(self, tensor: Tensor, axis: int, blocks: int = 1) -> Tensor:
        """The labels of one axis of a parameter (or of a tensor made of one)."""
        name = self._names.get(id(tensor))
        if name is None:
            return self._derived_axis(tensor, axis, blocks)
        slot = self._blocked.setdefault((name, axis), Slot(name, axis, blocks))
        if slot.blocks != blocks:
            atoms = self.facts.atoms(slot)
            self.facts.freeze(atoms, "a weight read in two ways", author_site())
            return torch.zeros(tensor.shape[axis] * blocks, dtype=torch.int64)
        return torch.from_numpy(self.facts.atoms(slot))

    def _derived_axis(self, tensor: Tensor, axis: int, blocks: int) -> Tensor:
        for plane in self.labels(tensor).planes:
            if plane.shape[axis] == plane.numel() > 1:
                return plane.reshape(-1).repeat(blocks)
        return torch.zeros(tensor.shape[axis] * blocks, dtype=torch.int64)

    # -- facts

    def tie(self, first: Tensor, second: Tensor, name: str, site: Site) -> None:
        self.facts.tie(first.numpy(), second.numpy(), name, site)

    def freeze(self, planes: Sequence[Tensor], reason: str, site: Site) -> None:
        for plane in planes:
            self.facts.freeze(plane.numpy(), reason, site)

    def no_channels(self, planes: Sequence[Tensor]) -> None:
        """What varies along these planes are no channels but, say, positions of a kernel: not worth a word."""
        self.freeze(planes, SILENT, NOWHERE)

    def uniform(self, blocks: Tensor, reason: str, site: Site) -> None:
        self.facts.uniform(blocks.numpy(), reason, site)

    def statistic(self, call: Call, plane: Tensor, axis: int) -> None:
        """The operation takes a statistic over these channels, on this axis of its first operand."""
        self.facts.statistic(plane.numpy(), comparable=True)
        self.reads(call, plane, axis)

    def ran(self, call: Call) -> None:
        self._operations[call.name] += 1

    def reads(self, call: Call, line: Tensor, axis: int) -> None:
        """The operation reads these channels, on this axis of an operand, without weights: in the original it has to
        be told which are gone."""
        if self._counting:
            self._readers[call.name, self._operations[call.name] - 1, axis] = line.numpy().ravel()

    def stored(self, tensor: Tensor) -> bool:
        """Whether it is a parameter or a buffer of the network, not made of one."""
        return id(tensor) in self._names

    def ends(self, call: Call, line: Tensor) -> None:
        """Nothing of these channels is left behind the operation, as behind a layer that reads them."""
        read = self.virtual(call.name, line.numel(), call.site)
        self.tie(line, read, call.name, call.site)
        self._play(read, "in")

    def virtual(self, label: str, size: int, site: Site) -> Tensor:
        return torch.from_numpy(self.facts.virtual(label, size, site)) if size else torch.zeros(0, dtype=torch.int64)

    def produced(self, atoms: Tensor) -> None:
        self._play(atoms, "out")

    def consumed(self, weight: Tensor, atoms: Tensor) -> None:
        self._play(atoms, "in")

    def _play(self, atoms: Tensor, role: str) -> None:
        for slot in self.facts.slots_of(atoms.numpy()):
            self.facts.play(slot, role)

    def contracted(self, weight: Tensor, positions: Fraction | int, lines: Sequence[Tensor] = ()) -> None:
        """The weight was multiplied at this many positions, over the whole batch, along ``lines`` of channels."""
        name = self._names.get(id(weight)) or self.labels(weight).weight
        if name is not None and self._counting:
            part = Fraction(weight.numel(), math.prod(self.facts.shapes[name]))
            made = Contraction(name, part * positions / self.batch, self.modules.current)
            self.contractions.append((made, [line.numpy() for line in lines]))

    def hold_unsaved(self, model: nn.Module) -> None:
        """Buffers that are not in the state_dict get their values from code: only a small one, or a blank, can be
        written with fewer."""
        for path, module in model.named_modules():
            for name in module._non_persistent_buffers_set:
                key, buffer = f"{path}.{name}" if path else name, module._buffers.get(name)
                if buffer is None or buffer.numel() <= SMALL or is_blank(buffer):
                    continue
                reason = f"the buffer {key} is not in the state_dict; register it with persistent=True to prune it"
                for slot in (s for s in self.facts.slots if s.parameter == self.aliases.get(key, key)):
                    self.facts.freeze(self.facts.atoms(slot), reason, forward_site(module))

    def stepped(self, name: str) -> None:
        if self._counting:
            self.steps.append((name, author_site()))

    def adopt(self, copied: nn.Module) -> None:
        """From here on a copy of the model runs, in training: its tensors are the model's, its work isn't counted."""
        for stores in (copied.named_parameters(), copied.named_buffers()):
            for name, tensor in stores:
                self._names[id(tensor)] = name
                self._tensors.append(tensor)
        self.modules = Modules(copied)
        self.site_calls = self.training_calls
        self._counting = False

    def unreached(self) -> tuple[FrozenChannels, ...]:
        """Parameters that no operation has read."""
        seen = {s.parameter for s in self.facts.slots}
        return tuple(
            FrozenChannels((Slot(name, 0),), shape[0], "not reached by the example input", NOWHERE)
            for name, shape in self.facts.shapes.items()
            if name not in seen and name not in self.facts.buffers and len(shape) > 1 and shape[0] > 1
        )

    def skip(self, layers: Mapping[str, Site], reason: str) -> None:
        """Freeze the output channels of the named layers."""
        for layer, site in layers.items():
            slots = [s for s in self.facts.slots if s.layer == layer and self.facts.role(s) == "out"]
            if not slots:
                raise UsageError(_unknown_layer(layer, self.facts))
            for slot in slots:
                self.facts.freeze(self.facts.atoms(slot), reason, site)

    def graph(self) -> ChannelGraph:
        calls = (self.eval_calls, self.training_calls)
        graph = solve(self.facts, self.contractions, self.aliases, calls, self.unreached(), self._readers)
        return replace(graph, steps=tuple(self.steps))


class _LabelMode(TorchDispatchMode):
    """Runs every operation, then its label rule."""

    def __init__(self, tracer: Tracer) -> None:
        super().__init__()
        self._tracer = tracer

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        with torch._C.DisableTorchFunction():  # inside a script function the recorder would see operations and rules
            return self._labelled(func, args, kwargs or {})

    def _labelled(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        strides = args[0].stride() if args and isinstance(args[0], Tensor) else ()
        out = func(*args, **kwargs)
        call = Call(func, args, kwargs, out, author_site(), strides)
        self._tracer.ran(call)
        rule = rule_for(func)
        try:
            rule(self._tracer, call)
        except SecateurError:
            raise
        except Exception as error:
            raise NotPrunableError(f"{call.name} at {call.site}: its label rule failed: {describe(error)}") from error
        return out


without_compiler(_LabelMode)


def _unknown_layer(layer: str, facts: Facts) -> str:
    layers = sorted({s.layer for s in facts.slots if facts.role(s) == "out"})
    close = difflib.get_close_matches(layer, layers, 1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return f"there is no layer {layer} whose channels could be skipped{hint}"
