"""Finding ties by running the network once with labels beside its tensors (abstract interpretation).

The network runs on a small concrete input under a ``TorchDispatchMode``: below modules and functions, where all of
torch is about a hundred operations. Every tensor's labels say which channel each element belongs to; a rule per
kind of operation (``rules``) carries them along and states facts; ``solving`` makes widths
of the facts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..decorators import skipped_layers
from ..errors import NotPrunableError, SecateurError, TraceError, UnknownNameError
from ..graph import ChannelGraph, Pass
from ..layer_words import layers_named, nearest
from ..places import NOWHERE, Site
from ..run import (
    DispatchMode,
    Watch,
    WithoutTorchDispatch,
    WithoutTorchFunction,
    as_it_was,
    author_site,
    batch_size,
    call_arguments,
    copied,
    describe,
    described,
    examples_of,
    forward_site,
    repeatable,
    require_inputs,
    require_module,
    site_of,
    streams,
    tensors_in,
    training_batch,
    unwatched,
)
from ..run import run as call
from .counted_calls import SiteRecorder
from .labelling import FlatWeights, Splits, Tracer
from .rules import Call, rule_for, unknown
from .untaken import Attempts, Runs, untaken


def trace(model: nn.Module, example_input: Any, *, skip: Sequence[str] = ()) -> ChannelGraph:
    """Find the channel dependencies of a network.

    ``example_input``: a tensor, a tuple of positional arguments or a dict of keyword arguments, with the batch on
    the first axis; or a list of such examples, which together reach what the network can do. The model is run in eval
    mode and, where its code looks at the mode, in training on a copy, and is left as it was. ``skip``: names of layers,
    or other words for them (``layers_named``), whose output channels must stay.

    Returns the graph: ``graph.widths`` (what may be pruned, and which layers that changes), ``graph.frozen`` (what
    must stay, with the reason, file and line) and ``graph.why(layer)``. Raises NotPrunableError, naming file and
    line, where the network can't be run or a label rule fails.

    >>> import torch
    >>> from secateur import trace
    >>> from secateur.models.cifar.lenet5 import lenet5
    >>> graph = trace(lenet5(), torch.zeros(1, 1, 28, 28), skip=["conv1"])
    >>> {width.name: width.size for width in graph.widths}
    {'conv2': 50, 'ip1': 500}
    """
    require_module(model)
    require_inputs(example_input)
    return observe(model, example_input, skip=skip).graph()


def observe(
    model: nn.Module, example_input: Any, *, skip: Sequence[str] = (), held: Mapping[Site, str] | None = None,
    constructed: bool = False,
) -> Tracer:  # fmt: skip
    """Run the network under labels; the tracer holds the facts it collected. ``held``: places where all channels must
    stay, and why. ``constructed``: the pruned network comes from the same code with other arguments, so that no way
    needs to be tried, and buffers that are not in the state_dict will be what that code makes."""
    examples = examples_of(example_input)
    splits, flat = Splits(), FlatWeights()
    while True:
        splits.begin()
        flat.begin()
        tracer = Tracer(model, batch_size(examples[0]), splits, flat, held)
        passes = _Passes(tracer, model, examples, constructed)
        passes.first()
        if flat.revise() or splits.revise(tracer.facts):
            continue
        passes.others()
        if not splits.revise(tracer.facts):
            break
    tracer.tie_unread(model)
    tracer.skip(dict.fromkeys(_meant(skip, tracer, model), NOWHERE), "asked to be skipped")
    tracer.skip(skipped_layers(model), "skipped by its decorator")
    return tracer


def _meant(words: Sequence[str], tracer: Tracer, model: nn.Module) -> list[str]:
    """The layers that make channels and that the words name. Raises UsageError where one names none."""
    made = sorted({s.layer for s in tracer.facts.slots if tracer.facts.role(s) == "out"})
    found = {word: layers_named(word, made, model) for word in words}
    if strange := [word for word, layers in found.items() if not layers]:
        hint = nearest(strange[0], made, model)
        raise UnknownNameError(f"there is no layer {strange[0]} whose channels could be skipped{hint}")
    return [layer for layers in found.values() for layer in layers]


class _Passes:
    """All passes under labels: on every example, in training where that may make a difference, and those that try the
    ways which no other takes."""

    def __init__(self, tracer: Tracer, model: nn.Module, examples: Sequence[Any], constructed: bool) -> None:
        self.tracer, self.model, self.examples, self.constructed = tracer, model, examples, constructed
        self.runs: Runs = []

    def first(self) -> None:
        """On the first example, in eval mode: the network itself runs, and what it does is counted."""
        self.runs.append((Pass(), _labelled(self.tracer, self.model, self.examples[0])))
        if self.constructed:
            self.tracer.hold_unsaved(self.model, every=True)

    def others(self) -> None:
        """Copies run."""
        for number, example in enumerate(self.examples[1:], 1):
            self._further(Pass(number), example)
        if self.tracer.unreached() or any(watch.trains for _, watch in self.runs):
            graded = any(watch.graded for _, watch in self.runs)
            for number, example in enumerate(self.examples):
                self._in_training(Pass(number, True, graded), training_batch(example))
        if not self.constructed:
            self._try_ways()

    def _further(self, run: Pass, example: Any, attempts: Attempts | None = None) -> None:
        network = copied(self.model).train(run.training)
        self.tracer.adopt(network, run == Pass(0, True))  # where gradients are kept, other operations may run
        watch = _labelled(self.tracer, network, example, run, attempts)
        if attempts is not None:
            attempts.settle()
        done = replace(run, failed=frozenset(attempts.failed)) if attempts is not None else run
        self.tracer.passed(done)
        if attempts is None:
            self.runs.append((run, watch))

    def _in_training(self, run: Pass, example: Any) -> None:
        """Some code runs in training only. Where the network can't be trained on the example input, modules that this
        may be the reason for stay frozen, as not reached, and the reason says so."""
        try:
            self._further(run, example)
        except NotPrunableError as error:
            cause = error.__cause__ or error
            reason = f"{self.tracer.why_unreached[0]}, and training on it fails: {described(cause)}"
            self.tracer.why_unreached = reason, site_of(cause) or NOWHERE

    def _try_ways(self) -> None:
        attempts = Attempts(self.tracer, self.runs)
        for number, ways in untaken(self.runs, self.tracer.unreached_modules()).items():
            run = replace(self.runs[number][0], tried=frozenset(ways))
            example = self.examples[run.example]
            self._further(run, training_batch(example) if run.training else example, attempts)
        self.tracer.untaken = attempts.places


def _forgotten(saved: torch.Tensor) -> torch.Tensor:
    return torch.empty(0)


def _labelled(
    tracer: Tracer, model: nn.Module, example: Any, run: Pass | None = None, attempts: Attempts | None = None
) -> Watch:
    """One pass under labels."""
    run = run or Pass()
    tracer.batch = batch_size(example)
    args, kwargs = call_arguments(example)
    watch = Watch(tracer.modules, run.tried, attempts, attempts.known if attempts is not None else ())
    with as_it_was(model), ExitStack() as stack:
        stack.enter_context(repeatable())
        stack.enter_context(torch.set_grad_enabled(run.graded))
        if streams(model):  # of weights that come and go, what is kept for gradients would be all
            stack.enter_context(torch.autograd.graph.saved_tensors_hooks(_forgotten, _forgotten))
        stack.enter_context(tracer.modules.watching())
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))  # products and a softmax, which have label rules
        model.train(run.training)
        try:
            with _LabelMode(tracer), SiteRecorder(tracer), watch.watching():
                out = call(model, args, kwargs)
        except SecateurError:
            raise
        except Exception as error:
            which = f"example {run.example + 1}" if run.example else "the example input"
            told = f"the network can't be run on {which}: {describe(error)}"
            raise TraceError(told, site=site_of(error, model)) from error
        for leaf in tensors_in(out):
            tracer.freeze(tracer.labels(leaf).planes, "an output of the network", forward_site(model))
        tracer.hold_unsaved(model)
    return watch


class _LabelMode(DispatchMode):
    """Runs every operation, then its label rule."""

    def __init__(self, tracer: Tracer) -> None:
        super().__init__()
        self._tracer = tracer

    def called(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        with WithoutTorchFunction():  # inside a script function the recorder would see operations and rules
            return self._labelled(func, args, kwargs)

    def _labelled(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        first = args[0] if args and isinstance(args[0], Tensor) else None
        strides = first.stride() if first is not None and first.layout == torch.strided else ()
        out = func(*args, **kwargs)
        with unwatched(), WithoutTorchDispatch():  # what is computed with labels is no operation of the network
            self._follow(func, args, kwargs, out, strides)
        return out

    def _follow(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any, strides: Any) -> None:
        call = Call(func, args, kwargs, out, author_site(), strides)
        rule = rule_for(func)
        self._tracer.ran(call, rule is not unknown)
        try:
            rule(self._tracer, call)
            self._tracer.multiplied(call)
        except SecateurError:
            raise
        except Exception as error:
            told = f"{call.name} at {call.site}: its label rule failed: {describe(error)}"
            raise TraceError(told, site=call.site) from error
