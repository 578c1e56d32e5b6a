"""A live, sliced copy of a network: the widths of a candidate made real, without writing source.

Slicing tensors and the size attributes of torch's own layers is the easy half. The other half is numbers in the
author's code that count channels. They are found by *rehearsal*: the sliced copy runs once, every call that the
trace knows to count channels is compared with what it should say, and a stale number is traced back to the
expression it came from: an attribute of a module is set anew, any other expression becomes a ``LiteralSite`` for
the source writer.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy.typing as npt
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from pruners.channel_graph import ChannelGraph, CountedCall
from pruners.errors import NotPrunableError, SecateurError
from pruners.expressions import AttributePatch, Stale, resolve
from pruners.frames import author_frame, author_site, describe, run
from pruners.sites import SITE_RULES, Path, name_of
from pruners.source.entry import LiteralSite
from pruners.tracing import Modules, call_arguments, training_batch
from pruners.weight_transfer import slice_state

Kept = Mapping[str, npt.ArrayLike]
Place = tuple[str, int, int, int, int]  # file and span of an expression


@dataclass(frozen=True)
class SlicedModel:
    """``model`` runs as it is if ``literals`` is empty; else only its written source does."""

    model: nn.Module
    literals: tuple[LiteralSite, ...] = ()

    @property
    def runs(self) -> bool:
        return not self.literals


def slice_model(model: nn.Module, graph: ChannelGraph, kept: Kept, example_input: Any) -> SlicedModel:
    """A copy of the model that holds only the kept channels.

    ``kept``: width name -> kept group indices; widths that are not named stay whole. The model itself is not
    touched. Raises NotPrunableError, naming file and line, where a number in the code can't follow.
    """
    sliced = copy.deepcopy(model)
    _replace_tensors(sliced, slice_state(model.state_dict(keep_vars=True), graph, kept, model), graph)
    for module in sliced.modules():
        resize(module)
    return SlicedModel(sliced, _rehearse(sliced, graph, kept, example_input))


def _replace_tensors(model: nn.Module, state: Mapping[str, torch.Tensor], graph: ChannelGraph) -> None:
    """Put the sliced tensors in place; tied and shared ones stay one object."""
    done: dict[str, torch.Tensor] = {}
    for module_name, module in model.named_modules(remove_duplicate=False):
        prefix = f"{module_name}." if module_name else ""
        for store in (module._parameters, module._buffers):
            for name, old in list(store.items()):
                key = prefix + name
                if old is None or key not in state or torch.equal(state[key], old):
                    continue
                first = graph.aliases.get(key, key)
                if first not in done:
                    new = state[key].detach().clone()
                    done[first] = nn.Parameter(new, old.requires_grad) if isinstance(old, nn.Parameter) else new
                store[name] = done[first]


# -- size attributes of torch's own layers

Resizer = Callable[[Any], None]
RESIZERS: dict[type[nn.Module], Resizer] = {}


def resizer(*types: type[nn.Module]) -> Callable[[Resizer], Resizer]:
    """Register how a layer's size attributes follow from its tensors."""

    def register(function: Resizer) -> Resizer:
        RESIZERS.update(dict.fromkeys(types, function))
        return function

    return register


def resize(module: nn.Module) -> None:
    found = next((RESIZERS[t] for t in type(module).__mro__ if t in RESIZERS), None)
    if found is not None:
        found(module)


@resizer(nn.Conv1d, nn.Conv2d, nn.Conv3d)
def _conv(layer: Any) -> None:
    out, per_group = layer.weight.shape[:2]
    if layer.groups > 1 and layer.in_channels == layer.groups:  # depth-wise: as many groups as inputs
        layer.groups = out // (layer.out_channels // layer.groups)
    layer.out_channels, layer.in_channels = out, per_group * layer.groups


@resizer(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
def _conv_transposed(layer: Any) -> None:
    incoming, per_group = layer.weight.shape[:2]
    if layer.groups > 1 and layer.in_channels == layer.groups:
        layer.groups = incoming
    layer.in_channels, layer.out_channels = incoming, per_group * layer.groups


@resizer(nn.Linear)
def _linear(layer: Any) -> None:
    layer.out_features, layer.in_features = layer.weight.shape


@resizer(nn.modules.batchnorm._NormBase)
def _batch_norm(layer: Any) -> None:
    vector = layer.running_mean if layer.running_mean is not None else layer.weight
    if vector is not None:
        layer.num_features = vector.numel()


@resizer(nn.LayerNorm, nn.RMSNorm)
def _layer_norm(layer: Any) -> None:
    if layer.weight is not None:
        layer.normalized_shape = tuple(layer.weight.shape)


@resizer(nn.GroupNorm)
def _group_norm(layer: Any) -> None:
    if layer.weight is not None:
        layer.num_channels = layer.weight.numel()


@resizer(nn.PReLU)
def _prelu(layer: Any) -> None:
    layer.num_parameters = layer.weight.numel()


@resizer(nn.Embedding)
def _embedding(layer: Any) -> None:
    layer.num_embeddings, layer.embedding_dim = layer.weight.shape


# -- rehearsal


@contextmanager
def corrected(model: nn.Module, graph: ChannelGraph, kept: Kept) -> Iterator[None]:
    """Within this block a sliced model runs once although its code holds stale numbers: they are put right on the
    way."""
    modules = Modules(model)
    with modules.watching(), _Rehearsal(model, modules, graph.calls, kept, None):
        yield


def _rehearse(model: nn.Module, graph: ChannelGraph, kept: Kept, example_input: Any) -> tuple[LiteralSite, ...]:
    """Rehearse until no attribute is stale: setting one anew can make an expression that reads it stale."""
    flags = {m: m.training for m in model.modules()}
    applied: dict[AttributePatch, object] = {}
    try:
        while True:
            found = _passes(model.eval(), graph, kept, example_input)
            attributes, literals = _sorted_out(found, applied)
            if not attributes:
                return tuple(LiteralSite(*where, values) for where, values in literals.items())
            if attributes.keys() <= applied.keys():
                raise NotPrunableError(f"{found[0].site}: a number here must follow the widths, but setting it anew fails")
            for patch, new in attributes.items():
                holder = model.get_submodule(patch.module)
                old = getattr(holder, patch.attribute)
                now = list(new) if isinstance(old, list) and isinstance(new, tuple) else new
                setattr(holder, patch.attribute, now)
            applied |= attributes
    finally:
        for module, flag in flags.items():
            module.training = flag


def _passes(model: nn.Module, graph: ChannelGraph, kept: Kept, example_input: Any) -> list[Stale]:
    """What is stale in eval mode and, where the trace had to train to reach all modules, in training."""
    found = _stale_numbers(model, graph.calls, kept, example_input)
    if graph.training_calls:
        with torch.random.fork_rng(devices=[]):
            copied = copy.deepcopy(model).train()
            found += _stale_numbers(copied, graph.training_calls, kept, training_batch(example_input))
    return found


def _stale_numbers(model: nn.Module, calls: tuple[CountedCall, ...], kept: Kept, example_input: Any) -> list[Stale]:
    args, kwargs = call_arguments(example_input)
    modules = Modules(model)
    found: list[Stale] = []
    hooks = [m.register_forward_pre_hook(_fit_norm) for m in model.modules() if _has_no_tensors(m)]
    try:
        with torch.no_grad(), modules.watching(), _Rehearsal(model, modules, calls, kept, found):
            run(model, args, kwargs)
    except SecateurError:
        raise
    except Exception as error:
        raise NotPrunableError(f"the pruned network does not run: {describe(error)}") from error
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _has_no_tensors(module: nn.Module) -> bool:
    sized = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)
    return isinstance(module, sized) and not list(module.parameters()) and not list(module.buffers())


def _fit_norm(module: Any, args: tuple[Any, ...]) -> None:
    """A norm that stores nothing takes its size from what it reads."""
    if isinstance(module, nn.LayerNorm):
        module.normalized_shape = tuple(args[0].shape[args[0].ndim - len(module.normalized_shape) :])
    else:
        name = "num_channels" if isinstance(module, nn.GroupNorm) else "num_features"
        setattr(module, name, args[0].shape[1])


class _Rehearsal(TorchFunctionMode):
    """Compares every counted call with the trace, notes stale numbers and corrects them for this run."""

    def __init__(
        self,
        model: nn.Module,
        modules: Modules,
        calls: tuple[CountedCall, ...],
        kept: Kept,
        found: list[Stale] | None,
    ) -> None:
        super().__init__()
        self._model, self._modules, self._kept, self._found = model, modules, kept, found
        self._calls = iter(calls)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in SITE_RULES:
            args, kwargs = self._correct(func, args, kwargs)
        return func(*args, **kwargs)

    def _correct(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        site = author_site()
        call = next(self._calls, None)
        if call is None or (call.name, call.module, call.site) != (name_of(func), self._modules.current, site):
            raise NotPrunableError(f"{site}: the pruned network takes another way here than the network did")
        expected = {path: extent.count(self._kept) for path, extent in call.extents.items()} | dict(call.constants)
        changes = {}
        for path, value in expected.items():
            said = _get(args, kwargs, path)
            if said != -1 and not isinstance(said, torch.Tensor) and said != value:
                changes[path] = value
        if not changes:
            return args, kwargs
        fixed = _set(args, kwargs, changes)
        if self._found is None:
            return fixed
        frame = author_frame()
        if frame is None:
            raise NotPrunableError(f"{call.module}: a size inside torch's own layer can't follow the widths")
        reflected = call.name.startswith("__r")
        for stale in resolve(frame, site, self._modules, reflected, (args, kwargs), fixed):
            free = call.name in {"view", "reshape"} and len(changes) == 1 and not _has_minus_one(args)
            literal = not isinstance(stale.where, AttributePatch)
            self._found.append(replace(stale, new=-1) if free and literal else stale)
        return fixed


def _has_minus_one(args: tuple[Any, ...]) -> bool:
    return any(isinstance(n, int) and n == -1 for a in args for n in (a if isinstance(a, (tuple, list)) else (a,)))


def _get(args: tuple[Any, ...], kwargs: dict[str, Any], path: Path) -> Any:
    value: Any = kwargs if isinstance(path[0], str) else args
    for step in path:
        value = getattr(value, str(step)) if isinstance(value, slice) else value[step]
    return value


def _set(
    args: tuple[Any, ...], kwargs: dict[str, Any], changes: Mapping[Path, float]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    def replaced(value: Any, here: Path) -> Any:
        if here in changes:
            return changes[here]
        if isinstance(value, (tuple, list)):
            return tuple(replaced(v, (*here, i)) for i, v in enumerate(value))
        if isinstance(value, slice):
            return slice(replaced(value.start, (*here, "start")), replaced(value.stop, (*here, "stop")), value.step)
        return value

    return tuple(replaced(v, (i,)) for i, v in enumerate(args)), {k: replaced(v, (k,)) for k, v in kwargs.items()}


def _sorted_out(
    found: list[Stale], applied: Mapping[AttributePatch, object]
) -> tuple[dict[AttributePatch, object], dict[Place, dict[str, object]]]:
    """Attributes to set anew, and the other stale expressions with a value per module."""
    attributes: dict[AttributePatch, object] = {}
    literals: dict[Place, dict[str, object]] = {}
    for stale in found:
        if isinstance(stale.where, AttributePatch):
            before = applied.get(stale.where, attributes.setdefault(stale.where, stale.new))
        else:
            before = literals.setdefault(stale.where, {}).setdefault(stale.module, stale.new)
        if before != stale.new:
            raise NotPrunableError(f"{stale.site}: one number in the code counts two different widths here")
    return attributes, literals
