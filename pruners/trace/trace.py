"""Finding ties by running the network once with labels beside its tensors (abstract interpretation).

The network runs on a small concrete input under a ``TorchDispatchMode``: below modules and functions, where all of
torch is about a hundred operations. Every tensor's labels say which channel each element belongs to; a rule per
kind of operation (``rules``) carries them along and states facts; ``solving`` makes widths
of the facts.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..decorators import skipped_layers
from ..errors import NotPrunableError, SecateurError
from ..graph import ChannelGraph
from ..places import NOWHERE, Site
from ..run import (
    TorchDispatchMode,
    WithoutTorchFunction,
    as_it_was,
    author_site,
    batch_size,
    call_arguments,
    describe,
    described,
    forward_site,
    isolated,
    run,
    site_of,
    tensors_in,
    training_batch,
    without_compiler,
)
from .counted_calls import SiteRecorder
from .labelling import Splits, Tracer
from .rules import Call, rule_for


def trace(model: nn.Module, example_input: Any, *, skip: Sequence[str] = ()) -> ChannelGraph:
    """Find the channel dependencies of a network.

    ``example_input``: a tensor, a tuple of positional arguments or a dict of keyword arguments, with the batch on
    the first axis. The model is run once in eval mode without gradients and is left as it was. ``skip``: names of
    layers whose output channels must stay.

    Returns the graph: ``graph.widths`` (what may be pruned, and which layers that changes), ``graph.frozen`` (what
    must stay, with the reason, file and line) and ``graph.why(layer)``. Raises NotPrunableError, naming file and
    line, where the network can't be run or a label rule fails.

    >>> import torch
    >>> from secateur import trace
    >>> from secateur.models.cifar.lenet5 import lenet5
    >>> graph = trace(lenet5(), torch.zeros(1, 1, 28, 28), skip=["conv1"])
    >>> [(width.name, width.size) for width in graph.widths]
    [('conv2', 50), ('ip1', 500)]
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
        stack.enter_context(isolated.seeded())  # numbers that forward draws come again where it is run beside this
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

    Where it can't be trained on the example input those modules stay frozen, as not reached, and the reason says so.
    """
    twice = training_batch(example_input)
    copied = copy.deepcopy(model).train()
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            run(copy.deepcopy(copied), *call_arguments(twice))
    except Exception as error:
        reason = f"{tracer.why_unreached[0]}, and training on it fails: {described(error)}"
        tracer.why_unreached = reason, site_of(error) or NOWHERE
        return
    tracer.adopt(copied)
    with torch.random.fork_rng(devices=[]):
        _run(tracer, copied, twice, training=True)


class _LabelMode(TorchDispatchMode):
    """Runs every operation, then its label rule."""

    def __init__(self, tracer: Tracer) -> None:
        super().__init__()
        self._tracer = tracer

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        with WithoutTorchFunction():  # inside a script function the recorder would see operations and rules
            return self._labelled(func, args, kwargs or {})

    def _labelled(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        strides = args[0].stride() if args and isinstance(args[0], Tensor) else ()
        out = func(*args, **kwargs)
        call = Call(func, args, kwargs, out, author_site(), strides)
        self._tracer.ran(call)
        rule = rule_for(func)
        try:
            rule(self._tracer, call)
            self._tracer.multiplied(call)
        except SecateurError:
            raise
        except Exception as error:
            raise NotPrunableError(f"{call.name} at {call.site}: its label rule failed: {describe(error)}") from error
        return out


without_compiler(_LabelMode)
