"""From options to a network with weights and data."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...models import registry
from ...pruners.configured import examples
from ...pruners.entry import Entry
from ...pruners.errors import CheckpointError, InputError, NotGivenError, UnsuitedError, WeightsMismatchError
from ...pruners.hub import is_configured, longest, open_folder, tokenizer_of
from ...pruners.imports import staying
from ...pruners.loading import build, entry_for, load_factory
from ...pruners.named_files import hub_folder, is_hub, parse_arguments
from ...pruners.run import (
    as_it_was,
    call_arguments,
    describe,
    examples_of,
    is_lazy_network,
    precision_of,
    run,
    scores_of,
    settle_sizes,
    site_of,
    unloaded,
    unwrapped,
    wide,
    widened,
)
from ...training.binarization.kinds import Kind
from ...training.data import LENGTH, Data, calibration_images, judged_by, load_data, load_text
from ...training.fit import ShapeError
from ..cli import PRETRAINED, NetworkOptions, PruneOptions, data_name, data_of, require_network, trained_name
from ..show import Voice
from .inputs import SYNTHETIC, Shape, call_example, images, shapes_of, synthetic
from .kinds import Chosen, binary_form, chosen_kind, start

_CONFIGURED = "is for models of Hugging Face's library (--model hf:DIR): all other layers have widths of their own"


@dataclass(frozen=True)
class Network:
    """A network and what it was made from. ``arch`` is empty for the user's own; ``facts`` go into the plan;
    ``optimizer`` is the optimizer's state where the weights came from a training checkpoint that holds one; ``chosen``
    the network kind asked for; ``choices``: more arguments for the pruner."""

    name: str
    arch: str
    model: nn.Module
    entry: Entry
    example_input: Any
    data: Data | None
    weights: Path | None
    facts: Mapping[str, Any]
    optimizer: Mapping[str, Any] | None = None
    chosen: Chosen | None = None
    choices: Mapping[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> Kind | None:
        """The kind asked for with --network."""
        return self.chosen.kind if self.chosen is not None else None

    @property
    def label(self) -> str:
        """The name with the kind's and the data set's, for files: ``resnet20_digits``."""
        data = data_name(str(self.facts["data"])) if self.facts.get("data") else ""
        kind = self.chosen.label if self.chosen is not None else ""
        return "_".join(filter(None, (self.name, kind, data)))

    @property
    def pretrained(self) -> Path:
        """Where the trained starting point of a bundled network is cached."""
        kind = self.chosen.label if self.chosen is not None else ""
        return PRETRAINED / trained_name(data_name(str(self.facts["data"])), self.name, kind)


def network_from(options: NetworkOptions, voice: Voice, data: Data | None = None) -> Network:
    """Build the network for its data, and load its weights if some were given. Raises UsageError in one line.

    ``data``: what --data names, where it was read already.
    """
    require_network(options)
    options = replace(options, data=data_of(options))
    known = registry.find(options.arch) if options.arch else None  # refused before data are read
    chosen = chosen_kind(options)
    if known is not None and chosen is not None:
        known = binary_form(known)
        chosen.layers(known)
    if options.model and is_hub(options.model):
        return _from_folder(options, voice)
    made = options.data == SYNTHETIC
    if options.data and data is None and not made:
        if ":" in options.data:
            voice.remark(f"reading {options.data}")  # many files take a while
        data = load_data(options.data)
    shapes = shapes_of(options, data)
    network = _bundled(known, options, data, shapes, chosen) if known else _own(options, data, shapes, voice)
    try:
        checkpoint = start(network.model, chosen, options)
    except CheckpointError as error:
        if not (told := unloaded(network.model)):
            raise _explain(error, options, network) from None
        checkpoint = start(network.model, chosen, options)  # saved without masks and norms
    else:
        told = unloaded(network.model)
    for what in told:
        voice.remark(f"{network.name}: {what}")
    if checkpoint is not None:
        network = replace(network, optimizer=checkpoint.optimizer)
        if checkpoint.told:
            voice.remark(f"{options.weights}: {checkpoint.told}")
    if made:
        data = synthetic(network.model, network.example_input, options, voice)
    if data is not None:
        for line in data.told:
            voice.remark(line)
        network = replace(network, data=check_outputs(network.name, network.model, network.example_input, data))
    return network


def _explain(error: CheckpointError, options: NetworkOptions, network: Network) -> CheckpointError:
    """What may be behind it: an argument of the factory that counts what the weights have more or fewer of. A bundled
    network gets the shape of the data's images, which its weights may not have."""
    data = network.data
    if options.arch is None and isinstance(error, ShapeError) and (name := _counting(network.entry, error)):
        return CheckpointError(f"{error}; add --model-arg {name}={error.there[0]}")
    if data is None or options.arch is None or "doesn't fit" not in str(error):
        return error
    shape = ",".join(map(str, data.input_shape))
    more = f" and {data.num_classes} classes" if data.labelled else "; add --model-arg num_classes=N for other classes"
    return WeightsMismatchError(f"{error}, which was made for images of {data.name} ({shape}){more}")


def _counting(entry: Entry, error: ShapeError) -> str:
    """The only argument whose value is the network's first size, where the weights have another."""
    there, here = error.there, error.here
    if not there or there[0] == (here or there)[0] or there[1:] != here[1:]:
        return ""
    given = {n: entry.kwargs.get(n, p.default) for n, p in inspect.signature(entry.factory).parameters.items()}
    names = [n for n, value in given.items() if type(value) is int and value == here[0]]
    return names[0] if len(names) == 1 else ""


def _bundled(
    arch: registry.Arch, options: NetworkOptions, data: Data | None, shapes: Sequence[Shape], chosen: Chosen | None
) -> Network:
    arguments = {}
    if shapes:
        shape = shapes[0]
        if len(shapes) != 1 or len(shape) != 3:
            raise NotGivenError(f"{arch.name} takes images: --input-shape channels,height,width, once")
        classes = data.num_classes if data is not None and data.labelled else 10
        arguments = registry.arguments_for(arch.name, (shape[0], shape[1], shape[2]), classes)
    arguments |= parse_arguments(options.model_arg)
    layers = chosen.layers(arch) if chosen is not None else {}
    with _seeded(options.seed):
        model = registry.create(arch.name, **arguments, **layers)
    shown = ", ".join(f"{k}={v!r}" for k, v in arguments.items())
    origin = f"{arch.home.replace('.', '/')}.py, {arch.factory}({shown})"
    origin += f" of kind {chosen.label}" if chosen is not None else ""
    entry = Entry(registry.load_factory(arch.name), {**arguments, **layers}, arch.factory, origin)
    shapes = shapes or ([] if options.example else [arch.input_shape])
    facts = _facts(options, shapes, arch=arch.name, arguments=arguments)
    if chosen is not None:
        facts["network"] = chosen.facts
    inputs, weights = _inputs(options, shapes), options.weights or options.init_from
    return Network(arch.name, arch.name, model, entry, inputs, data, weights, facts, chosen=chosen)


def _own(options: NetworkOptions, data: Data | None, shapes: Sequence[Shape], voice: Voice) -> Network:
    assert options.model is not None
    with staying():
        factory = load_factory(options.model)
    arguments = parse_arguments(options.model_arg)
    with _seeded(options.seed):
        model = build(factory, arguments)
        configured = is_configured(model)
        model, told = (model, list[str]()) if configured else unwrapped(model)
    dtype = widened(model)
    if dtype is not None:
        kind = str(dtype).removeprefix("torch.")
        told.append(f"its weights are {kind}: the work is done in float32, what is written is {kind} again")
    for what in told:
        voice.remark(f"{factory.name}: {what}")
    if not shapes and not options.example and not configured:
        raise NotGivenError(
            f"--model {options.model}: say what the network takes, --input-shape 3,224,224 (one image), or give --data "
            "or --example FILE.py:FUNCTION"
        )
    facts = _facts(options, shapes, model=options.model, arguments=arguments)
    own = precision_of(model)
    entry = replace(entry_for(factory, arguments), dtype=dtype or (None if own == torch.float32 else own))
    inputs = _inputs(options, shapes) if shapes or not configured else _configured_inputs(options, model)
    if (data is None and shapes) or is_lazy_network(model):
        with _seeded(options.seed):
            _check_runs(factory.name, model, shapes, inputs)
    if entry.dtype is not None:
        inputs = wide(inputs, own)
    choices = _choices(options)
    if choices and not configured:
        raise UnsuitedError(f"--{' and --'.join(choices).replace('_', '-')} {_CONFIGURED}")
    return Network(
        factory.name, "", model, entry, inputs, data, options.weights, {**facts, **choices}, choices=choices
    )


def _from_folder(options: NetworkOptions, voice: Voice) -> Network:
    """A model with its configuration, as Hugging Face's library keeps it."""
    folder = hub_folder(options.model or "")
    voice.remark(f"reading {folder}")
    kept_in = isinstance(options, PruneOptions) and not (options.data or options.layers or options.experts)
    whole = options.per_layer or not kept_in
    model, dtype = open_folder(folder, options.dtype, options.attn, whole)
    cls = type(model)
    entry = Entry(cls, {}, cls.__name__, f"{folder.resolve().name}, {cls.__name__}", dtype, folder)
    facts = _facts(options, [], model=f"hf:{folder.as_posix()}", dtype=str(dtype).removeprefix("torch."))
    inputs = _configured_inputs(options, model)
    choices = _choices(options)
    facts |= choices
    data = _text(options.data, folder, model) if options.data else None
    return Network(folder.resolve().name, "", model, entry, inputs, data, None, facts, choices=choices)


def _choices(options: NetworkOptions) -> dict[str, Any]:
    """What the pruner of a model with a configuration is told."""
    return {name: True for name in ("residual", "per_layer") if getattr(options, name)}


def _text(spec: str, folder: Path, model: nn.Module) -> Data:
    """Text as tokens of the folder's. Raises UsageError where the model takes no such tokens."""
    data = load_text(spec, _known_tokens(folder, model), longest(model, LENGTH))
    tokens = calibration_images(data, 2)
    try:
        with as_it_was(model), torch.no_grad():
            out = model.eval()(tokens)
    except Exception as error:
        if takes := _other_inputs(model):
            raise UnsuitedError(f"{type(model).__name__} takes {takes}, no tokens alone: leave --data out") from error
        told = f"{folder} can't be run on the tokens of {spec}: {describe(error)}"
        raise InputError(told, site=site_of(error)) from error
    if scores_of(out, tokens) is None:
        raise UnsuitedError(f"{type(model).__name__} gives no scores for tokens or texts: leave --data out")
    return data


def _other_inputs(model: nn.Module) -> str:
    """What a model takes that isn't run on tokens alone."""
    told: Any = model
    if told.main_input_name != "input_ids":
        return str(told.main_input_name)
    return "tokens for a decoder, too" if told.config.is_encoder_decoder else ""


def _known_tokens(folder: Path, model: nn.Module) -> Callable[[str], list[int]]:
    """The folder's tokenizer. Raises WeightsMismatchError for tokens that the model doesn't know."""
    tokenizer = tokenizer_of(folder)
    told: Any = model
    most = getattr(told.config, "vocab_size", None)

    def tokens(text: str) -> list[int]:
        found = tokenizer(text)
        if isinstance(most, int) and max(found, default=0) >= most:
            raise WeightsMismatchError(
                f"{folder}: its tokenizer makes token {max(found)}, and the model knows {most}: they are of two models"
            )
        return found

    return tokens


def _configured_inputs(options: NetworkOptions, model: nn.Module) -> Any:
    return call_example(options.example) if options.example else examples(model)


def _inputs(options: NetworkOptions, shapes: Sequence[Shape]) -> Any:
    return call_example(options.example) if options.example else images(shapes)


def _facts(options: NetworkOptions, shapes: Sequence[Shape], **more: Any) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "input_shapes": [list(s) for s in shapes],
        "weights": options.weights.as_posix() if options.weights else "",
        "data": options.data or "",
        "model_seed": options.seed,
    }
    if options.init_from:
        facts["init_from"] = options.init_from.as_posix()
    if options.ema:
        facts["ema"] = True
    return {**facts, **({"example": options.example} if options.example else {}), **more}


def _check_runs(name: str, model: nn.Module, shapes: Sequence[Shape], inputs: Any) -> None:
    """Raises InputError unless the network takes the inputs, from which lazy layers get their sizes."""
    try:
        example = wide(examples_of(inputs)[0], precision_of(model))
        if is_lazy_network(model):
            settle_sizes(model, example)
        with as_it_was(model), torch.no_grad():
            args, kwargs = call_arguments(example)
            run(model.eval(), args, kwargs)
    except Exception as error:
        shown = " ".join(f"--input-shape {','.join(map(str, s))}" for s in shapes)
        on = f"random inputs of {shown}" if shown else "what --example returns"
        way_out = "give another shape, or --example FILE.py:FUNCTION that returns what it takes"
        if not torch.cuda.is_available() and any(word in str(error) for word in ("NVIDIA", "CUDA")):
            way_out = "the code asks for a GPU, and here is none: take the device of the inputs there"
        message = f"{name} can't be run on {on}: {describe(error)}"
        raise InputError(message, site=site_of(error, model), help=way_out) from error


def check_outputs(name: str, model: nn.Module, example_input: Any, data: Data) -> Data:
    """The data; UsageError unless the network takes the images and returns a row with a score for each of the classes,
    if they are known. What a function of the user's own gave may also be without classes for such a network."""
    if data.own:
        example_input = wide(calibration_images(data, 2), precision_of(model))
    try:
        with as_it_was(model), torch.no_grad():
            out = model.eval()(example_input)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        shape = ",".join(map(str, data.input_shape))
        shown = f"{name} can't be run on images of {data.name} ({shape}): {reason}"
        raise InputError(shown, site=site_of(error)) from error
    if not data.labelled:
        return data
    rows = isinstance(out, torch.Tensor) and out.ndim == 2
    if data.own:
        return judged_by(data, out.shape[1] if rows and out.shape[1] > 1 else 0)
    if not rows:
        raise UnsuitedError(f"{name} must return one row of class scores for each image to be judged on --data")
    if out.shape[1] != data.num_classes:
        raise UnsuitedError(
            f"{name} has {out.shape[1]} outputs, but {data.name} has {data.num_classes} classes: "
            f"add --model-arg num_classes={data.num_classes} (or what your factory calls it), or take other data"
        )
    return data


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """A network's first weights follow from the seed; the caller's random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
