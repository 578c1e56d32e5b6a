"""Labels of live tensors and the facts found so far: what label rules talk to while a network runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from ...errors import UnknownNameError
from ...graph import (
    SILENT,
    ChannelGraph,
    Contraction,
    Facts,
    FrozenChannels,
    IntArray,
    Operation,
    Pass,
    SiteCall,
    Slot,
    Step,
    Untaken,
    solve,
)
from ...places import NOWHERE, Site
from ...run import (
    SMALL,
    ConvBase,
    ConvTransposeBase,
    Decision,
    Modules,
    NormBase,
    author_site,
    decision,
    forward_site,
    is_blank,
    isolated,
    storage_of,
    unsaved_buffers,
)
from .axis_splits import Splits
from .call import Call
from .flat_weights import FlatWeights, is_line
from .labels import NONE, Labels, axes_of, line_key, on_axis

_VECTORS = ("weight", "bias", "running_mean", "running_var")  # of a layer, each as long as the layer has channels


class Tracer:
    """Labels of live tensors and the facts found so far: what rules talk to."""

    def __init__(
        self, model: nn.Module, batch: int, splits: Splits, flat: FlatWeights, held: Mapping[Site, str] | None = None
    ) -> None:
        tensors = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
        self._names: dict[int, str] = {}
        self.aliases: dict[str, str] = {}
        for name, tensor in tensors:
            first = self._names.setdefault(id(tensor), name)
            if first != name:
                self.aliases[name] = first
        self._tensors = [t for _, t in tensors]  # keeps the identities alive
        self._storages = {storage_of(t) for t in model.parameters() if t.layout == torch.strided}
        self._copied: list[Tensor] = []
        shapes = {n: tuple(t.shape) for n, t in tensors if n not in self.aliases}
        self.facts = Facts(shapes | flat.shapes, [n for n, _ in model.named_buffers(remove_duplicate=False)])
        self.flat = flat
        self._flat_names = {n for n, s in shapes.items() if is_line(s) and n not in self.facts.buffers}
        self.modules = Modules(model)
        self.batch = batch
        self.held = dict(held or {})
        self.contractions: list[tuple[Contraction, Sequence[IntArray]]] = []
        self.site_calls: list[SiteCall] = []
        self.steps: list[Step] = []
        self.decided: list[Decision] = []
        self._labels = WeakTensorKeyDictionary()
        self.splits = splits
        self.calls, self.first_decided = self.site_calls, self.decided  # of the first pass
        self.further: list[tuple[Pass, list[SiteCall]]] = []
        self.untaken: tuple[Untaken, ...] = ()
        self.unread: dict[bytes, list[tuple[Sequence[Tensor], Site]]] = {}  # by ``line_key``, see ``Attempts``
        self._counting = True
        self._operations: Counter[str] = Counter()
        self._readers: dict[Operation, IntArray] = {}
        self._in_training: bool | None = None  # whether the pass that runs is the one in training; None: no such pass
        self.integers_follow = False  # the running function's integers are recorded as sites
        self._blocked: dict[tuple[str, int], Slot] = {}
        self.why_unreached = "not reached by the example input", NOWHERE

    # -- labels

    def labels(self, tensor: Tensor) -> Labels:
        found = self._labels.get(tensor)
        if found is not None:
            self.freeze(found.numbered, found.because, author_site() if found.numbered else NOWHERE)
            return found
        name = self._names.get(id(tensor)) or self.flat.name_of(tensor)
        if name in self.flat.shapes:
            self._read_flat(name)
            return NONE
        if name is None or id(tensor) not in self._names:
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
        if name in self.flat.shapes:
            self._read_flat(name)
            return torch.zeros(tensor.shape[axis] * blocks, dtype=torch.int64)
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

    def flat_name(self, tensor: Tensor) -> str | None:
        """The parameter in one line that the tensor is, or is made of element by element."""
        name = self._names.get(id(tensor))
        return name if name in self._flat_names else None if name else self.flat.name_of(tensor)

    def flat_planes(self, name: str) -> list[Tensor]:
        """The labels of such a parameter in the shape in which products read it."""
        shape = self.flat.shapes[name]
        lines = ((a, torch.from_numpy(self.facts.atoms(Slot(name, a)))) for a, n in enumerate(shape) if n > 1)
        return [on_axis(line, axis, len(shape)) for axis, line in lines]

    def _read_flat(self, name: str) -> None:
        reason = f"{name} is viewed as filters, and here read as it lies"
        self.freeze(self.flat_planes(name), reason, author_site())

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

    def ran(self, call: Call, ruled: bool) -> None:
        """``ruled``: there is a label rule for it."""
        self._operations[call.name] += 1
        decided = decision(call.op, call.args, call.out, call.site, ruled)
        if decided is not None:
            self.decided.append(decided)

    def reads(self, call: Call, line: Tensor, axis: int) -> None:
        """The operation reads these channels, on this axis of an operand, without weights: in the original it has to
        be told which are gone."""
        if self._counting or self._in_training:
            operation = call.name, self._operations[call.name] - 1, axis, not self._counting
            self._readers[operation] = line.numpy().ravel()

    def stored(self, tensor: Tensor) -> bool:
        """Whether it is a parameter or a buffer of the network, not made of one."""
        return id(tensor) in self._names

    def views(self, tensor: Tensor) -> bool:
        """Whether it lies in a parameter's memory, transposed or as a part: what is zero there is zero here."""
        return tensor.layout == torch.strided and storage_of(tensor) in self._storages

    def unstored(self, plane: Tensor) -> bool:
        """Whether all channels of a plane are such that no tensor of the network stores, as those of zeros."""
        return all(slot.virtual for slot in self.facts.slots_of(plane.numpy().ravel()))

    def stays(self, plane: Tensor) -> bool:
        """Whether all channels of a plane are known to stay, by what was found so far."""
        return self.facts.stays(plane.numpy())

    def ends(self, call: Call, line: Tensor) -> None:
        """Nothing of these channels is left behind the operation, as behind a layer that reads them."""
        read = self.virtual(call.name, line.numel(), call.site)
        self.tie(line, read, call.name, call.site)
        self._play(read, "in")

    def virtual(self, label: str, size: int, site: Site) -> Tensor:
        return torch.from_numpy(self.facts.virtual(label, size, site)) if size else torch.zeros(0, dtype=torch.int64)

    def produced(self, atoms: Tensor) -> None:
        self._play(atoms, "out")

    def consumed(self, weight: Tensor, atoms: Tensor, read: Tensor) -> None:
        """Weights have these channels as their inputs. ``read``: those of the tensor that is read with them."""
        self._play(atoms, "in")
        if self.unread and self.labels(weight).weight is not None:
            self.unread.pop(line_key(read), None)

    def _play(self, atoms: Tensor, role: str) -> None:
        for slot in self.facts.slots_of(atoms.numpy()):
            self.facts.play(slot, role)

    def multiplied(self, call: Call) -> None:
        """Note the products of the operation, and along which channels their indices run."""
        for loops in isolated.products(call.op, call.args, call.out) if self._counting else ():
            for tensor in (t for t in call.tensors if not self.stored(t)):
                self.flat.multiplied(self.labels(tensor).weight)
            macs = Fraction(isolated.macs_of(loops), self.batch)
            lines = [line.numpy() for loop in loops if loop.size > 1 for line in self._lines(loop)]
            self.contractions.append((Contraction(self._weight(call), macs, self.modules.current), lines))

    def _lines(self, loop: isolated.Loop) -> list[Tensor]:
        """The channels along an index: those of the first tensor that has any there."""
        for tensor, axis in loop.along:
            planes = [p.reshape(-1) for p in self.labels(tensor).planes if axes_of(p) == (axis,)]
            if planes:
                return [p for i, p in enumerate(planes) if not any(torch.equal(p, q) for q in planes[:i])]
        return []

    def _weight(self, call: Call) -> str:
        """The parameter that is multiplied, or that what is multiplied holds the elements of; "" if there is none."""
        for tensor in reversed(call.tensors):
            name = self._names.get(id(tensor)) or self.labels(tensor).weight
            if name is not None and len(self.facts.shapes[name]) > 1 and name not in self.facts.buffers:
                return name
        return ""

    def hold_unsaved(self, model: nn.Module, every: bool = False) -> None:
        """Buffers that are not in the state_dict get their values from code: only a small one, or a blank, can be
        written with fewer, or none where ``every`` one stays."""
        for path, module in model.named_modules():
            for name in unsaved_buffers(module):
                key, buffer = f"{path}.{name}" if path else name, module._buffers.get(name)
                if buffer is None or (not every and (buffer.numel() <= SMALL or is_blank(buffer))):
                    continue
                reason = f"the buffer {key} is not in the state_dict; register it with persistent=True to prune it"
                for slot in (s for s in self.facts.slots if s.parameter == self.aliases.get(key, key)):
                    self.facts.freeze(self.facts.atoms(slot), reason, forward_site(module))

    def stepped(self, name: str) -> None:
        if self._counting:
            self.steps.append((name, author_site()))

    def adopt(self, copied: nn.Module, in_training: bool = False) -> None:
        """From here on a copy of the model runs: its tensors are the model's, its work isn't counted. ``in_training``:
        what it reads without weights is what the network reads in training."""
        self._operations.clear()
        self._in_training = in_training or (None if self._in_training is None else False)
        for tensor in self._copied:
            del self._names[id(tensor)]
        self._copied = []
        for stores in (copied.named_parameters(), copied.named_buffers()):
            for name, tensor in stores:
                self._names[id(tensor)] = name
                self._copied.append(tensor)
        self.modules = Modules(copied)
        self.site_calls, self.decided = [], []
        self.splits.further()
        self._counting = False

    def passed(self, done: Pass) -> None:
        """The calls since the last copy was adopted are those of a further pass."""
        self.further.append((replace(done, decided=tuple(self.decided)), self.site_calls))

    def tie_unread(self, model: nn.Module) -> None:
        """A layer's bias that no operation reads, as where a function gets its weight alone, has the channels of what
        is read: the layer's constructor makes them equally long."""
        read = {slot.parameter for slot in self.facts.slots}
        for path, module in model.named_modules():
            if not isinstance(module, (nn.Linear, ConvBase, NormBase, nn.LayerNorm, nn.GroupNorm)):
                continue
            axis = 1 if isinstance(module, ConvTransposeBase) else 0
            names = {f"{path}.{n}" if path else n: axis if n == "weight" else 0 for n in _VECTORS}
            slots = [Slot(self.aliases.get(name, name), axis) for name, axis in names.items()]
            slots = [slot for slot in slots if slot.parameter in self.facts.shapes]
            whole = next((slot for slot in slots if slot.parameter in read), None)
            if whole is None:
                continue
            size = self.facts.shapes[whole.parameter][whole.dim]
            for slot in slots:
                if slot.parameter not in read and self.facts.shapes[slot.parameter][slot.dim] == size:
                    self.facts.tie(self.facts.atoms(whole), self.facts.atoms(slot), "one layer", NOWHERE)

    def unreached(self) -> tuple[FrozenChannels, ...]:
        """Parameters that no operation has read."""
        seen = {s.parameter for s in self.facts.slots}
        return tuple(
            FrozenChannels((Slot(name, 0),), shape[0], *self.why_unreached)
            for name, shape in self.facts.shapes.items()
            if name not in seen and name not in self.facts.buffers and len(shape) > 1 and shape[0] > 1
        )

    def unreached_modules(self) -> frozenset[str]:
        """Modules of which no parameter was read by an operation, though they have some."""
        seen = {s.layer for s in self.facts.slots}
        found = {name.rpartition(".")[0] for name in self.facts.shapes if name not in self.facts.buffers} - seen
        reached = {".".join(parts[:n]) for s in seen for parts in [s.split(".")] for n in range(1, len(parts) + 1)}
        inner = {".".join(parts[:n]) for f in found for parts in [f.split(".")] for n in range(1, len(parts) + 1)}
        return frozenset(inner - reached)

    def skip(self, layers: Mapping[str, Site], reason: str) -> None:
        """Freeze the output channels of the named layers, and of all layers in the named parts."""
        for layer, site in layers.items():
            made = [s for s in self.facts.slots if self.facts.role(s) == "out"]
            slots = [s for s in made if s.layer == layer or s.layer.startswith(f"{layer}.")]
            if not slots:
                raise UnknownNameError(f"there is no layer {layer} whose channels could be skipped")
            for slot in slots:
                self.facts.freeze(self.facts.atoms(slot), reason, site)

    def graph(self, elsewhere: Sequence[tuple[int, Any, Tracer]] = ()) -> ChannelGraph:
        """What the facts come to. ``elsewhere``: numbers of examples, other inputs made of them, and tracers that saw
        the network run on these."""
        further = [*self.further]
        for example, inputs, other in elsewhere:
            first = Pass(steps=tuple(other.steps), decided=tuple(other.first_decided))
            passes = [(first, other.calls), *other.further]
            further += [(replace(p, example=example, inputs=inputs), self._here(other, c)) for p, c in passes]
        readers = dict(self._readers)
        if self._in_training is None:
            readers |= {(name, number, axis, True): atoms for (name, number, axis, _), atoms in readers.items()}
        graph = solve(self.facts, self.contractions, self.aliases, self.calls, further, self.unreached(), readers)
        return replace(
            graph, steps=tuple(self.steps), decided=tuple(self.first_decided), untaken=self.untaken
        )

    def _here(self, other: Tracer, calls: Sequence[SiteCall]) -> list[SiteCall]:
        """The calls that another tracer saw, as if this one had."""
        mine = self.facts.atoms_of(other.facts)
        return [replace(c, counts={path: mine[atoms] for path, atoms in c.counts.items()}) for c in calls]
