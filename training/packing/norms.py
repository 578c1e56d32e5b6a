"""Which batch norms come right after a binary layer, so that they can be part of its scale and offset."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from ...pruners.run import FunctionMode, call_arguments, hooked, isolated, run, tensors_in

_SEES = {"shape", "dtype", "device", "ndim", "requires_grad", "is_cuda", "layout", "grad_fn"}


class _Reads(FunctionMode):
    """Counts how often each of some tensors is read by an operation."""

    def __init__(self) -> None:
        super().__init__()
        self.watched: dict[int, Tensor] = {}
        self.reads: Counter[int] = Counter()

    def called(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        owner = getattr(getattr(func, "__self__", None), "__name__", "")
        if owner not in _SEES and getattr(func, "__name__", "") not in ("dim", "size", "numel"):
            for tensor in tensors_in((args, kwargs)):
                if id(tensor) in self.watched:
                    self.reads[id(tensor)] += 1
        return func(*args, **kwargs)


def foldable(model: nn.Module, names: Iterable[str], inputs: Any) -> dict[str, str]:
    """Binary layer -> the batch norm that alone reads its output. Both run once, and neither is anything else's."""
    layers = {name: model.get_submodule(name) for name in names}
    norms = {n: m for n, m in model.named_modules() if _steady(m)}
    mode = _Reads()
    outputs: dict[str, Tensor] = {}
    found: dict[str, str] = {}
    runs: Counter[str] = Counter()

    def made(name: str) -> Any:
        def hook(_: nn.Module, args: Any, out: Any) -> None:
            runs[name] += 1
            mode.watched[id(out)] = outputs[name] = out

        return hook

    def read(name: str) -> Any:
        def hook(_: nn.Module, args: tuple[Any, ...]) -> None:
            runs[name] += 1
            found.update({layer: name for layer, out in outputs.items() if args and args[0] is out})

        return hook

    hooks = [m.register_forward_hook(made(n)) for n, m in layers.items()]
    hooks += [m.register_forward_pre_hook(read(n)) for n, m in norms.items()]
    with hooked(hooks), torch.no_grad(), isolated.buffers_restored(model), isolated.seeded(), mode:
        last = run(model, *call_arguments(inputs))
    ends = {id(t) for t in tensors_in(last)}
    paths = Counter(id(m) for _, m in model.named_modules(remove_duplicate=False))
    return {
        layer: norm for layer, norm in found.items()
        if runs[layer] == runs[norm] == 1 and mode.reads[id(outputs[layer])] == 1 and id(outputs[layer]) not in ends
        and paths[id(layers[layer])] == paths[id(norms[norm])] == 1
    }  # fmt: skip


def _steady(module: nn.Module) -> bool:
    """Whether it is torch's own batch norm with statistics that don't change."""
    own = type(module) in (nn.BatchNorm1d, nn.BatchNorm2d)
    return own and module.running_mean is not None and module.running_var is not None


def gain_and_shift(norm: Any) -> tuple[Tensor, Tensor]:
    """y = gain x + shift of a batch norm in eval mode, in float64."""
    gain = 1 / (norm.running_var.double() + norm.eps).sqrt()
    if norm.weight is not None:
        gain = gain * norm.weight.detach().double()
    shift = -norm.running_mean.double() * gain
    return gain, shift if norm.bias is None else shift + norm.bias.detach().double()
