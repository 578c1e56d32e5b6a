"""``--network``: of which kind a bundled network is, and what that means for its layers, weights and training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from ...models import registry
from ...models.other_layouts import LAYOUTS
from ...pruners.errors import BundleExistsError, ConflictError, OptionError, WeightsMismatchError
from ...pruners.named_files import parse_arguments
from ...training.binarization.kinds import KINDS, Kind, find_kind, recognise
from ...training.fit import Checkpoint, load_checkpoint, load_from_kind, load_weights
from ..cli import ENDS, NetworkOptions


@dataclass(frozen=True)
class Chosen:
    """A kind with its options, and what first and last layer are: "real" or "binary"."""

    kind: Kind
    first_layer: str
    last_layer: str

    @property
    def facts(self) -> dict[str, Any]:
        """What a plan or a checkpoint says of it."""
        return {
            "kind": self.kind.name,
            "options": dict(self.kind.options),
            "first_layer": self.first_layer,
            "last_layer": self.last_layer,
        }

    @property
    def label(self) -> str:
        """For the names of files; as the original's, with a suffix where no layer is real."""
        usual = (self.kind.first_layer, self.kind.last_layer)
        all_binary = (self.first_layer, self.last_layer) == ("binary", "binary") != usual
        return self.kind.name + ("_NoFLReal" if all_binary else "")

    def layers(self, arch: registry.Arch) -> dict[str, Any]:
        return registry.layer_arguments(arch.name, self.kind.layers(self.first_layer, self.last_layer))


def chosen_kind(options: NetworkOptions) -> Chosen | None:
    """What the options ask for; UsageError where they ask for parts of a kind without naming one."""
    if options.network is None:
        for name in ("init_from", "kind_arg", "first_layer", "last_layer"):
            if getattr(options, name):
                raise ConflictError(f"--{name.replace('_', '-')} belongs to a network kind: add --network KIND")
        return None
    name, first, last = _ends_in(options.network)
    kind = find_kind(name)
    if options.model is not None:
        raise ConflictError("--network is for bundled networks, whose layers can be chosen: take --arch, not --model")
    usual = kind.usual.get(binary_form(registry.find(options.arch)).name, {}) if options.arch else {}
    if chosen := {**usual, **parse_arguments(options.kind_arg, "--kind-arg")}:
        kind = kind.with_options(**chosen)
    ends = options.first_layer or first or kind.first_layer, options.last_layer or last or kind.last_layer
    return Chosen(kind, *ends)


def _ends_in(network: str) -> tuple[str, str, str]:
    """Kind, first and last layer of a name as files of trained networks have it: ``BinaryNet_NoFLReal``. UsageError
    where it says what the ends are, but not the kind."""
    name, _, suffix = network.rpartition("_") if "_" in network else ("", "", network)
    ends = ENDS.get(suffix.lower())
    if ends is None:
        return network, "", ""
    if not name:
        raise OptionError(
            f"--network {network} says that the first and the last layer are {ends}, but not of which kind the others "
            f"are: add --first-layer {ends} --last-layer {ends} to --network KIND, or write KIND_{suffix}"
        )
    return name, ends, ends


def kind_in(facts: Mapping[str, Any]) -> Kind | None:
    """The kind that a plan's provenance names."""
    found = facts.get("network")
    return find_kind(found["kind"]).with_options(**found["options"]) if found else None


def of_bundle(model: nn.Module, facts: Mapping[str, Any]) -> Kind | None:
    """The kind of a bundle's network, whose written layers are told to the cost model."""
    kind = kind_in(facts)
    if kind is not None:
        recognise(model, kind)
    return kind


def binary_form(arch: registry.Arch) -> registry.Arch:
    """The bundled network that is the same in the form for binary layers; if there is none, the network itself."""
    return registry.find(arch.binary) if arch.binary else arch


def start(model: nn.Module, chosen: Chosen | None, options: NetworkOptions) -> Checkpoint | None:
    """Loads --weights (of the same kind) or --init-from (of any kind) into the model."""
    if options.weights is not None and options.init_from is not None:
        raise ConflictError("give --weights to go on with a network of this kind, or --init-from for another, not both")
    if options.init_from is not None and chosen is not None:
        load_from_kind(model, load_checkpoint(options.init_from).model, chosen.kind, options.init_from)
        return None
    if options.weights is None:
        return None
    checkpoint = _in_our_names(load_checkpoint(options.weights, model), options, model)
    require_kind(checkpoint, chosen, options.weights)
    load_weights(model, checkpoint.model, options.weights)
    return checkpoint


def _in_our_names(checkpoint: Checkpoint, options: NetworkOptions, model: nn.Module) -> Checkpoint:
    """The weights of the program that a bundled network follows, under the names that they have here."""
    layout = LAYOUTS.get(binary_form(registry.find(options.arch)).name) if options.arch else None
    if layout is None or checkpoint.model.keys() == model.state_dict().keys():
        return checkpoint
    taken = layout.taken_over(checkpoint.model)
    told = f"its names are those of {layout.origin}"
    return checkpoint if taken is None else replace(checkpoint, model=taken, told=told)


def start_renamed(model: nn.Module, chosen: Chosen, path: Path) -> str:
    """Loads weights of another kind from the file that is this network's by its name, as when somebody renamed it to go
    on from there; the kind that they are of. BundleExistsError where they are of no other kind."""
    checkpoint = load_checkpoint(path)
    theirs = checkpoint.training.get("network")
    kind = theirs.get("kind") if isinstance(theirs, dict) else None
    if kind not in KINDS or kind == chosen.kind.name:
        what = f"a {kind} network" if kind else "it doesn't say which kind"
        raise BundleExistsError(
            f"{path} exists and is finished ({what}); choose another file with -o, or overwrite it with --force"
        )
    load_from_kind(model, checkpoint.model, chosen.kind, path)
    return str(kind)


def require_kind(checkpoint: Checkpoint, chosen: Chosen | None, path: Path) -> None:
    """CheckpointError if the file says that its weights are of another kind, or of this one with other options or
    ends; bare weights say nothing."""
    theirs = checkpoint.training.get("network")
    if not isinstance(theirs, dict) or theirs.get("kind") not in KINDS:
        return
    ours = chosen.kind.name if chosen is not None else "Real"
    if theirs["kind"] != ours:
        raise WeightsMismatchError(
            f"{path} holds the weights of a {theirs['kind']} network, this one is {ours}: start from them with "
            f"--network {ours} --init-from {path}, or take --network {theirs['kind']}"
        )
    if chosen is not None and (words := _words(theirs, chosen.facts)):
        raise WeightsMismatchError(
            f"{path} holds the weights of another {ours} network: add {' '.join(words)}, or start from them with "
            f"--init-from {path}"
        )


def _words(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    """The options that ask for their network instead of ours, as far as theirs is described."""
    words = []
    options = {**ours["options"], **theirs.get("options", {})}
    kind = find_kind(ours["kind"])
    if not kind.with_options(**options).like(kind.with_options(**ours["options"])):
        words = [f"--kind-arg {name}={value}" for name, value in options.items() if ours["options"][name] != value]
    ends = [end for end in ("first_layer", "last_layer") if theirs.get(end, ours[end]) != ours[end]]
    return words + [f"--{end.replace('_', '-')} {theirs[end]}" for end in ends]
