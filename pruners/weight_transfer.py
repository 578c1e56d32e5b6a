"""Weights of the pruned network from the original's.

``slice_state`` keeps the kept slices of every tensor; a class whose tensors follow another rule has its own
``WeightTransferUnit``. The room ``transfer`` then improves the sliced weights by a named strategy.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from .decorators import declaration_of
from .errors import DeclarationError, WeightsMismatchError
from .graph import BoolArray, ChannelGraph, Kept, Slot

State = dict[str, Tensor]
Masks = Mapping[str, list[tuple[Slot, BoolArray]]]


# ---------------------------------------------------------------------------------------------- slicing


def slice_state(state: Mapping[str, Tensor], graph: ChannelGraph, kept: Kept, model: nn.Module | None = None) -> State:
    """The state_dict of the pruned network: the kept slices of every tensor, same keys, order, types and
    ``requires_grad``; nothing shares memory with ``state``.

    ``kept``: width name -> kept group indices. ``model``: the network the state is of, where classes of it have
    weight transfer units of their own. Of weights that come and go, it says how their slices are made.
    """
    masks = masks_by_key(graph, kept)
    sliced = OrderedDict((key, _sliced(value, key, graph, masks)) for key, value in state.items())
    if hasattr(state, "_metadata"):  # versions of classes, which some read when they load
        sliced._metadata = state._metadata  # type: ignore[attr-defined]
    for path, module in model.named_modules() if model is not None else ():
        unit = transfer_unit_of(type(module))
        if unit is not None:
            _apply(unit, path, module, state, sliced)
    return sliced


def slice_tensor(tensor: Tensor, masks: list[tuple[Slot, BoolArray]]) -> Tensor:
    """Keep the masked positions of each slot. A grouped convolution keeps other inputs in every block of rows."""
    for slot, mask in (m for m in masks if m[0].blocks > 1):
        kept = torch.from_numpy(mask).view(slot.blocks, -1).to(tensor.device)
        rows = tensor.reshape(slot.blocks, -1, *tensor.shape[1:])
        tensor = torch.cat([block[:, keep] for block, keep in zip(rows, kept, strict=True)])
    for slot, mask in sorted((m for m in masks if m[0].blocks == 1), key=lambda m: m[0].dim):  # whole rows go fastest
        tensor = tensor.index_select(slot.dim, torch.from_numpy(mask).nonzero().reshape(-1).to(tensor.device))
    return tensor


def masks_by_key(graph: ChannelGraph, kept: Kept) -> dict[str, list[tuple[Slot, BoolArray]]]:
    """For every tensor that loses something, its slots and which of their positions stay."""
    masks: dict[str, list[tuple[Slot, BoolArray]]] = {}
    for slot, mask in graph.masks(kept).items():
        masks.setdefault(slot.parameter, []).append((slot, mask))
    return masks


def _sliced(tensor: Tensor | Callable[[], Tensor], key: str, graph: ChannelGraph, masks: Masks) -> Any:
    """``key``: the tensor's name. One that lies in one line stays one."""
    if not isinstance(tensor, Tensor):
        return partial(_sliced_now, tensor, key, graph, masks)
    own = masks.get(graph.key(key), [])
    laid_out = graph.laid_out(key, tensor.detach())
    found = slice_tensor(laid_out, own) if own else tensor.detach().clone()
    if laid_out.shape != tensor.shape:
        found = found.reshape([-1 if n == tensor.numel() else 1 for n in tensor.shape])
    return found.requires_grad_(tensor.requires_grad)


def _sliced_now(made: Callable[[], Tensor], key: str, graph: ChannelGraph, masks: Masks) -> Any:
    return _sliced(made(), key, graph, masks)


def slice_optimizer_state(
    optimizer: Mapping[str, Any], names: Sequence[str], graph: ChannelGraph, kept: Kept
) -> dict[str, Any]:
    """``optimizer.state_dict()`` for the pruned network, so that training can go on.

    ``names``: the parameters' names in the order in which the optimizer was given them, as ``parameter_names`` finds
    them. What has its parameter's shape (momentum, Adam's moments) is sliced
    like the parameter, single numbers (step counts) are copied. Raises CheckpointError for anything else.
    """
    order = [number for group in optimizer["param_groups"] for number in group["params"]]
    if len(order) != len(names):
        raise WeightsMismatchError(
            f"the optimizer's state is of {len(order)} parameters, the network has {len(names)}: "
            "give the names of those that the optimizer was made with"
        )
    masks = masks_by_key(graph, kept)
    of = dict(zip(order, names, strict=True))
    state = {i: _sliced_moments(entries, of[i], graph, masks) for i, entries in optimizer["state"].items()}
    return {**copy.deepcopy({k: v for k, v in optimizer.items() if k != "state"}), "state": state}


def _sliced_moments(
    entries: Mapping[str, Any], name: str, graph: ChannelGraph, masks: Masks
) -> dict[str, Any]:
    key = graph.key(name)
    moments: dict[str, Any] = {}
    for entry, value in entries.items():
        if isinstance(value, (list, tuple, dict)):
            kind = type(value).__name__
            raise WeightsMismatchError(f"the optimizer's {entry} of {name} is a {kind}, which can't be sliced")
        if not isinstance(value, Tensor) or value.ndim == 0:
            moments[entry] = copy.deepcopy(value)
        elif tuple(graph.laid_out(key, value).shape) == tuple(graph.shapes[key]):
            moments[entry] = _sliced(value, key, graph, masks)
        else:
            raise WeightsMismatchError(
                f"the optimizer's {entry} of {name} has shape {tuple(value.shape)}, the parameter "
                f"{tuple(graph.shapes[key])}: such a state can't be sliced, start the optimizer anew"
            )
    return moments


# ---------------------------------------------------------------------------------------------- odd classes


class WeightTransferUnit:
    """Carries over the tensors of a class for which slices alone are wrong: a tensor that sums something up, a
    scale that depends on how many channels there are."""

    def transfer(self, module: nn.Module, state: State, sliced: State) -> Mapping[str, Tensor]:
        """The tensors that replace those in ``sliced``: same keys, shapes and types. ``state`` and ``sliced`` hold
        the module's own tensors and those of its children, before and after slicing, by their names within it."""
        return {}


_UNITS: WeakKeyDictionary[type[nn.Module], WeightTransferUnit] = WeakKeyDictionary()


def register_transfer_unit(cls: type[nn.Module], unit: WeightTransferUnit) -> None:
    """Let ``unit`` carry over the weights of this class (not of its subclasses)."""
    if not isinstance(unit, WeightTransferUnit):
        raise DeclarationError(
            f"the transfer unit of {cls.__name__} must be a WeightTransferUnit, not {type(unit).__name__}"
        )
    _UNITS[cls] = unit


def transfer_unit_of(cls: type[nn.Module]) -> WeightTransferUnit | None:
    """The unit registered for the class, else the one of its decorator's kind; None where slices do."""
    declaration = declaration_of(cls)
    return _UNITS.get(cls) or (declaration.kind.part("transfer") if declaration is not None else None)


def _apply(unit: WeightTransferUnit, path: str, module: nn.Module, state: Mapping[str, Tensor], sliced: State) -> None:
    prefix = f"{path}." if path else ""

    def own(source: Mapping[str, Tensor]) -> State:
        return {k.removeprefix(prefix): v for k, v in source.items() if k.startswith(prefix)}

    for name, new in unit.transfer(module, own(state), own(sliced)).items():
        old = sliced.get(prefix + name)
        if old is None or new.shape != old.shape or new.dtype != old.dtype:
            form = "no tensor" if old is None else f"{tuple(old.shape)} {old.dtype}"
            raise DeclarationError(
                f"{type(unit).__name__} gives {prefix}{name} as {tuple(new.shape)} {new.dtype}, but the pruned network "
                f"has {form} there"
            )
        sliced[prefix + name] = new.detach().clone().requires_grad_(old.requires_grad)


# ---------------------------------------------------------------------------------------------- strategies


@dataclass(frozen=True)
class Transferred:
    """The pruned network's new state_dict; ``facts``: JSON values for the summary; ``notes``: remarks for the user."""

    state: State
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


