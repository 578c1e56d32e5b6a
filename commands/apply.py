"""``app.py apply``: from a plan, the network it was made for and its weights to the bundle, without deciding anew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from ..pruners import plan as plans
from ..pruners.bundle import Bundle, check_free
from ..pruners.errors import PlanError, PlanMismatchError, SecateurError
from ..pruners.plan import PruningPlan
from ..pruners.shown import visible
from ..training.fit import load_checkpoint
from .cli import GENERATED, ApplyOptions, parse_shape
from .network import network_from, new_pruner
from .show import Voice, outcome

_CARRIED = (
    "accuracy", "score", "agreement", "latency_ms", "latency", "machine", "search", "training", "transfer", "notes"
)  # fmt: skip
"""Measured, so not to be had again byte for byte."""


@dataclass(frozen=True)
class Neighbours:
    """What lies beside an untouched plan in its bundle: weights that were trained on, measurements, the search."""

    state: Mapping[str, Tensor] | None = None
    summary: Mapping[str, Any] | None = None
    files: Mapping[str, bytes] | None = None


def run(options: ApplyOptions) -> None:
    plan = plans.load(options.plan)
    with Voice(options.verbose, options.json) as voice:
        network = network_from(_complete(options, plan), voice)
        facts = plan.provenance
        pruner = new_pruner(network, skip=facts.get("skip", ()), tied=bool(facts.get("tied")))
        pruner.take_out(facts.get("without", ()))
        now = {k: pruner.provenance[k] for k in ("source_sha256", "weights_sha256")}
        plans.require_same(plan, **now)
        plans.validate(plan, pruner.graph)
        output = options.output or GENERATED / f"{pruner.netName}_{plan.digest[:8]}"
        check_free(output, options.force)
        beside = _neighbours(options.plan, plan, voice)
        made = pruner.publish(
            plan, output, state=beside.state, summary=beside.summary, files=beside.files, force=options.force
        )
    voice.result(outcome(made), dict(made.summary))


def _complete(options: ApplyOptions, plan: PruningPlan) -> ApplyOptions:
    """Options with what they leave out taken from the plan.

    A plan may come from anywhere: a bundled network is built by its name, but a file or module of the plan's choice
    is only run when the user names it.
    """
    facts = plan.provenance
    try:
        shapes = tuple(parse_shape(",".join(map(str, s))) for s in facts.get("input_shapes", ()))
        arguments = tuple(f"{k}={v!r}" for k, v in dict(facts.get("arguments", {})).items())
        filled = replace(
            options,
            **_start(options, facts),
            input_shape=options.input_shape or (() if options.example else shapes),
            model_arg=options.model_arg or arguments,
            **_kind(options, facts.get("network")),
            seed=int(facts.get("model_seed", options.seed)),
            residual=options.residual or bool(facts.get("residual")),
            per_layer=options.per_layer or bool(facts.get("per_layer")),
            ema=options.ema or (bool(facts.get("ema")) and not options.weights),
        )
    except (TypeError, ValueError):
        raise PlanError(f"{options.plan}: its provenance is damaged; make a new plan") from None
    if facts.get("example") and not (filled.example or filled.input_shape):
        example = visible(str(facts["example"]))
        raise PlanMismatchError(f"{options.plan} was made on what {example} returns: add --example {example}")
    if filled.arch or filled.model:
        return filled
    if facts.get("arch"):
        return replace(filled, arch=str(facts["arch"]))
    if facts.get("model"):
        model = visible(str(facts["model"]))
        raise PlanMismatchError(
            f"{options.plan} was made for {model}, which is run only if you say so: add --model {model}"
        )
    raise PlanMismatchError(f"{options.plan} doesn't say which network it is for: add --arch or --model")


def _start(options: ApplyOptions, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Where the plan's network had its weights from."""
    if options.weights or options.init_from:
        return {}
    return {name: Path(str(facts[name])) for name in ("weights", "init_from") if facts.get(name)}


def _kind(options: ApplyOptions, found: Mapping[str, Any] | None) -> dict[str, Any]:
    """The options that ask for the plan's kind of network."""
    if found is None or options.network is not None:
        return {}
    return {
        "network": str(found["kind"]),
        "kind_arg": tuple(f"{k}={v!r}" for k, v in dict(found["options"]).items()),
        "first_layer": str(found["first_layer"]),
        "last_layer": str(found["last_layer"]),
    }


def _neighbours(path: Path, plan: PruningPlan, voice: Voice) -> Neighbours:
    try:
        bundle = Bundle.open(path.parent)
    except (SecateurError, OSError, ValueError) as error:
        if path.with_name("summary.json").is_file():  # else the plan lies elsewhere
            voice.remark(f"{path.parent} is no whole bundle ({error}): weights are cut from the original's")
        return Neighbours()
    if "packed" in bundle.summary:
        voice.remark(f"{path.parent} is packed: weights are cut from the original's")
        return Neighbours()
    if bundle.summary.get("plan_sha256") != plan.digest:
        voice.remark(f"{path} was edited: weights are cut from the original's, retrain the result")
        return Neighbours()
    ledger = path.with_name("search.jsonl")
    return Neighbours(
        bundle.model.state_dict() if bundle.configured else load_checkpoint(path.with_name("weights.pth")).model,
        {k: v for k, v in bundle.summary.items() if k in _CARRIED},
        {ledger.name: ledger.read_bytes()} if ledger.is_file() else {},
    )
