"""Pruning a model that a configuration describes: what comes out is the same class with other numbers, in a folder that
``from_pretrained`` opens."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import cached_property, partial
from itertools import combinations, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .base import BasicPruning, Carried, record
from .bundle import Bundle, check_free, published, write_file, write_state
from .costs import CostModel, Costs
from .depth import Depth, without_layers
from .entry import Entry
from .errors import BudgetError, ConfiguredError, NotGivenError
from .graph import ChannelGraph, FrozenChannels, Kept, Width, together
from .hub import (
    PER_LAYER,
    Axis,
    LayerList,
    Modeling,
    Number,
    Shapes,
    as_written,
    attention_of,
    by_layer,
    changed,
    code_of,
    completed,
    entries,
    fewer_layers,
    in_proportion,
    inputs_of,
    is_librarys,
    layer_lists,
    layers_of,
    made,
    missing_in,
    modeling_of,
    number,
    numbers_in,
    one_by_one,
    open_folder,
    runs_one_by_one,
    save_folder,
    shapes_in,
    shapes_of,
    told_of_layers,
    values_of,
)
from .hub import (
    Entry as ConfigEntry,
)
from .mixtures import Mixtures
from .places import NOWHERE
from .plan import PruningPlan, validate
from .run import batch_size, copied, described, precision_of, rounded, state_of, streams, take, twin
from .scratch import scratch
from .slicing import SlicedModel
from .source import Written
from .trace import observe
from .verify import Case, Likeness, Verification, cases, varied, verify_bundle
from .weight_transfer import slice_state

log = logging.getLogger(__name__)
Lost = Mapping[Axis, Mapping[str, float]]
_OPENED = Path(__file__).parent / "hub" / "opened.py"
_PROMPTS = ("input_ids", "attention_mask", "pixel_values")
_NEW_TOKENS = 8
_NEW_TOKENS_STREAMED = 3
_TRIALS = 24
_ASKED = 16
_FILE = '''"""{name}: {cls} of transformers, with the numbers of config.json."""

from pathlib import Path

from transformers import {cls}


def {name}() -> {cls}:
    return {cls}({cls}.config_class.from_pretrained(Path(__file__).parent))
'''
_OTHER = "the library makes other layers"
_NONE_MADE = "the library can't make the model with fewer"


class ConfiguredPruning(BasicPruning):
    """Prunes one model of Hugging Face's library. Its folder's tokenizer goes along (``entry.folder``).

    A width is one number of the configuration, such as ``intermediate_size``: every layer keeps channels of its own, as
    many as the others. Which number counts what is found by making the model with others (``hub.entries``), and each is
    tried: the model that it makes, with the kept weights, has to compute what the original does without the rest.
    ``skip`` takes names of such numbers, and of layers. ``per_layer``: every layer has numbers of its own, where the
    library makes layers of a configuration each; a file of code beside ``config.json`` does that then.
    """

    fileName = "config.json"

    def __init__(
        self, model: nn.Module, example_input: Any = None, *, residual: bool = False, per_layer: bool = False,
        tied: bool = False, **arguments: Any,
    ) -> None:  # fmt: skip
        cls = type(model)
        arguments["entry"] = arguments.get("entry") or Entry(cls, {}, cls.__name__, f"{cls.__module__}, {cls.__name__}")
        super().__init__(model, examples(model) if example_input is None else example_input, **arguments)
        self.residual, self.per_layer = residual, per_layer
        self._lists: dict[str, LayerList] = {}
        self._modeling: Modeling | None = None
        self.unsaid: dict[str, str] = {}  # number -> why it can't be changed
        self._mattering: dict[Any, bool] = {}
        self._unreached: tuple[FrozenChannels, ...] = ()

    def _plain(self, model: nn.Module) -> tuple[nn.Module, list[str], torch.dtype | None]:
        """As the library made it, in float32."""
        own = precision_of(model)
        if not runs_one_by_one(model):
            model = copied(model)
            one_by_one(model)
        return (model, [], None) if own == torch.float32 else (copied(model).float(), [], own)

    def fewer_experts(self, keep: float, batches: Iterable[Any] | None = None) -> tuple[str, ...]:
        """Take whole experts out, so that at most this share of each mixture's stays: those that fewest tokens of
        ``batches`` go to, without any those of the smallest weights. Returns their names.

        Raises BudgetError where a token would go to more than are left, NothingToPruneError where there are none.
        """
        names = Mixtures(self.model, self.example_input).least_used(keep, batches)
        self.take_out(names)
        return tuple(names)

    def take_out(self, names: Sequence[str]) -> None:
        """Go on without these layers, and without experts: the module that holds them, and a number."""
        modules = {n for n, _ in self.model.named_modules()}
        experts = [n for n in names if n not in modules and n.rpartition(".")[0] in modules]
        super().take_out([n for n in names if n not in experts])
        if experts:
            self.model = Mixtures(self.model, self.example_input).without(experts)
            self.without = (*self.without, *experts)

    @cached_property
    def _depth(self) -> Depth:
        return Depth(self.model, varied(self.example_input, 1, self.model), self._shorter)

    def _shorter(self, names: Sequence[str]) -> nn.Module:
        """Made of a configuration that counts fewer layers."""
        short = without_layers(self.model, names)
        gone = {}
        for home in dict.fromkeys(n.rpartition(".")[0] for n in names):
            paths = [f"{home}.{n}" for n in self.model.get_submodule(home)._modules]
            gone[home] = (len(paths), {n for n, path in enumerate(paths) if path in names})
        asked = (partial(shapes_of, self.model), partial(completed, self.model))
        values = fewer_layers(values_of(self.model), gone, shapes_in(short), *asked)
        if values is None:
            said = ", ".join(names)
            raise ConfiguredError(f"--layers: {said}: the configuration can't say that they are gone")
        network = made(self.model, values)
        network.load_state_dict(short.state_dict())
        return network

    # -- what is there

    @cached_property
    def graph(self) -> ChannelGraph:
        """The channel graph, with one width for each number of the configuration. Raises NotPrunableError where none
        can be changed."""
        layers = [s for s in self.skip if s not in self._names]
        tracer = observe(self.model, self._all, skip=layers, constructed=True)
        self._unreached = tracer.unreached()
        apart = replace(tracer.graph(), calls=(), further=())
        numbers = self._numbers(apart)
        if self.per_layer and numbers:
            numbers = self._by_layer(apart, numbers)
        counted = {w for n in numbers for w in n.shares}
        left = [w for w in apart.widths if w.name not in counted]
        frozen = [FrozenChannels(tuple(u.slot for u in w.uses), w.size, self._why_left(w), NOWHERE) for w in left]
        if not numbers:
            whys = [f"{n}: {w}" for n, w in self.unsaid.items()] or ["no number of it counts channels that can go"]
            why = "; ".join(whys)
            more = "" if self.residual else "; --residual lets the width go, too, that all blocks add to"
            raise ConfiguredError(f"{self.netName}: its configuration can't say what is pruned: {why}{more}")
        self._by_name = {n.name: n for n in numbers}
        return together(apart, {n.name: n.shares for n in numbers}, frozen)

    def _by_layer(self, graph: ChannelGraph, numbers: Sequence[Number]) -> list[Number]:
        """The numbers, each as one for every layer where layers that have it differently can be made. Raises
        ConfiguredError where none can be."""
        counted = {w for n in numbers for w in n.shares}
        inside = {w.name: [u.slot.parameter for u in w.uses] for w in graph.widths if w.name in counted}
        layers = layers_of(self.model, inside)
        lists = layer_lists(self.model, dict.fromkeys(place[0] for place in layers.values() if place is not None))
        found: list[Number] = []
        whys: list[str] = []
        for one in numbers:
            each = by_layer(one, layers, lists)
            why = each if isinstance(each, str) else self._layers_untrue(graph, each, lists)
            whys += [f"{one.name}: {why}"] if why else []
            found += [one] if isinstance(each, str) or why else each
        apart = [n for n in found if n.layer is not None]
        if not apart:
            why = "; ".join(whys)
            raise ConfiguredError(f"{self.netName}: --per-layer: no layer can have numbers of its own: {why}")
        if (why := self._layers_untrue(graph, found, lists)) not in ("", _NONE_MADE):
            raise ConfiguredError(f"{self.netName}: --per-layer: with all numbers of layers together {why}")
        return found

    def _make_layers(self, numbers: Sequence[Number], lists: Mapping[str, LayerList | str]) -> None:
        homes = dict.fromkeys(n.layer[0] for n in numbers if n.layer is not None)
        self._lists = {home: made_by for home in homes if isinstance(made_by := lists[home], LayerList)}
        self._modeling = modeling_of(self.model, list(self._lists.values()))

    def _layers_untrue(
        self, graph: ChannelGraph, each: Sequence[Number], lists: Mapping[str, LayerList | str]
    ) -> str:  # fmt: skip
        """Why the model whose layers lost some each, not as many, isn't the pruned one; empty where it is."""
        self._make_layers(each, lists)
        sizes = {w.name: w.size for w in graph.widths}
        rounds = [min(sizes[w] // n for w, n in one.shares.items()) for one in each]
        return self._untrue_with(graph, each, [1 + i % max(1, n - 1) for i, n in enumerate(rounds)], rounds)

    def _why_left(self, width: Width) -> str:
        if self._unreached and self.residual and not width.exact:
            layer = self._unreached[0].slots[0].layer
            return f"all blocks add to these channels, and {layer} may, which is not reached by the examples"
        if width.exact or self.residual:
            return "no number of the configuration counts these channels alone"
        return "all blocks add to these channels: they stay unless --residual is given"

    @cached_property
    def _names(self) -> set[str]:
        """Of the numbers in the configuration."""
        return {".".join(map(str, path)) for path, _ in numbers_in(values_of(self.model))}

    def _numbers(self, graph: ChannelGraph) -> list[Number]:
        """Numbers that count widths, and which make the pruned model; each width is counted by one at most."""
        costs = CostModel.of(self.model, graph)
        lost = {
            (slot.parameter, slot.dim): costs.axis(slot.parameter, slot.dim)[1]
            for w in graph.widths for slot in (u.slot for u in w.uses)
        }  # fmt: skip
        sizes = {w.name: w.size for w in graph.widths}
        self._values, known = self._counting(graph, lost, sizes)
        widths = {w.name: (w.size, w.n_blocks) for w in graph.widths}
        found: list[Number] = []
        exact = {w.name for w in graph.widths if w.exact}  # others are what all blocks add to, and norms run over
        rounds = [True, False] if self.residual and not self._unreached else [True]
        for inner, chosen in ((r, c) for r in rounds for c in _together(known, lost)):
            counted = {w for n in found for w in n.shares}
            if any(e.name in self.skip for e in chosen):
                continue
            for candidate in (number(chosen, lost, widths), in_proportion(chosen, lost, widths)):
                mine = set() if candidate is None else candidate.shares.keys()
                if candidate is not None and not counted & mine and (mine <= exact) == inner:
                    true = self._true(graph, candidate, known)
                    if true is not None:
                        found.append(true)
                        break
        return found

    def _true(self, graph: ChannelGraph, candidate: Number, known: Sequence[ConfigEntry]) -> Number | None:
        """The number, maybe with more entries, if what it makes is the pruned model."""
        for one in self._with_neutral(graph, candidate, known):
            why = self._untrue(graph, one)
            if not why:
                self.unsaid.pop(candidate.name, None)
                return self._makeable(graph, one)
            self.unsaid.setdefault(candidate.name, why)
        return None

    def _makeable(self, graph: ChannelGraph, one: Number) -> Number:
        """The number in steps with which the library makes a model: some counts of heads have to divide a width."""
        sizes = {w.name: w.size for w in graph.widths}
        rounds = min(sizes[w] // n for w, n in one.shares.items())
        for times in (n for n in range(1, rounds // 2 + 1) if rounds % n == 0):
            left = range(times, rounds, times)
            asked = left if len(left) <= _ASKED else [left[i * (len(left) - 1) // (_ASKED - 1)] for i in range(_ASKED)]
            if all(self._shapes(graph, changed(self._values, one.values(rounds - n))) is not None for n in asked):
                return one.coarser(times)
        return one

    def _counting(
        self, graph: ChannelGraph, lost: Lost, sizes: Mapping[str, int]
    ) -> tuple[dict[str, Any], list[ConfigEntry]]:
        """The configuration's values and its numbers; what it leaves to the library is written where it counts a
        width."""
        values = values_of(self.model)
        shapes = partial(self._shapes, graph)
        whole = self._shapes(graph, values)
        if whole is None:
            raise ConfiguredError(f"{self.netName}: the library can't make the model again from its configuration")
        groups = {whole[u.slot.parameter][u.slot.dim] // w.size for w in graph.widths for u in w.uses}
        possible = sorted({*sizes.values(), *groups} - {0, 1}, reverse=True)
        known = entries(values, shapes, possible, missing_in(self.model))
        given = dict(numbers_in(values))
        new = {e.path: e.value for e in known if given.get(e.path) is None and any(axis in lost for axis in e.slopes)}
        if new:
            values = changed(values, new)
            known = entries(values, shapes)
        return values, known

    def _with_neutral(self, graph: ChannelGraph, one: Number, known: Sequence[ConfigEntry]) -> Iterator[Number]:
        """The number, then with entries that change no shape but may say how many groups a width has, such as attention
        heads: as few as possible."""
        yield one
        own = {e.path for e in one.entries}
        steps: dict[ConfigEntry, int] = {}
        for entry in known:
            if entry.path in own or entry.slopes or not isinstance(entry.value, int):
                continue
            wholes = {w.name: divmod(entry.value, w.size) for w in graph.widths if w.name in one.shares}
            shares = {one.shares[w] * times for w, (times, left) in wholes.items() if times and not left}
            exact = {one.shares[w] for w, (times, left) in wholes.items() if times == 1 and not left}
            if (len(shares) == 1 or len(exact) == 1) and self._matters(entry):
                steps[entry] = (exact if len(exact) == 1 else shares).pop()
        for more in islice((c for n in (1, 2, 3) for c in combinations(steps, n)), _TRIALS):
            yield Number((*one.entries, *more), one.shares, {**one.steps, **{e.path: Fraction(steps[e]) for e in more}})

    def _matters(self, entry: ConfigEntry) -> bool:
        """Whether the model with the same weights computes something else with twice this number."""
        if entry.path not in self._mattering:
            values = changed(self._values, {entry.path: 2 * entry.value})
            network = partial(made, self.model, values)
            self._mattering[entry.path] = bool(self._likeness.differs(None, {}, network))
        return self._mattering[entry.path]

    def _shapes(self, graph: ChannelGraph, values: Mapping[str, Any]) -> Shapes | None:
        """Of each tensor under its first name."""
        shapes = shapes_of(self.model, values, self._class_for(values))
        return shapes and {name: shape for name, shape in shapes.items() if graph.key(name) == name}

    def _untrue(self, graph: ChannelGraph, one: Number) -> str:
        """Why the model with fewer of this number isn't the pruned one; empty where it is. With some counts the library
        may make other layers: then others are tried."""
        sizes = {w.name: w.size for w in graph.widths}
        rounds = min(sizes[w] // n for w, n in one.shares.items())
        if any(sizes[w] != n * rounds for w, n in one.shares.items()) or rounds < 2:
            return "the widths that it counts can't be cut in proportion"
        why = ""
        for left in dict.fromkeys((max(1, rounds // 2), max(1, rounds // 3), rounds - 1)):
            why = self._untrue_with(graph, [one], [left], [rounds])
            if not why or not why.startswith(_OTHER):
                break
        return why

    def _untrue_with(
        self, graph: ChannelGraph, numbers: Sequence[Number], left: Sequence[int], rounds: Sequence[int]
    ) -> str:
        merged = together(graph, {n.name: n.shares for n in numbers})
        kept = {k: v for one, n in zip(numbers, left, strict=True) for k, v in _some(merged, one, n).items()}
        values = self._changed([(one, n - m) for one, n, m in zip(numbers, rounds, left, strict=True)])
        shapes = self._shapes(graph, values)
        if shapes is None:
            return _NONE_MADE
        wanted = _cut(merged, kept)
        if shapes.keys() != wanted.keys():
            told = {k: v for one, n, m in zip(numbers, rounds, left, strict=True) for k, v in one.told(n - m).items()}
            return f"{_OTHER} with {', '.join(f'{k} {v}' for k, v in told.items())}"
        off = [k for k, shape in shapes.items() if shape != wanted[k]]
        if off:
            return f"{off[0]} would get another shape than it has when pruned"
        return self._likeness.differs(graph, merged.each(kept), partial(self._made, values))

    @cached_property
    def _likeness(self) -> Likeness:
        return Likeness(self.model, self.example_input)

    # -- what a plan makes of it

    def configuration(self, kept: Kept) -> dict[str, Any]:
        """The values of the pruned model's configuration."""
        return self._changed(list(self._gone(kept)))

    def _changed(self, steps: Sequence[tuple[Number, int]]) -> dict[str, Any]:
        """The values where numbers fell by so many steps."""
        numbers = {p: n for one, gone in steps if one.layer is None for p, n in one.values(gone).items()}
        largest, layers = told_of_layers([s for s in steps if s[0].layer is not None], self._lists, numbers)
        found = changed(self._values, {**numbers, **largest})
        if self._modeling is not None and layers:
            found |= {PER_LAYER: layers, "auto_map": self._modeling.auto_map}
        return found

    def _made(self, values: Mapping[str, Any]) -> nn.Module:
        """A model of these values, by the file of code where layers have their own."""
        return made(self.model, values, self._class_for(values))

    def _class_for(self, values: Mapping[str, Any]) -> type[nn.Module] | None:
        return self._modeling.cls if self._modeling is not None and PER_LAYER in values else None

    def _gone(self, kept: Kept) -> Iterator[tuple[Number, int]]:
        """How many steps each number falls."""
        for width in self.graph.widths:
            left = len(np.asarray(kept[width.name])) if width.name in kept else width.size
            yield self._by_name[width.name], (width.size - left) // width.step

    def realize(self, kept: Kept, model: nn.Module | None = None) -> nn.Module:
        """The library's own model with fewer channels, and the kept weights."""
        whole = model or self.model
        values = self.configuration(kept)
        try:
            network = self._made(values)
        except Exception as error:  # the library checks some numbers against others
            raise BudgetError(f"the library makes no model with {self._said(kept)}: {described(error)}") from error
        state = slice_state(state_of(whole), self.graph, kept)
        if state_of(network).keys() != state.keys():
            raise BudgetError(f"{_OTHER} with {self._said(kept)}: ask for a little more or less")
        take(network, state)
        return network.train(whole.training)

    def carry_out(self, plan: PruningPlan) -> Carried:
        validate(plan, self.graph)
        return Carried(plan, SlicedModel(self.realize(plan.kept)), Written("", (), ()))

    def network(self, carried: Carried) -> nn.Module:
        """The pruned model."""
        return self.realize(carried.plan.kept)

    def publish(
        self,
        plan: PruningPlan | Carried,
        output: str | Path | None,
        *,
        state: Mapping[str, Tensor] | None = None,
        summary: Mapping[str, Any] | None = None,
        files: Mapping[str, bytes] | None = None,
        force: bool = False,
    ) -> Bundle:
        """Write the folder, verify what ``from_pretrained`` makes of it in a fresh process, and publish it."""
        if output is None:
            raise NotGivenError("a model with a configuration goes into a folder: say which, output=FOLDER")
        output = Path(output)
        check_free(output, force)
        carried = plan if isinstance(plan, Carried) else self.carry_out(plan)
        plan, network = carried.plan, carried.sliced.model.eval()
        dtype, source = self.entry.dtype or torch.float32, self.entry.folder
        if state is not None:
            network.load_state_dict(state)
        if not self.streams:
            network.load_state_dict(as_written(network.state_dict(), source, dtype))
        with published(output, force) as draft:
            left = save_folder(network, source, draft, dtype)
            network.float()
            if self._modeling is not None:
                write_file(draft / self._modeling.file, self._modeling.text.encode())
            elif code := code_of(self.model):
                write_file(draft / code.name, code.read_bytes())
            elif source is None and is_librarys(self.model):
                write_file(draft / "model.py", _FILE.format(name=self.netName, cls=type(self.model).__name__).encode())
                write_state(draft / "weights.pth", rounded(network.state_dict(), dtype))
            written = sorted(p.name for p in draft.iterdir())
            each = self.graph.each(plan.kept)
            proof = self._cases(each, network)
            with scratch() as folder:
                opened = _opener(folder, draft, network, dtype)
                checked = verify_bundle(opened, "network", proof, self.predict(plan.kept), self._batch, weights=False)
            planned = self._summary(plan)
            proved = {**checked.about_macs(planned["macs"]), "verified": True, **checked.as_dict()}
            numbers = {**self._told_layers(), **self._told(plan.kept)}
            planned |= {"left_behind": left} if left else {}
            told = {**planned, "files": written, "configuration": numbers, **proved, **(summary or {})}
            record(draft, plan, told, files or {}, self._details(plan, ""))
        return Bundle(output, plan, told)

    def _told(self, kept: Kept) -> dict[str, Any]:
        """Every entry that the plan changes, before and after: for one of each layer a list, under the name with a star
        in the place of the layer's."""
        gone = list(self._gone(kept))
        told: dict[str, Any] = {
            entry.name: {"before": entry.value, "after": one.values(n)[entry.path]}
            for one, n in gone if one.layer is None for entry in one.entries
        }  # fmt: skip
        others = {p: n for one, gone in gone if one.layer is None for p, n in one.values(gone).items()}
        _, layers = told_of_layers([g for g in gone if g[0].layer is not None], self._lists, others)
        for home, entry in ((one.layer[0], e) for one, _ in gone if one.layer is not None for e in one.entries):
            name = self._lists[home].name_of(entry.path)
            if name in layers[home]:
                told[f"{home}.*.{name}"] = {"before": entry.value, "after": layers[home][name]}
        return told

    def _said(self, kept: Kept) -> str:
        return ", ".join(f"{n} {v['after']}" for n, v in self._told(kept).items())

    def _told_layers(self) -> dict[str, Any]:
        """Every entry that counts layers, before and after some were taken out."""
        if not self.without:
            return {}
        before, after = (dict(numbers_in(values_of(m))) for m in (self.whole, self.model))
        changed_ones = {p: n for p, n in before.items() if isinstance(n, int) and after.get(p, n) != n}
        return {".".join(map(str, p)): {"before": n, "after": after[p]} for p, n in changed_ones.items()}

    def _cases(self, each: Kept, network: nn.Module) -> list[Case]:
        apart = self.graph.apart
        assert apart is not None
        proof = cases(self.model, apart, each, _copy(network, self.model), None, self._all, runs=True, double=False)
        generated = _generated(network, self.example_input, self.model)
        return [*proof, *generated]


def examples(model: nn.Module) -> list[dict[str, Any]]:
    """Inputs made from the configuration. Raises UsageError where nothing is known of what the model takes."""
    try:
        return inputs_of(model)
    except (ValueError, AttributeError) as error:
        raise NotGivenError(f"{error}: give --example FILE.py:FUNCTION") from None


def rewritten(
    folder: Path, draft: Path, network: nn.Module, example: Any, case: Callable[[], Case], expected: Costs
) -> Verification:  # fmt: skip
    """Write a published folder's model with other weights into a draft, and verify it. Other files but the bundle's own
    go along. ``case``: what it computes with the weights as they are written."""
    dtype = open_folder(folder, code=True)[1]
    network.load_state_dict(as_written(network.state_dict(), folder, dtype))
    save_folder(network, folder, draft, dtype)
    network.float().eval()
    proof = [case(), *_generated(network, example)]
    with scratch() as place:
        opened = _opener(place, draft, network, dtype)
        return verify_bundle(opened, "network", proof, expected, batch_size(example), weights=False)


def _copy(network: nn.Module, like: nn.Module) -> nn.Module:
    if streams(network):
        return twin(network).eval()
    other = made(like, values_of(network), type(network))
    other.load_state_dict(network.state_dict())
    return other.eval()


def _together(
    known: Sequence[ConfigEntry], lost: Lost
) -> Iterator[tuple[ConfigEntry, ...]]:
    """Entries that may count widths together: those that touch the same ones, then pairs of these, then each alone.
    What counts more than another, such as the experts and what they share, comes before it."""
    structural = [e for e in known if e.slopes]
    touched = {e.path: {w for axis in e.slopes for w in lost.get(axis, ())} for e in structural}
    structural.sort(key=lambda e: sum(touched[e.path] < others for others in touched.values()))
    for entry in structural:
        if not touched[entry.path]:
            continue
        near = [e for e in structural if e is not entry and touched[e.path] & touched[entry.path]]
        sets = [(entry, *near)] if near else []
        sets += [(entry,)]
        sets += [(entry, *pair) for n in (1, 2) for pair in combinations(near, n) if n < len(near)]
        yield from sets


def _some(graph: ChannelGraph, one: Number, rounds: int) -> dict[str, np.ndarray]:
    """So many groups of every block, chosen at random."""
    width = graph.width(one.name)
    random = np.random.default_rng(0)
    blocks = [
        random.permutation(np.flatnonzero(width.block_of == b))[: rounds * share]
        for b, share in enumerate(width.share_of)
    ]
    return {width.name: np.sort(np.concatenate(blocks))}


def _cut(graph: ChannelGraph, kept: Kept) -> dict[str, tuple[int, ...]]:
    """The shapes of tensors that lose something."""
    shapes = {name: list(shape) for name, shape in graph.shapes.items()}
    for slot, mask in graph.masks(kept).items():
        shapes[slot.parameter][slot.dim] = int(mask.sum()) // slot.blocks
    return {name: tuple(shape) for name, shape in shapes.items()}


def _opener(folder: Path, draft: Path, model: nn.Module, dtype: torch.dtype) -> Path:
    """A file whose function opens the draft."""
    file = folder / "opened.py"
    file.write_bytes(_OPENED.read_bytes())
    config: Any = model.config
    read = str(dtype if streams(model) else torch.float32).removeprefix("torch.")
    opener = next(iter(getattr(config, "auto_map", {})), type(model).__name__)
    facts = {
        "folder": str(draft.resolve()), "class": opener, "attention": attention_of(config), "dtype": read,
        "experts": config._experts_implementation,
    }  # fmt: skip
    file.with_suffix(".json").write_text(json.dumps(facts), "utf-8")
    return file


def _generated(network: nn.Module, example: Mapping[str, Any], whole: nn.Module | None = None) -> Iterator[Case]:
    """Tokens that the pruned model generates, one by one with what it remembers, and anew each time; none where the
    ``whole`` one can't of these inputs, either."""
    model: Any = network
    if not callable(getattr(model, "can_generate", None)) or not model.can_generate() or "input_ids" not in example:
        return
    inputs = {k: v for k, v in example.items() if k in _PROMPTS}
    streamed = streams(network)
    count = _NEW_TOKENS_STREAMED if streamed else _NEW_TOKENS
    inputs |= {"max_new_tokens": count, "min_new_tokens": count, "do_sample": False}
    for cached in (True, False):
        asked = {**inputs, "use_cache": cached}
        try:
            tokens = model.generate(**asked)
        except Exception as error:  # some want settings or inputs of their own kind
            if whole is None or _generates(whole, asked):
                raise
            log.warning("generation isn't compared: of these inputs the model can't: %s", described(error))
            return
        name = "greedy generation" + ("" if cached else ", without a cache")
        yield Case(name, asked, (tokens,), None, double=False, method="generate", streamed=streamed)


def _generates(model: Any, asked: Mapping[str, Any]) -> bool:
    try:
        model.generate(**asked)
    except Exception:  # as above
        return False
    return True
