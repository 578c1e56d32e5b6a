"""What a network is run on to be traced: random images of given shapes, or what the user's own function returns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...pruners.bundle import Bundle
from ...pruners.configured import examples
from ...pruners.errors import ConflictError, FactoryError, NotGivenError, PlanError, PlanMismatchError, UnsuitedError
from ...pruners.loading import call, load_factory
from ...pruners.named_files import is_function
from ...pruners.run import examples_of, tree_leaves
from ...pruners.shown import visible
from ...pruners.synthetic import remembers, synthetic_inputs
from ...training.data import Data
from ...training.data import synthetic as synthetic_data
from ..cli import NetworkOptions
from ..show import Shown, Voice

Shape = tuple[int, ...]
SYNTHETIC = "synthetic"
_SYNTHETIC, _SYNTHETIC_HELD = 512, 64


def shapes_of(options: NetworkOptions, data: Data | None) -> list[Shape]:
    """The shapes that ``--input-shape`` and ``--data`` name, which must agree."""
    shapes = list(options.input_shape)
    if options.example and data is not None and data.own and not shapes:
        return []
    if options.example and (shapes or data is not None):
        other = "--input-shape" if shapes else "--data"
        raise ConflictError(f"--example and {other} both say what the network takes: leave one out")
    if data is None:
        return shapes
    if not next(data.test.batches(1))[0].is_floating_point():
        raise NotGivenError(
            f"the inputs of {data.name} are whole numbers: add --example FILE.py:FUNCTION that gives some"
        )
    if shapes and shapes != [data.input_shape]:
        given, theirs = (",".join(map(str, s)) for s in (shapes[0], data.input_shape))
        raise ConflictError(f"--input-shape {given}: the images of {data.name} are {theirs}; leave the option out")
    return [data.input_shape]


def images(shapes: Sequence[Sequence[int]]) -> Any:
    """Random inputs of a batch of one, always the same ones: a tensor, or a tuple where there are several."""
    generator = torch.Generator().manual_seed(0)
    tensors = tuple(torch.randn(1, *shape, generator=generator) for shape in shapes)
    return tensors[0] if len(tensors) == 1 else tensors


def synthetic(model: nn.Module, example_input: Any, options: NetworkOptions, voice: Voice) -> Data:
    """Inputs without labels, made from the network itself. Raises UsageError where it takes other than one tensor."""
    example = examples_of(example_input)[0]
    if not isinstance(example, torch.Tensor) or not example.is_floating_point() or example.ndim < 2:
        raise UnsuitedError(
            "--data synthetic makes inputs for networks that take one tensor of numbers: give other data"
        )
    shape, count = tuple(example.shape[1:]), getattr(options, "calibration", None) or _SYNTHETIC

    def make() -> Tensor:
        progress = Shown(voice.progress, "making inputs")
        found = synthetic_inputs(model, shape, count + _SYNTHETIC_HELD, options.seed, progress.report)
        progress.finish()
        if found.remembered:
            voice.remark(
                f"made {len(found.inputs)} inputs: what {found.remembered} batch norms see is off by {found.off:.2g} "
                f"from what they remember, by {found.noise:.2g} with noise"
            )
        return found.inputs

    how = "such that batch norms see what they remember" if remembers(model) else "noise, as there are no batch norms"
    return synthetic_data(shape, count, _SYNTHETIC_HELD, make, f"inputs are synthetic: {how}")


def call_example(spec: str) -> Any:
    """What the user's function ``FILE.py:FUNCTION`` returns: a tensor, a tuple of positional arguments or a dict of
    keyword arguments, with the batch on the first axis, or a list of such examples. Always the same random numbers.
    Raises ModelFileError."""
    function = load_factory(spec, "--example")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        inputs = call(function, {})
    examples = examples_of(inputs)
    if not examples or not all(any(torch.is_tensor(leaf) for leaf in tree_leaves(e)) for e in examples):
        raise FactoryError(
            f"--example {spec} returned {type(inputs).__name__} without a tensor: return what the network is called "
            "with, a tensor, a tuple of arguments or a dict of keyword arguments, or a list of several such examples"
        )
    return inputs


def data_of_bundle(bundle: Bundle, asked: str | None) -> str:
    """The data asked for, else what the bundle was made with; empty where that was none."""
    made_with = str(bundle.plan.provenance.get("data") or "")
    if not asked and is_function(made_with):
        # a plan may come from anywhere: what it names is run only if the user names it too
        made_with = visible(made_with)
        raise PlanMismatchError(f"{bundle.path} was made with what {made_with} returns: add --data {made_with}")
    return asked or made_with


def inputs_of_bundle(bundle: Bundle, example: str | None = None, data: Data | None = None) -> Any:
    """Inputs for a bundle's network: those of ``example`` or shaped like ``data``, else as it was traced."""
    if example:
        return examples_of(call_example(example))[0]
    if data is not None:
        return images([data.input_shape])
    if bundle.configured:
        return examples(bundle.model)[0]
    facts = bundle.plan.provenance
    if facts.get("example"):
        # a plan may come from anywhere: what it names is run only if the user names it too
        function = facts["example"]
        raise PlanMismatchError(f"{bundle.path} was traced on what {function} returns: add --example {function}")
    if not facts.get("input_shapes"):
        raise PlanError(f"{bundle.folder / 'plan.json'} doesn't say what the network takes (input_shapes)")
    return images(facts["input_shapes"])
