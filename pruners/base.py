"""The way from a network to a bundle: trace, rank, decide, slice, write, verify, publish."""

from __future__ import annotations

import inspect
import json
import logging
import platform
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .bundle import (
    Bundle,
    check_free,
    details,
    frozen_facts,
    import_text,
    place,
    published,
    report_of,
    write_file,
    write_state,
)
from .costs import CostModel, Costs, check_layers
from .declare import check_declarations, declared_ties
from .depth import Depth, Distance
from .errors import NothingToPruneError, PlanMismatchError, TraceError, UnsuitedError
from .graph import ChannelGraph, FrozenChannels, Kept
from .metrics import Ranking, rank
from .plan import PruningPlan, from_kept, sha256_of_file, sha256_of_state, validate
from .run import (
    batch_size,
    describe,
    examples_of,
    is_lazy_network,
    plain,
    precision_of,
    rounded,
    settle_sizes,
    site_of,
    state_of,
    streams,
    wide,
    widened,
)
from .scratch import scratch
from .slicing import SlicedModel, slice_model, workable
from .source import Entry, Header, Sources, Tree, Written, authors_texts, refuse, write
from .trace import observe
from .verify import cases, refuse_unchecked, varied, verify_bundle

log = logging.getLogger(__name__)
PRUNERS: dict[str, type[BasicPruning]] = {}
_EXAMPLE = "give an example that does: --example may return a list of inputs"
_SKIPPED = "asked to be skipped"
_FEW = 5  # reasons that a line names


@dataclass(frozen=True)
class Carried:
    """A plan carried out: the live network that it makes, with the kept slices, and its file."""

    plan: PruningPlan
    sliced: SlicedModel
    file: Written

    @property
    def text(self) -> str:
        return self.file.text


def pruner_for(module: str) -> Callable[[type[BasicPruning]], type[BasicPruning]]:
    """Register a pruner class for the networks of one module (``"models.cifar.resnet"``)."""

    def register(cls: type[BasicPruning]) -> type[BasicPruning]:
        PRUNERS[module] = cls
        return cls

    return register


class BasicPruning:
    """Prunes one network. Subclasses name what they produce and may choose other defaults.

    ``model``: what is pruned, ``whole`` the same with the layers ``without`` which it goes on.
    ``fileName``: the generated file. ``netName``: the factory it offers; by default the name the user gave.
    ``skip``: layers whose output channels always stay. ``metric``: the default ranking. ``tied``: layers of a decorated
    block that its calculator says are cut alike are, though its forward doesn't need it.
    """

    fileName = "model.py"
    netName = ""
    skip: tuple[str, ...] = ()
    metric = "l1"

    def __init__(
        self,
        model: nn.Module,
        example_input: Any,
        *,
        entry: Entry | None = None,
        skip: Sequence[str] = (),
        tied: bool = False,
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        self.model, told, dtype = self._plain(model)
        for what in told:
            log.warning("%s: %s", type(self.model).__name__, what)
        self.examples = examples_of(example_input)
        if dtype is not None:
            self.examples = tuple(wide(e, precision_of(self.model)) for e in self.examples)
        self.example_input = self.examples[0]
        if is_lazy_network(self.model):
            try:
                settle_sizes(self.model, self.example_input)
            except Exception as error:
                shown = f"the network can't be run on the example input: {describe(error)}"
                raise TraceError(shown, site=site_of(error)) from error
        self.entry = named(entry or Entry(type(self.model)))
        if dtype is not None:
            self.entry = replace(self.entry, dtype=dtype)
        self.netName = self.netName or self.entry.name
        self.skip = (*type(self).skip, *skip)
        self.tied = tied
        self.whole = self.model
        self.without: tuple[str, ...] = ()
        self._provenance = dict(provenance or {})

    def _plain(self, model: nn.Module) -> tuple[nn.Module, list[str], torch.dtype | None]:
        """The network as it can be pruned, what was taken off, and the type of its weights, if it isn't float32."""
        return plain(model)

    def shorten(self, keep: float, distance: Distance | None = None) -> tuple[str, ...]:
        """Take out whole residual layers, so that at most this share of them stays: those whose absence moves the
        outputs least, by ``distance`` (default: on the example). Returns their names. To be called first.

        Raises UsageError, BudgetError and NotPrunableError where that many can't go.
        """
        check_layers(keep, timed=False)
        self.take_out(self._depth.chosen(keep, distance))
        return self.without

    def fewer_experts(self, keep: float, batches: Iterable[Any] | None = None) -> tuple[str, ...]:
        """Take whole experts of mixtures out. Raises UnsuitedError: a configuration has to count them."""
        raise UnsuitedError("--experts is for models of Hugging Face's library (--model hf:DIR)")

    def take_out(self, names: Sequence[str]) -> None:
        """Go on without these layers. Raises PlanError where there are none of these names, NotPrunableError where the
        network computes something else without them than when they add nothing."""
        if not names:
            return
        if strange := sorted(set(names) - {n for n, _ in self.model.named_modules()}):
            raise PlanMismatchError(f"the plan takes out {strange[0]!r}, and the network has no such layer")
        self.model, self.without = self._depth.without(names), tuple(names)

    @property
    def streams(self) -> bool:
        """Whether the network's weights stay in their files, and come and go."""
        return streams(self.model)

    @cached_property
    def _depth(self) -> Depth:
        return Depth(self.model, varied(self.example_input, 1, self.model))

    # -- what is there

    @cached_property
    def graph(self) -> ChannelGraph:
        """The channel graph, traced once. Raises NotPrunableError where nothing can be pruned, DeclarationError where
        a decorator says something else than its class does."""
        refuse(Tree(self.model, self.entry, Sources()))  # before the work, not after it
        refuse_unchecked(self.model, self.example_input)
        tracer = observe(self.model, self._all, skip=self.skip)
        check_declarations(self.model, tracer.facts, self.example_input, self.tied)
        ties = declared_ties(self.model, tracer.facts) if self.tied else []
        graph = workable(tracer, self.model, self._all, self.skip, ties)
        if not graph.widths and self.skip and any(f.reason == _SKIPPED for f in graph.frozen):
            kept = ", ".join(self.skip)
            raise NothingToPruneError(f"{self.netName}: nothing can be pruned beside what is skipped, {kept}")
        if not graph.widths:
            site = next((f.site for f in graph.frozen[:_FEW] if f.site.file), None)
            raise NothingToPruneError(f"{self.netName}: nothing can be pruned: {_reasons(graph)}", site=site)
        return graph

    @cached_property
    def doubts(self) -> list[str]:
        """What the user has to know of the code that no example reaches: a sentence for each place and layer."""
        said = [
            f"{place(u.site)} doesn't run on the example, and it can't be tried ({u.held}): all channels that it could "
            f"read stay; to prune them, {_EXAMPLE}"
            for u in self.graph.untaken if u.held
        ]  # fmt: skip
        left = [s.layer for f in self.graph.frozen if f.reason.startswith("not reached") for s in f.slots]
        names = ", ".join(dict.fromkeys(left))
        if names:
            said.append(
                f"not reached by the example: {names}; inputs that reach it will fail where what it reads was pruned; "
                f"{_EXAMPLE}"
            )
        return said

    @cached_property
    def costs(self) -> CostModel:
        return CostModel.of(self.model, self.graph, self.entry.dtype)

    @cached_property
    def before(self) -> Costs:
        """Of the network with all its layers and channels."""
        if not self.without:
            return self.predict({})
        graph = observe(self.whole, self._all).graph()
        return CostModel.of(self.whole, graph, self.entry.dtype).predict({})

    def predict(self, kept: Kept) -> Costs:
        """Exact costs of the network that keeps these groups, without building it."""
        return self.costs.predict(kept)

    def rank(
        self, metric: str | None = None, batches: Iterable[Any] | None = None, seed: int = 0, slots: str = "all"
    ) -> Ranking:
        return rank(self.model, self.graph, metric or self.metric, batches, seed, slots)

    def compare_costs(self, kept: Kept) -> dict[str, dict[str, Any]]:
        """What is counted of the network, ``before`` and ``after``: MACs, parameters, bits and bytes."""
        before, after = self.before, self.predict(kept)
        names = ("macs", "params", "bits", "size_bytes")
        return {name: {"before": getattr(before, name), "after": getattr(after, name)} for name in names}

    def plan(self, kept: Kept, **provenance: Any) -> PruningPlan:
        """A validated plan that says where it comes from."""
        return from_kept(self.graph, kept, {**self.provenance, **provenance})

    @cached_property
    def provenance(self) -> dict[str, Any]:
        return {
            "factory": self.entry.name,
            "origin": self.entry.origin,
            "source_sha256": _source_hash(self.entry),
            "weights_sha256": sha256_of_state(state_of(self.model)),
            "skip": list(self.skip),
            **({"tied": True} if self.tied else {}),
            **({"without": list(self.without)} if self.without else {}),
            "torch": torch.__version__.partition("+")[0],
            "python": platform.python_version(),
            **self._provenance,
        }

    # -- what a plan makes of it

    def slice(self, kept: Kept, model: nn.Module | None = None) -> SlicedModel:
        return slice_model(model or self.model, self.graph, kept, self._all)

    def realize(self, kept: Kept, model: nn.Module | None = None) -> nn.Module:
        """A live pruned copy that runs: sliced in memory or, where forward holds stale numbers, imported anew.

        ``model``: the same network with other weights.
        """
        sliced = self.slice(kept, model)
        if sliced.runs:
            return sliced.model
        network = self.imported(self._write(sliced, None).text)
        network.load_state_dict(sliced.model.state_dict())
        return network.train(self.model.training)

    def imported(self, text: str) -> nn.Module:
        """The network that the text of a generated file makes, of float32 where its weights are of 16 bits."""
        network = import_text(text, self.netName)
        if self.entry.dtype is not None:
            widened(network)
        return network

    def network(self, carried: Carried) -> nn.Module:
        """The network that a plan was carried out to, from its file."""
        return self.imported(carried.text)

    def carry_out(self, plan: PruningPlan) -> Carried:
        """What a plan makes of the network, for everything that is done with it; nothing is written."""
        validate(plan, self.graph)
        sliced = self.slice(plan.kept)
        return Carried(plan, sliced, self._write(sliced, plan))

    def source(self, plan: PruningPlan) -> str:
        """The text of the generated file; nothing is written."""
        return self.carry_out(plan).text

    def _write(self, sliced: SlicedModel, plan: PruningPlan | None) -> Written:
        entry = replace(self.entry, name=self.netName)
        header = None if plan is None else self._header(plan)
        return write(sliced.model, entry, rewrites=sliced.literals, header=header, example=plan and self._all)

    def _header(self, plan: PruningPlan) -> Header:
        before, after = self.before, self.predict(plan.kept)
        return Header(
            origin=self.entry.origin,
            plan=f"plan.json, sha256 {plan.digest[:8]}",
            params_before=f"{before.params:,}",
            params_after=f"{after.params:,}",
            macs_before=f"{before.macs / 1e6:,.1f}",
            macs_after=_millions(after.macs),
            weights="weights.pth",
        )

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
        """Write, verify in a fresh process and publish a bundle.

        ``plan``: one that was carried out already is used up. ``output``: None verifies in a folder that goes away, and
        the bundle is in memory alone. ``state``: weights of the pruned network where they were trained on; default:
        the sliced weights. ``files``: more files for the folder. Raises VerificationError (then nothing is published),
        BundleExistsError, OutputError.
        """
        if output is None:
            with scratch() as folder:
                draft = folder / "bundle"
                return self.publish(plan, draft, state=state, summary=summary, files=files).in_memory()
        output = Path(output)
        check_free(output, force)
        made = plan if isinstance(plan, Carried) else self.carry_out(plan)
        plan, sliced = made.plan, made.sliced
        dtype, state = self.entry.dtype, None if state is None else rounded(state, self.entry.dtype)
        if dtype is not None:
            sliced.model.to(dtype).to(precision_of(self.model))  # what the file's weights will be
        weights = rounded(sliced.model.state_dict(), dtype) if state is None else state
        with published(output, force) as draft:
            write_file(draft / self.fileName, made.file.encoded())
            write_state(draft / "weights.pth", weights)
            proof = cases(self.model, self.graph, plan.kept, sliced.model, state, self._all, runs=sliced.runs)
            checked = verify_bundle(
                draft / self.fileName, self.netName, proof, self.predict(plan.kept), self._batch
            )
            planned = self._summary(plan)
            counted = checked.about_macs(planned["macs"], bool(self.graph.decided))
            if counted["macs"] != planned["macs"]:
                said, found = (f"{_millions(n)} MACs" for n in (planned["macs"]["after"], checked.macs))
                write_file(draft / self.fileName, replace(made.file, text=made.text.replace(said, found, 1)).encoded())
            proved = {**counted, "verified": True, **checked.as_dict()}
            gone = {"lost": made.file.lost, "stale": made.file.stale, "loads": made.file.loads}
            told = {**planned, **gone, **proved, **(summary or {})}
            record(draft, plan, told, files or {}, self._details(plan, made.text))
        return Bundle(output, plan, told)

    def _details(self, plan: PruningPlan, text: str) -> bytes:
        """What the report shows beside the summary: of the network that was pruned, without layers taken out before."""
        kinds = {name: type(module).__name__ for name, module in self.model.named_modules()}
        source = authors_texts(self.model, self.entry.factory, text)
        return details(self.graph, plan.kept, kinds, self.costs.layers({}), self.costs.layers(plan.kept), source)

    @property
    def _all(self) -> list[Any]:
        return list(self.examples)

    @property
    def _batch(self) -> int:
        return batch_size(self.example_input)

    def _summary(self, plan: PruningPlan) -> dict[str, Any]:
        return {
            "schema": 1,
            "factory": self.netName,
            "file": self.fileName,
            "source": self.entry.origin,
            "plan_sha256": plan.digest,
            **self.compare_costs(plan.kept),
            "widths": len(self.graph.widths),
            "groups": sum(w.size for w in self.graph.widths),
            "groups_kept": sum(len(k) for k in plan.kept.values()),
            "frozen": frozen_facts(self.graph),
            **({"without": list(self.without)} if self.without else {}),
            **({"doubts": self.doubts} if self.doubts else {}),
            **({"tried": tried} if (tried := [place(u.site) for u in self.graph.untaken if not u.held]) else {}),
        }


def record(
    draft: Path, plan: PruningPlan, told: Mapping[str, Any], files: Mapping[str, bytes], more: bytes
) -> None:
    """Write the plan, the summary, ``more``, which are its details, ``files`` and the report into a bundle's draft."""
    write_file(draft / "plan.json", plan.to_json().encode())
    write_file(draft / "summary.json", (json.dumps(told, indent=2) + "\n").encode())
    for name, data in {"details.json": more, **files}.items():
        write_file(draft / name, data)
    write_file(draft / "report.html", report_of(draft).encode())


def named(entry: Entry) -> Entry:
    """The entry with a name and an origin: those of its function or class, where none were given."""
    made = inspect.unwrap(entry.factory)
    called = getattr(made, "__name__", "network")
    file = inspect.getsourcefile(made) if hasattr(made, "__code__") or inspect.isclass(made) else None
    home = Path(file).name if file and made.__module__ != "__main__" else made.__module__
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", called).lower() if inspect.isclass(made) else called
    return replace(entry, name=entry.name or snake, origin=entry.origin or f"{home}, {called}")


def _reasons(graph: ChannelGraph) -> str:
    """Why all channels stay: the first of many reasons, and what may help."""
    found = list(dict.fromkeys(f"{f.reason} ({_place(f)})" for f in graph.frozen)) or ["it has no layers"]
    more = [f"{len(found) - _FEW} more reasons"] if len(found) > _FEW else []
    untried = any(u.held for u in graph.untaken)
    help_ = [f"for code that doesn't run on the example, {_EXAMPLE}"] if untried else []
    return "; ".join([*found[:_FEW], *more, *help_])


def _place(frozen: FrozenChannels) -> str:
    """Where the reason lies; what holds the channels where it lies nowhere in the code."""
    return str(frozen.site) if frozen.site.file else ", ".join(s.parameter for s in frozen.slots[:3]) or "inside it"


def _millions(macs: int) -> str:
    return f"{macs / 1e6:,.1f} million"


def _source_hash(entry: Entry) -> str:
    try:
        file = inspect.getsourcefile(inspect.unwrap(entry.factory))
    except TypeError:
        file = None
    return sha256_of_file(file) if file and Path(file).is_file() else ""
