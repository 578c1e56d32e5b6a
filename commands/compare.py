"""``app.py compare``: a real network and one of few bits, in tables and figures."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ..models import registry
from ..pruners.bundle import Bundle, size_of_state
from ..pruners.errors import BundleExistsError, ResumeError, UnsuitedError, UsageError
from ..pruners.latency import Run, in_turns, machine
from ..pruners.outputs import held
from ..pruners.scratch import scratch
from ..training.data import Data, limited, load_data, require_labels
from ..training.fit import (
    beside,
    curve_beside,
    evaluate,
    find_regime,
    memory_explained,
    read_curve,
    resolve_device,
)
from ..training.packing import against_channels, against_filters
from . import comparing
from .cli import COMPARISON, GENERATED, CompareOptions, check_comparison, data_name, data_of, unfinished
from .comparing import Comparison, Key, Measured, Row, Sweep
from .network import (
    Network,
    adjusted,
    binary_form,
    check_outputs,
    chosen_kind,
    chosen_regime,
    data_of_bundle,
    execution,
    inputs_of_bundle,
    kind_in,
    network_from,
    of_bundle,
    served,
    train_network,
)
from .pack import packed, unpruned
from .show import Voice

KIND = "Real"
BATCHES = (1, 32)
_SECONDS = 120.0
"""The longest that one table row's inference times are measured."""
NO_MATPLOTLIB = "there will be no pictures, which need a package: pip install -e '.[plots]' (matplotlib)"


@dataclass
class Side:
    """One of the two networks. ``source``: the network, or the bundle, that it is. ``given``: it is not trained here.
    What training took is None where nobody knows it."""

    name: str
    model: nn.Module
    source: Network | Bundle
    given: bool
    epochs: int | None = None
    seconds: float | None = None
    regime: str = ""
    batch_size: int | None = None


def run(options: CompareOptions) -> None:
    options = replace(options, network=options.network or "XnorNet", data=_data_of(options))
    folder = options.output or GENERATED / "comparison"
    check_comparison(folder)
    key = _key(options)
    if options.regime is not None:
        find_regime(options.regime, "train")
    with Voice(options.verbose, options.json) as voice, ExitStack() as stack:
        stack.enter_context(held(folder / COMPARISON))
        before = comparing.load(folder)
        _check_new(key, before, options, folder)
        device = resolve_device(options.device)
        if importlib.util.find_spec("matplotlib") is None:
            voice.remark(NO_MATPLOTLIB)
        data = _data(options, voice)
        kinds = KIND, str(options.network)
        sides = [_side(options, data, kind, voice) for kind in kinds]  # both, before one of them is trained
        comparing.save(before, folder)  # a run that is interrupted finds its folder again
        for side, kind in zip(sides, kinds, strict=True):
            if not side.given:
                _train(options, side, _weights(folder, key, kind), voice)
        comparison = before.with_row(_row(key, options, data, (sides[0], sides[1]), folder, device, voice))
        comparing.save(comparison, folder)  # before what else takes long
        if comparison.sweep is None or options.force:
            comparison = replace(comparison, sweep=_swept(options, device, voice))
        files = [*comparing.save(comparison, folder), *_drawn(comparison, folder)]
    shown = [comparing.markdown(comparison), *map(str, files)]
    voice.result(shown, {**comparing.as_values(comparison), "files": [str(f) for f in files]})


# -- what is compared


def _data_of(options: CompareOptions) -> str:
    """The data asked for, else what the bundles were made with, else the digits."""
    given = [path for path in (options.binary, options.real) if path is not None and path.is_dir()]
    made_with = (data_of_bundle(Bundle.open(path), options.data) for path in given)
    return options.data or next(filter(None, made_with), "") or data_of(options) or "digits"


def _key(options: CompareOptions) -> Key:
    """What a row is called: network, data, kind. Refuses kinds and networks that aren't known, before data are read."""
    assert options.data is not None
    chosen = chosen_kind(options)
    assert chosen is not None
    if options.arch is None:
        assert options.binary is not None
        of = kind_in(Bundle.open(options.binary).plan.provenance)
        return options.binary.resolve().name, data_name(options.data), of.name if of is not None else KIND
    arch = binary_form(registry.find(options.arch))
    chosen.layers(arch)
    return arch.name, data_name(options.data), chosen.label


def _check_new(key: Key, before: Comparison, options: CompareOptions, folder: Path) -> None:
    if any(row.key == key for row in before.rows) and not options.force:
        network, data, label = key
        raise BundleExistsError(
            f"{folder} compares {network} of kind {label} on {data} already; choose another folder with -o, or measure "
            "it anew with --force"
        )
    for kind, given in ((KIND, options.real), (options.network, options.binary)):
        if given is None:
            path = _weights(folder, key, str(kind))
            if (path.exists() or unfinished(path).exists()) and not (options.resume or options.force):
                raise ResumeError(f"{path} is of an unfinished run: go on with --resume, or start anew with --force")


def _weights(folder: Path, key: Key, kind: str) -> Path:
    """Where what is trained here is kept."""
    network, data, label = key
    return folder / "weights" / f"{network}_{kind if kind == KIND else label}_{data}.pt"


def _data(options: CompareOptions, voice: Voice) -> Data:
    spec = str(options.data)
    if ":" in spec:
        voice.remark(f"reading {spec}")  # many files take a while
    data = load_data(spec)
    require_labels(data, "a comparison")
    return served(limited(data, options.limit, options.seed), options)


def _side(options: CompareOptions, data: Data, kind: str, voice: Voice) -> Side:
    """The network of this kind, as it is given or as it is to be trained."""
    given = options.real if kind == KIND else options.binary
    if given is not None and given.is_dir():
        bundle = Bundle.open(given)
        if "packed" in bundle.summary:
            raise UnsuitedError(f"{given} is packed already: give the bundle that it was made of")
        model = bundle.model
        of_bundle(model, bundle.plan.provenance)
        data = check_outputs(str(given), model, inputs_of_bundle(bundle, data=data), data)
        return Side(str(given), model, bundle, True)
    asked = replace(options, network=kind, weights=given)
    if kind == KIND:
        asked = replace(asked, first_layer=None, last_layer=None, kind_arg=())
    network = network_from(asked, voice, data)
    epochs = read_curve(given) if given is not None else []
    taken = sum(epoch["seconds"] for epoch in epochs) if epochs else None
    return Side(network.name, network.model, network, given is not None, len(epochs) or None, taken)


def _train(options: CompareOptions, side: Side, path: Path, voice: Voice) -> None:
    """What was trained by a run that was interrupted later is taken from there, with the times noted then."""
    network = side.source
    assert isinstance(network, Network) and network.data is not None
    last, draft = beside(path, ".last.pt"), unfinished(path)
    if options.resume and last.exists() and not draft.exists():
        last.replace(draft)
    regime = chosen_regime(options.regime, network.arch, network.model, network.data.name, "train", network.kind)
    regime = adjusted(regime.lasting(options.epochs or regime.epochs), options)
    result = train_network(
        network, voice, regime, options.seed, options.device, path, last, resume=options.resume,
        watch=curve_beside(path), execution=execution(options),
    )  # fmt: skip
    side.epochs, side.seconds = regime.epochs, sum(epoch.seconds for epoch in result.history)
    side.regime, side.batch_size = regime.name, regime.batch_size


# -- what is measured


def _row(
    key: Key, options: CompareOptions, data: Data, sides: tuple[Side, Side], folder: Path,
    device: torch.device, voice: Voice,
) -> Row:  # fmt: skip
    real, binary = sides
    bits, why = _packed(binary, folder / "_".join([*key, "packed"]), data, voice)
    models = {"real": real.model, "binary": binary.model, **({"packed": bits.model} if bits is not None else {})}
    with memory_explained(lambda: f"measuring on {data.name}: take a smaller --limit"):
        times = _inference(models, data, device, options.repeats, voice)
        accuracy = {name: evaluate(model.to(device), data.test).top1 for name, model in models.items()}
    forms = {
        name: Measured(accuracy[name], size_of_state(model.cpu().state_dict()), times[name])
        for name, model in models.items()
    }
    for name, side in zip(("real", "binary"), sides, strict=True):
        forms[name] = replace(forms[name], epochs=side.epochs, training_seconds=side.seconds)
    trained = {
        what: " and ".join(dict.fromkeys(str(getattr(side, name)) for side in sides if getattr(side, name)))
        for what, name in (("regimes", "regime"), ("batch sizes", "batch_size"))
    }
    settings = {
        "command": comparing.as_command(options), "machine": machine(device), "seed": options.seed,
        "training_images": None if options.real or options.binary else len(data.train), "test_images": len(data.test),
        **{what: said for what, said in trained.items() if said},
    }  # fmt: skip
    network, name, kind = key
    return Row(network, name, kind, forms["real"], forms["binary"], forms.get("packed"), why, settings)


def _packed(side: Side, output: Path, data: Data, voice: Voice) -> tuple[Bundle | None, str]:
    """The network with its weights as bits; or why it can't be had."""
    try:
        if isinstance(side.source, Bundle):
            inputs = inputs_of_bundle(side.source, data=data)
            return packed(side.source, side.name, inputs, output, True, voice), ""
        with scratch() as draft:
            bundle = unpruned(side.source, draft / "bundle")
            return packed(bundle, side.name, side.source.example_input, output, True, voice), ""
    except UsageError as reason:
        voice.remark(f"not packed: {reason}")
        return None, str(reason)


def _inference(
    models: Mapping[str, nn.Module], data: Data, device: torch.device, repeats: int, voice: Voice
) -> dict[str, dict[str, float]]:
    """Seconds for each image of each form; a real network's are those of its faster layout."""
    found: dict[str, dict[str, float]] = {name: {} for name in models}
    for batch in BATCHES:
        voice.remark(f"timing the networks on {batch} image{'s' if batch > 1 else ''} at a time")
        images = _images(data, batch).to(device)
        last = images.contiguous(memory_format=torch.channels_last)
        runs = [Run(name, model.to(device), (last if name == "packed" else images,)) for name, model in models.items()]
        other = copy.deepcopy(models["real"]).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        times = in_turns([*runs, Run("real, channels_last", other, (last,))], repeats, _SECONDS)
        named = dict(zip(models, times, strict=False))
        named["real"] = min(named["real"], times[-1])
        for name, seconds in named.items():
            found[name][str(len(images))] = seconds / len(images)
    return found


def _images(data: Data, count: int) -> Tensor:
    return torch.cat([images for images, _ in data.test.sample(count).batches(count)])


def _swept(options: CompareOptions, device: torch.device, voice: Voice) -> Sweep:
    voice.remark("timing a convolution against channels and filter size")
    channels, filters = (sweep(device, options.repeats, voice.detail) for sweep in (against_channels, against_filters))
    return Sweep(channels, filters, {"command": comparing.as_command(options), "machine": machine(device)})


def _drawn(comparison: Comparison, folder: Path) -> Sequence[Path]:
    """The two figures, as SVG and PNG; nothing without matplotlib."""
    if comparison.sweep is None or importlib.util.find_spec("matplotlib") is None:
        return []
    from .show import pictures

    files: list[Path] = []
    for name, label, points in comparing.figures(comparison.sweep):
        lines = {"theory: a count of operations": [p.theory for p in points]}
        for rival in points[0].seconds:
            lines[f"measured, against {rival}"] = [p.measured[rival] for p in points]
        sizes = [p.channels if name == "channels" else p.filter for p in points]
        title = f"{comparison.sweep.settings['machine']['cpu']}, {comparing.threads_of(comparison.sweep.settings)}"
        files += pictures.draw_speed_ups(folder / f"speed_up_{name}", title, label, sizes, lines)
    return files
