"""Networks as people hold them: wrapped, compiled, with masks and norms on their weights. What is inside is taken.

Everything here leaves what is computed in evaluation as it is, and tells what it took off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, remove_spectral_norm, remove_weight_norm
from torch.nn.utils import prune as torch_prune

from ..errors import some
from .copying import copied
from .torch_private import ConvBase, tree_map

# by name, so that none of them has to be imported: class -> (where the module is, what is said)
_WRAPPERS = {
    "torch._dynamo.eval_frame.OptimizedModule": ("_orig_mod", "torch.compile"),
    "torch.nn.parallel.data_parallel.DataParallel": ("module", "DataParallel"),
    "torch.nn.parallel.distributed.DistributedDataParallel": ("module", "DistributedDataParallel"),
    "torch.optim.swa_utils.AveragedModel": ("module", "AveragedModel"),
    "torch.ao.quantization.stubs.QuantWrapper": ("module", "QuantWrapper"),
    "torch.distributed.algorithms._checkpoint.checkpoint_wrapper.CheckpointWrapper": (
        "_checkpoint_wrapped_module", "CheckpointWrapper"
    ),
    "timm.utils.model_ema.ModelEma": ("ema", "ModelEma"),
    "timm.utils.model_ema.ModelEmaV2": ("module", "ModelEmaV2"),
    "timm.utils.model_ema.ModelEmaV3": ("module", "ModelEmaV3"),
}  # fmt: skip
_LAYERS = (ConvBase, nn.Linear, nn.Bilinear, nn.Embedding)
_NORMS = {"WeightNorm": ("weight norm", remove_weight_norm), "SpectralNorm": ("spectral norm", remove_spectral_norm)}
_PARAMETRIZED = {"_WeightNorm": "weight norm", "_SpectralNorm": "spectral norm", "_Orthogonal": "orthogonality"}
_COMPUTING = ("weight_norm", "spectral_norm", "parametrizations", "parametrize", "prune")  # modules of torch.nn.utils


def unwrapped(model: nn.Module) -> tuple[nn.Module, list[str]]:
    """The module inside wrappers, also those around its parts, which are taken off in place; and what was taken off."""
    model, outer = _inner(model)
    told = [f"taken out of {name}: the module inside it" for name in outer]
    inside: dict[str, list[str]] = {}
    for path, module in list(model.named_modules()):
        for name, child in module.named_children():
            bare, wrappers = _inner(child)
            if wrappers:
                setattr(module, name, bare)
                inside.setdefault(" and ".join(wrappers), []).append(f"{path}.{name}" if path else name)
    told += [f"taken out of {names}: {some(paths)}" for names, paths in inside.items()]
    if any(_is_compiled(m) for m in model.modules()):
        for module in model.modules():
            module._compiled_call_impl = None
        told.append("taken as it was before compile()")
    return model, told


def plain(model: nn.Module) -> tuple[nn.Module, list[str], torch.dtype | None]:
    """The network as it can be pruned: unwrapped, unloaded and widened; a copy where that changes it. What was taken
    off, and the type that its weights had, if it isn't float32."""
    model, outer = _inner(model)
    if any(map(_is_special, model.modules())) or precision_of(model) in _SHORT:
        model = _copied(model)
    model, told = unwrapped(model)
    own = widened(model) or precision_of(model)
    told = [f"taken out of {name}: the module inside it" for name in outer] + told + unloaded(model)
    return model, told, None if own == torch.float32 else own


def _is_special(module: nn.Module) -> bool:
    wrapped = _wrapper(module) or _is_compiled(module)
    return bool(wrapped or _is_out_of_order(module) or next(_loads(module), None))


def _copied(model: nn.Module) -> nn.Module:
    """A copy. Norms of the older kind keep a weight with a history, which can't be copied; it is computed anew."""
    for module in model.modules():
        for name, value in vars(module).items():
            if isinstance(value, Tensor) and value.grad_fn is not None:
                setattr(module, name, value.detach())
    return copied(model)


def unloaded(model: nn.Module) -> list[str]:
    """Makes masks and norms of weights part of the weights, in place; what that was."""
    found: dict[str, list[str]] = {}
    for path, module in list(model.named_modules()):
        for kind, bake in list(_loads(module)):
            bake()
            found.setdefault(kind, []).append(path or "the network")
    _put_in_order(model)
    return [f"{kind} made part of the weights: {some(paths)}" for kind, paths in found.items()]


def _put_in_order(model: nn.Module) -> None:
    """The weight of a layer before its bias again, as its constructor has them: taking a norm off lays it behind."""
    for module in model.modules():
        _forget_reader(module)
        if _is_out_of_order(module):
            module.register_parameter("bias", module._parameters.pop("bias"))


def _is_out_of_order(module: nn.Module) -> bool:
    return isinstance(module, _LAYERS) and list(module._parameters)[:2] == ["bias", "weight"]


def _inner(module: nn.Module) -> tuple[nn.Module, list[str]]:
    names = []
    while wrapper := _wrapper(module):
        module = getattr(module, wrapper[0])
        names.append(wrapper[1])
    return module, names


def _wrapper(module: nn.Module) -> tuple[str, str] | None:
    return _WRAPPERS.get(f"{type(module).__module__}.{type(module).__qualname__}")


def _is_compiled(module: nn.Module) -> bool:
    return getattr(module, "_compiled_call_impl", None) is not None


def _loads(module: nn.Module) -> Iterator[tuple[str, Callable[[], Any]]]:
    """What computes the module's weights before it runs: its kind, and the call that bakes it in."""
    for hook in list(module._forward_pre_hooks.values()):
        if isinstance(hook, torch_prune.BasePruningMethod):
            yield "pruning masks (torch.nn.utils.prune.remove)", partial(_unmask, module, hook)
        elif type(hook).__module__.startswith("torch.nn.utils.") and type(hook).__name__ in _NORMS:
            kind, remove = _NORMS[type(hook).__name__]
            yield kind, partial(remove, module, hook.name)  # type: ignore[attr-defined]
    if isinstance(module, parametrize.ParametrizationList) or not parametrize.is_parametrized(module):
        return
    for name, steps in list(module.parametrizations.items()):  # type: ignore[union-attr,operator]
        kinds = [_PARAMETRIZED.get(type(s).__name__) for s in steps if type(s).__module__.startswith("torch.nn.utils.")]
        if len(kinds) == len(steps) and all(kinds):
            yield " and ".join(filter(None, kinds)), partial(_unparametrize, module, name)


def computes_weights(function: object) -> bool:
    """Whether a function of torch's has a layer's weights computed from then on: a norm, a mask, a parametrization."""
    home, _, name = str(getattr(function, "__module__", "")).rpartition(".")
    return home == "torch.nn.utils" and name in _COMPUTING


def _unmask(module: nn.Module, hook: torch_prune.BasePruningMethod) -> None:
    torch_prune.remove(module, hook._tensor_name)


def _forget_reader(module: nn.Module) -> None:
    """torch leaves the hook behind by which a spectral norm that was taken off read its weights."""
    for key, hook in list(module._load_state_dict_pre_hooks.items()):
        if type(getattr(hook, "hook", hook)).__name__ == "SpectralNormLoadStateDictPreHook":
            del module._load_state_dict_pre_hooks[key]


def _unparametrize(module: nn.Module, name: str) -> None:
    """In evaluation, where a spectral norm takes no step."""
    steps = module.get_submodule(f"parametrizations.{name}")
    training = [m for m in steps.modules() if m.training]
    steps.eval()
    parametrize.remove_parametrizations(module, name)
    for step in training:
        step.training = True


# -- precision

_SHORT = (torch.float16, torch.bfloat16)


def precision_of(model: nn.Module) -> torch.dtype:
    """The type of all floating parameters if they have but one, else float32."""
    found = {t.dtype for t in model.parameters() if t.is_floating_point()}
    return found.pop() if len(found) == 1 else torch.float32


def widened(model: nn.Module) -> torch.dtype | None:
    """A network wholly of 16-bit numbers becomes one of float32, in place; the type that it had, None if it stayed."""
    own = precision_of(model)
    if own not in _SHORT:
        return None
    model.float()
    return own


def wide(inputs: Any, dtype: torch.dtype) -> Any:
    """Inputs of floating point in this type."""
    return tree_map(lambda t: t.to(dtype) if isinstance(t, Tensor) and t.is_floating_point() else t, inputs)


def rounded(state: Mapping[str, Tensor], dtype: torch.dtype | None) -> Mapping[str, Tensor]:
    """The weights in this type; as they are where it is None."""
    return state if dtype is None else {k: wide(v, dtype) for k, v in state.items()}
