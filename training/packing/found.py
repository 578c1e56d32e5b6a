"""Which layers of a network have weights of one bit, and what they do with them: seen by running each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...pruners.run import FunctionMode, call_arguments, hooked, isolated, run
from ..binarization import dorefa_activation, input_scale

_PRODUCTS = (F.conv2d, F.linear)
_SHIFTS = ("first_shift", "second_shift")


@dataclass(frozen=True)
class Form:
    """What a class of layers does with its inputs; the names are those of ``PackedLayer``. ``before``: what numbers go
    through first, as an expression of ``x``."""

    inputs: str = "signs"
    views: int = 1
    scaled_by_inputs: bool = False
    before: str = ""


@dataclass(frozen=True)
class BinaryLayer:
    """A layer with weights of one bit: +1 where ``signs`` is True. ``scale``: of each view and output; ``bias``: what
    is added; ``magnitudes``: of the weights, of each output."""

    form: Form
    signs: Tensor = field(repr=False)
    magnitudes: Tensor = field(repr=False)
    scale: Tensor = field(repr=False)
    bias: Tensor = field(repr=False)
    shifts: Tensor | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Found:
    """Binary layers by name, and why others of the author's classes are none."""

    layers: Mapping[str, BinaryLayer]
    others: Mapping[str, str]


class NotBinary(Exception):  # noqa: N818  (no fault: most layers are not)
    """Why a layer can't be packed."""


def find(model: nn.Module, inputs: Any) -> Found:
    """What of the network can be packed. All layers of one class are, or none, as they share its text."""
    model.eval()
    shapes = _input_shapes(model, inputs)
    layers: dict[str, BinaryLayer] = {}
    others: dict[str, str] = {}
    for name, layer in _candidates(model):
        try:
            if name not in shapes:
                raise NotBinary("it doesn't run on the example")
            layers[name] = _seen(layer, shapes[name])
        except NotBinary as reason:
            others[name] = f"{type(layer).__name__}: {reason}"
    for name in list(layers):
        cls = type(model.get_submodule(name))
        twins = [n for n, m in _candidates(model) if type(m) is cls]
        unlike = next((n for n in twins if n in others or (n in layers and layers[n].form != layers[name].form)), None)
        if unlike is not None:
            why = "can't be packed" if unlike in others else "works in another way"
            others[name] = f"{cls.__name__}: {unlike}, of the same class, {why}"
    return Found({n: layer for n, layer in layers.items() if n not in others}, others)


def _candidates(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Convolutions and linear layers of an author's class."""
    for name, module in model.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)) and not type(module).__module__.startswith("torch."):
            yield name, module


def _input_shapes(model: nn.Module, inputs: Any) -> dict[str, torch.Size]:
    shapes: dict[str, torch.Size] = {}

    def watch(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, args: tuple[Any, ...]) -> None:
            if len(args) == 1 and isinstance(args[0], Tensor):
                shapes.setdefault(name, args[0].shape)

        return hook

    hooks = [m.register_forward_pre_hook(watch(name)) for name, m in _candidates(model)]
    with hooked(hooks), torch.no_grad(), isolated.buffers_restored(model), isolated.seeded():
        run(model, *call_arguments(inputs))
    return shapes


# -- one layer


class _Products(FunctionMode):
    """Notes the operands of convolutions and matrix products."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Tensor, Tensor, Tensor | None]] = []

    def called(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if func in _PRODUCTS:
            named = _named(args, kwargs)
            self.calls.append((named["input"], named["weight"], named.get("bias")))
        return func(*args, **kwargs)


def _named(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """What a convolution or a product is called with, but for what follows its operands without a name."""
    return dict(zip(("input", "weight", "bias"), args, strict=False)) | dict(kwargs)


def _seen(layer: Any, shape: torch.Size) -> BinaryLayer:
    _check_form(layer)
    x = _telling(shape, layer.weight)
    with torch.no_grad(), _Products() as seen:
        out = layer(x)
    if not seen.calls:
        raise NotBinary("it computes no product that torch shows")
    weight = seen.calls[0][1].detach().float()
    if weight.shape != layer.weight.shape or any(not torch.equal(w.float(), weight) for _, w, _ in seen.calls):
        raise NotBinary("it multiplies with several weights")
    signs, magnitudes = _signs(weight)
    form, shifts = _form(layer, x, [z for z, _, _ in seen.calls])
    found = _numbers(layer, form, shifts, signs, magnitudes, [b for _, _, b in seen.calls])
    again = computed(layer, found, x)
    if not torch.allclose(again, out, rtol=0, atol=1e-5 * max(float(out.abs().max()), 1e-6)):
        raise NotBinary("it does more than multiply signs, scale and add")
    return found


def _check_form(layer: Any) -> None:
    own = [c for c in type(layer).__mro__ if not c.__module__.startswith("torch.") and c is not object]
    if len(own) > 1:
        raise NotBinary(f"its class derives from {own[1].__name__}")
    extra = set(dict(layer.named_parameters())) | set(dict(layer.named_buffers()))
    if extra - {"weight", "bias", "alpha", "second_share", *_SHIFTS}:
        raise NotBinary("it has tensors of its own")
    if not torch.isfinite(layer.weight).all():
        raise NotBinary("its weights are not finite")
    if getattr(layer, "padding", 0) == "same" and any(
        d * (k - 1) % 2 for d, k in zip(layer.dilation, layer.kernel_size, strict=True)
    ):
        raise NotBinary('padding="same" is uneven there')


def _telling(shape: torch.Size, like: Tensor) -> Tensor:
    """Inputs on which signs, clipping and rounding differ: among random numbers both zeros, halves and ones."""
    generator = torch.Generator().manual_seed(0)
    if len(shape) != (3 if like.ndim == 4 else 1):  # with a batch
        shape = torch.Size([max(shape[0], 4), *shape[1:]])
    x = 2 * torch.randn(shape, generator=generator)
    special = torch.tensor([0.0, -0.0, 0.5, -0.5, 1.0, -1.0, 1e-30, -1e-30, 2.0])
    places = torch.rand(shape, generator=generator)
    x = torch.where(places < 0.5, special[(places * 2 * len(special)).long().clamp(max=len(special) - 1)], x)
    return x.to(like)


def _signs(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Where weights are positive, and the magnitude that all weights of an output share; NotBinary if they don't."""
    rows = weight.flatten(1)
    magnitudes = rows.abs()
    if not torch.equal(magnitudes, magnitudes[:, :1].expand_as(magnitudes)):
        raise NotBinary("the weights that it computes with have more than one bit")
    return weight > 0, magnitudes[:, 0].double()


def _sign(x: Tensor) -> Tensor:
    return 1 - 2 * (x < 0).to(x.dtype)


def _form(layer: Any, x: Tensor, operands: list[Tensor]) -> tuple[Form, Tensor | None]:
    scaled = len(operands) == 1 and _is_scaled(layer, x)
    if len(operands) == 1:
        (z,) = operands
        if torch.equal(z, _sign(x)):
            return Form(scaled_by_inputs=scaled), None
        if torch.equal(z, (x > 0.5).to(x.dtype)):
            return Form("bits"), None
        if torch.equal(z, x):
            return Form("numbers"), None
        bits = getattr(layer, "activation_bits", None)
        if isinstance(bits, int) and torch.equal(z, dorefa_activation(x, bits)):
            return Form("numbers", before="dorefa_activation(x, self.activation_bits)"), None
    if len(operands) == 2 and all(hasattr(layer, name) for name in _SHIFTS) and isinstance(layer, nn.Conv2d):
        shifts = torch.stack([getattr(layer, name).detach().flatten() for name in _SHIFTS])
        if all(torch.equal(z, _sign(x + s.view(-1, 1, 1))) for z, s in zip(operands, shifts, strict=True)):
            return Form(views=2), shifts
    raise NotBinary("what it does with its inputs is not known")


def _is_scaled(layer: Any, x: Tensor) -> bool:
    """Whether outputs grow with the inputs, whose signs stay."""
    bias = layer.bias
    shift = 0 if bias is None else bias.view(-1, *(1,) * (x.ndim - 2)) if isinstance(layer, nn.Conv2d) else bias
    with torch.no_grad():
        one, two = layer(x) - shift, layer(2 * x) - shift
    reach = float(two.abs().max())
    doubled, same = (float((two - n * one).abs().max()) <= 1e-4 * reach for n in (2, 1))
    return doubled and not same


def _numbers(
    layer: Any, form: Form, shifts: Tensor | None, signs: Tensor, magnitudes: Tensor, inner: list[Tensor | None]
) -> BinaryLayer:
    """Scale and bias of what the layer makes of its products."""
    zero = torch.zeros_like(magnitudes)
    scale = torch.stack([magnitudes] * form.views)
    bias = zero if layer.bias is None else layer.bias.detach().double()
    if all(b is not None for b in inner):  # each product adds it
        bias = bias * len(inner)
    if hasattr(layer, "alpha"):
        scale = scale * layer.alpha.detach().double()
    if hasattr(layer, "second_share") and form.views == 2:
        scale = torch.stack([scale[0], scale[1] * layer.second_share.detach().double()])
    if form.inputs == "bits":  # a bit is half of its sign and one half, around the image as well
        sums = (2 * signs.flatten(1).double() - 1).sum(1)
        bias, scale = bias + scale[0] / 2 * sums, scale / 2
    return BinaryLayer(form, signs, magnitudes, scale, bias, shifts)


def computed(layer: Any, found: BinaryLayer, x: Tensor) -> Tensor:
    """What was found, computed with torch's own operations: for comparing it with the layer."""
    image = isinstance(layer, nn.Conv2d)

    def over(t: Tensor) -> Tensor:
        return t.view(-1, 1, 1) if image else t

    product = layer._conv_forward if image else F.linear
    weight = 2 * found.signs.to(x.dtype) - 1
    with torch.no_grad():
        if found.form.inputs == "numbers":
            z = dorefa_activation(x, layer.activation_bits) if found.form.before else x
            views = [product(z, weight, None)]
        elif found.form.inputs == "bits":
            ones = weight.flatten(1).sum(1)
            views = [2 * product((x > 0.5).to(x.dtype), weight, None) - over(ones)]
        else:
            shifts = [0.0] if found.shifts is None else [s.view(-1, 1, 1) for s in found.shifts]
            views = [product(_sign(x + s), weight, None) for s in shifts]
        y = sum(v * over(s.to(x.dtype)) for v, s in zip(views, found.scale, strict=True))
        if found.form.scaled_by_inputs and image:
            y = y * input_scale(x, layer.kernel_size, layer.stride, layer.padding)
        elif found.form.scaled_by_inputs:
            y = y * x.abs().mean(dim=-1, keepdim=True)
        return y + over(found.bias.to(x.dtype))


# -- the network as it is, but computed so that nothing is lost


class _Afterwards(FunctionMode):
    """Multiplies by the magnitudes of binary weights after the sum instead of before it."""

    def __init__(self) -> None:
        super().__init__()
        self.inside: list[BinaryLayer] = []

    def called(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if func not in _PRODUCTS or not self.inside:
            return func(*args, **kwargs)
        layer, named = self.inside[-1], _named(args, kwargs)
        x, weight, bias = named.pop("input"), named.pop("weight"), named.pop("bias", None)
        y = func(x, 2 * layer.signs.to(weight) - 1, None, *args[3:], **named)
        shape = (-1, 1, 1) if func is F.conv2d else (-1,)
        y = y * layer.magnitudes.to(y).view(shape)
        return y if bias is None else y + bias.view(shape)


@contextmanager
def scaled_afterwards(model: nn.Module, found: Found) -> Iterator[None]:
    """Within this block binary layers of the network multiply signs and scale their sums then.

    Scaled before, a sum of equally many +1 and -1 is whatever rounding makes of it, and its sign is noise, which no two
    machines need to share. Scaled afterwards it is 0.
    """
    mode, hooks = _Afterwards(), []
    for name, layer in found.layers.items():
        module = model.get_submodule(name)
        hooks.append(module.register_forward_pre_hook(lambda *_, layer=layer: mode.inside.append(layer)))
        hooks.append(module.register_forward_hook(lambda *_: mode.inside.pop() and None, always_call=True))
    with hooked(hooks), mode:
        yield
