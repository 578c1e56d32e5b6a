"""What a kind of network is, and the registry of kinds. A file in this folder that calls ``register`` adds one."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ....pruners.costs import Quantize, register_precision, register_same_precision
from ....pruners.errors import OptionError, UnknownNameError
from ....pruners.registry import check_name

Layer = Callable[..., nn.Module]
FULL = 32  # bits of a number that is not quantized


def nothing(model: nn.Module) -> None:
    """No change."""


def no_schedule(model: nn.Module, done: float) -> None:
    """No schedule."""


@dataclass(frozen=True)
class Kind:
    """One kind of network: the layers it is made of and how they are trained.

    ``conv``, ``linear``: hidden layers. ``input_conv``, ``input_linear``: the same weights on inputs that stay real,
    for a first or last layer that is to be binary. ``activation``: what a network puts in front of a layer that does
    not quantize its own input. ``norm``: what stands behind a convolution; None: a batch norm.
    ``weight_quantizer``: ``(weight, layer)`` -> what the layers compute with; None: the weights as they are.
    ``scales_per_filter``: a number of 32 bits is stored with each filter.
    ``start(model)``: sets the tensors that only this kind has once weights of another kind were loaded.
    ``after_step(model)``: keeps the latent weights where the kind wants them. ``at_epoch(model, done)``: sets what
    changes while the share ``done`` (0..1) of training passes. ``alpha``: how much size weighs in a search.
    ``options``: the arguments that ``variant`` understands, with their defaults; ``usual``: other defaults for some of
    the bundled networks.
    """

    name: str
    conv: Layer
    linear: Layer
    input_conv: Layer
    input_linear: Layer
    weight_bits: int
    activation_bits: int
    activation: Callable[[], nn.Module] = nn.Identity
    norm: Layer | None = None
    weight_quantizer: Quantize | None = None
    scales_per_filter: bool = False
    start: Callable[[nn.Module], None] = nothing
    after_step: Callable[[nn.Module], None] = nothing
    at_epoch: Callable[[nn.Module, float], None] = no_schedule
    alpha: float = 1.0
    first_layer: str = "real"
    last_layer: str = "real"
    options: dict[str, Any] = field(default_factory=dict)
    usual: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    variant: Callable[..., Kind] | None = None

    @property
    def made_of(self) -> tuple[Layer, ...]:
        return self.conv, self.linear, self.input_conv, self.input_linear

    def like(self, other: Kind) -> bool:
        """Whether networks of both compute the same, however they are trained."""
        made = ([(_class(layer), getattr(layer, "keywords", {})) for layer in kind.made_of] for kind in (self, other))
        return self.norm == other.norm and next(made) == next(made)

    def with_options(self, **options: Any) -> Kind:
        """The kind with some of its options set; UsageError for one that it doesn't have."""
        unknown = [name for name in options if name not in self.options]
        if unknown:
            known = f"it has {', '.join(self.options)}" if self.options else "it has none"
            raise UnknownNameError(f"network kind {self.name} has no option {unknown[0]!r}: {known}")
        chosen = {**self.options, **options}
        made = self.variant(**chosen) if self.variant is not None else self
        return _tell_costs(replace(made, options=chosen, variant=self.variant))

    def layers(self, first_layer: str | None = None, last_layer: str | None = None) -> dict[str, Layer]:
        """The arguments ``conv``, ``linear``, ``first``, ``last`` and ``activation`` of a bundled network, and ``norm``
        where it is no batch norm.

        ``first_layer``, ``last_layer``: "real" or "binary"; default: the kind's own rule.
        """
        ends = [first_layer or self.first_layer, last_layer or self.last_layer]
        for name, value in zip(("first", "last"), ends, strict=True):
            if value not in ("real", "binary"):
                raise OptionError(f"--{name}-layer {value}: must be real or binary")
        first = nn.Conv2d if ends[0] == "real" else self.input_conv
        last = (nn.Conv2d, nn.Linear) if ends[1] == "real" else (self.input_conv, self.input_linear)
        return {
            "conv": self.conv,
            "linear": self.linear,
            "first": first,
            "last_conv": last[0],
            "last": last[1],
            "activation": self.activation,
            **({"norm": self.norm} if self.norm is not None else {}),
        }

    def default_alpha(self, first_layer: str | None = None, last_layer: str | None = None) -> float:
        """The weight of size in a search: the kind's own, but at least 2 where first and last layer are binary, too."""
        both = {first_layer or self.first_layer, last_layer or self.last_layer} == {"binary"}
        return max(self.alpha, 2.0) if both else self.alpha


KINDS: dict[str, Kind] = {}


def require(kind: str, option: str, value: object, allowed: Collection[object]) -> None:
    """UsageError if an option of a kind has another value than these."""
    if value not in allowed or type(value) not in {type(one) for one in allowed}:  # 1.0 and True are in a range, too
        known = f"{min(allowed)} to {max(allowed)}" if isinstance(allowed, range) else " or ".join(map(str, allowed))
        raise OptionError(f"{kind}: {option} must be {known}, not {value!r}")


def register(kind: Kind) -> Kind:
    """Add a kind, and tell the cost model and the metrics about its layers."""
    KINDS[kind.name] = kind
    return _tell_costs(kind)


def _tell_costs(kind: Kind) -> Kind:
    """Layers that are made with arguments know their own bits: their file registers those."""
    for layer in kind.made_of:
        made = _class(layer)
        if made.__module__.startswith("torch."):
            continue
        if layer is made:
            inputs = FULL if layer in (kind.input_conv, kind.input_linear) else kind.activation_bits
            per_row = FULL if kind.scales_per_filter else 0
            register_precision(made, weights=kind.weight_bits, per_row=per_row, inputs=inputs)
        if kind.weight_quantizer is not None:
            register_precision(made, quantize=kind.weight_quantizer)
    return kind


def recognise(model: nn.Module, kind: Kind) -> None:
    """Tell the cost model and the metrics of a written file's layers, which are classes of their own with the kind's
    names."""
    known = {(_class(layer).__name__): _class(layer) for layer in kind.made_of}
    for layer in quantized_layers(model):
        twin = known.get(type(layer).__name__)
        if twin is not None:
            register_same_precision(type(layer), twin)


def _class(layer: Layer) -> type[nn.Module]:
    return layer.func if isinstance(layer, partial) else layer  # type: ignore[return-value]


def find_kind(name: str) -> Kind:
    """The kind called ``name``; UsageError with the closest name if there is none."""
    check_name("network kind", name, sorted(KINDS))
    return KINDS[name]


def require_number(kind: str, option: str, value: object, above: float, least: bool = False) -> None:
    """UsageError if an option is no number above ``above`` (``least``: or that very number)."""
    number = float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan
    if not (number > above or (least and number == above)):
        bound = "of at least" if least else "above"
        raise OptionError(f"{kind}: {option} must be a number {bound} {above:g}, not {value!r}")


# -- latent weights


def quantized_layers(model: nn.Module) -> Iterator[Any]:
    """Convolutions and linear layers of classes other than torch's own: those with latent weights.

    Written files bring the classes along under their own names, so these can't be recognised by identity.
    """
    for module in model.modules():
        if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Linear)) and not type(module).__module__.startswith("torch."):
            yield module


def clip_latent(model: nn.Module) -> None:
    """Latent weights stay in [-1, 1], where the straight-through gradient does not vanish."""
    for layer in quantized_layers(model):
        change_kept(layer, lambda weight: weight.clamp(-1, 1))


def centre_and_clip_latent(model: nn.Module) -> None:
    """Latent weights are centred over the input channels, then clipped to [-1, 1] (as XNOR-Net's code does)."""
    for layer in quantized_layers(model):
        change_kept(layer, lambda weight: (weight - weight.mean(dim=1, keepdim=True)).clamp(-1, 1))


def change_kept(layer: Any, change: Callable[[Tensor], Tensor]) -> None:
    """Changes a layer's weight in place. Where removed channels stay as zeros (``zeroOut``), its forward knows the
    positions of those that are kept, and only their part is changed, as if there were no others."""
    weight = layer.weight.data
    kept = [getattr(layer.forward, axis, None) for axis in ("leaving", "entering")][: weight.ndim]
    if all(positions is None for positions in kept):
        weight.copy_(change(weight))
        return
    sides = (torch.arange(n) if p is None else p for n, p in zip(weight.shape, kept, strict=False))
    part = torch.meshgrid(*(side.to(weight.device) for side in sides), indexing="ij")
    weight[part] = change(weight[part])
