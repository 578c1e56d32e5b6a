"""The score of the MicroNet challenge (NeurIPS 2019): storage and operations, each relative to a baseline.

    score = storage / baseline storage + operations / baseline operations; lower is better

Storage counts numbers of 32 bits: one of b bits is b / 32. Operations count multiplications and additions one by one;
one whose wider operand has b bits is b / 32. A product with +-1 only changes a sign, which is 1/32 whatever the other
operand is (a float has its sign in one bit). Additions are as wide as the accumulator, 32 bits here. Batch norms are
taken to be folded into what is before them.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import partial, singledispatch
from typing import Any

import torch
from torch import Tensor, nn

from ...pruners.costs import input_bits, stored_tensors
from ...pruners.registry import check_name
from ...pruners.run import BatchNormBase, DispatchMode, Modules, as_it_was, hooked, isolated, schema_of, tree_leaves

FULL = 32


@dataclass(frozen=True)
class Baseline:
    """What a score is relative to; ``quality`` is the accuracy that a network must have (perplexity: at most)."""

    network: str
    params: float
    operations: float
    quality: float


BASELINES = {
    "cifar100": Baseline("WideResNet-28-10", 36.5e6, 10.49e9, 0.80),
    "imagenet": Baseline("MobileNetV2-1.4", 6.9e6, 1170e6, 0.75),
    "wikitext103": Baseline("a Transformer", 159e6, 318e6, 35.0),
}


@dataclass(frozen=True)
class MicroNet:
    """``storage`` in numbers of 32 bits, operations in operations of 32 bits, for one image."""

    storage: float
    multiplications: float
    additions: float
    uncounted: tuple[str, ...] = ()

    @property
    def operations(self) -> float:
        return self.multiplications + self.additions

    def score(self, data: str = "cifar100") -> float:
        baseline = find_baseline(data)
        return self.storage / baseline.params + self.operations / baseline.operations


def find_baseline(data: str) -> Baseline:
    check_name("data set of the MicroNet challenge", data, sorted(BASELINES))
    return BASELINES[data]


# -- operations of a layer: (layer, input, output, bits of the weights, bits of the input) -> multiplications, additions

Operations = tuple[float, float]


@singledispatch
def counts(layer: Any, x: Tensor, y: Tensor, weight_bits: int, input_bits: int) -> Operations:
    """Of layers that have no rule."""
    raise NotImplementedError


@counts.register(nn.Conv2d | nn.Linear)
def products(layer: Any, x: Tensor, y: Tensor, weight_bits: int, input_bits: int) -> Operations:
    """Each output takes n products and n - 1 additions, one more with a bias (n = inputs under the kernel). Products
    with +-1 are changes of sign; a scale per filter goes into the batch norm."""
    n = layer.weight[0].numel()
    cost = 1 / FULL if 1 in (weight_bits, input_bits) else max(weight_bits, input_bits) / FULL
    additions = (n - 1 + (layer.bias is not None)) * y[0].numel()
    return n * cost * y[0].numel(), float(additions)


@counts.register(nn.ReLU | nn.PReLU)
def relu(layer: nn.Module, x: Tensor, y: Tensor, weight_bits: int, input_bits: int) -> Operations:
    """One comparison is one multiplication."""
    return float(y[0].numel()), 0.0


@counts.register(nn.Hardtanh)
def hardtanh(layer: nn.Module, x: Tensor, y: Tensor, weight_bits: int, input_bits: int) -> Operations:
    """Two comparisons."""
    return 2.0 * y[0].numel(), 0.0


@counts.register(nn.Sigmoid)
def sigmoid(layer: nn.Module, x: Tensor, y: Tensor, weight_bits: int, input_bits: int) -> Operations:
    """Exponential and quotient, one addition."""
    return 2.0 * y[0].numel(), 1.0 * y[0].numel()


@counts.register(nn.SiLU)
def swish(layer: nn.Module, x: Tensor, y: Tensor, weight_bits: int, input_bits: int) -> Operations:
    """A sigmoid and a product."""
    return 3.0 * y[0].numel(), 1.0 * y[0].numel()


@counts.register(nn.AdaptiveAvgPool2d | nn.AvgPool2d)
def average(layer: nn.Module, x: Tensor, y: Tensor, weight_bits: int, input_bits: int) -> Operations:
    """The sum of what lies under each output, and a product."""
    under = x[0].numel() / y[0].numel()
    return float(y[0].numel()), (under - 1) * y[0].numel()


@counts.register(nn.BatchNorm1d | nn.BatchNorm2d | nn.Identity | nn.Dropout | nn.Flatten | nn.MaxPool2d)
def nothing(layer: nn.Module, x: Tensor, y: Tensor, weight_bits: int, input_bits: int) -> Operations:
    """Free."""
    return 0.0, 0.0


# -- operations of functions, in the full precision: for each element of the result, as the layers of the same name

_PER_ELEMENT: dict[str, Operations] = {
    **dict.fromkeys(("relu", "threshold", "_prelu_kernel", "leaky_relu"), (1.0, 0.0)),
    **dict.fromkeys(("clamp_min", "clamp_max", "maximum", "minimum", "mul", "div"), (1.0, 0.0)),
    **dict.fromkeys(("hardtanh", "clamp"), (2.0, 0.0)),
    **dict.fromkeys(("add", "sub", "rsub"), (0.0, 1.0)),
    "sigmoid": (2.0, 1.0),
    "silu": (3.0, 1.0),
}
_AVERAGES = ("mean", "avg_pool2d", "_adaptive_avg_pool2d", "adaptive_avg_pool2d")
_WITH_BIAS = ("addmm", "baddbmm", "addbmm", "addmv")
_MOVES = frozenset((  # beside views, and what makes tensors out of nothing
    "clone", "copy", "_to_copy", "_unsafe_view", "_reshape_copy", "cat", "stack", "constant_pad_nd", "reflection_pad2d",
    "replication_pad2d", "repeat", "flip", "roll", "index", "index_select", "gather", "embedding", "max_pool2d",
    "max_pool2d_with_indices", "upsample_nearest2d", "native_batch_norm", "_native_batch_norm_legit",
    "_native_batch_norm_legit_no_training", "_batch_norm_no_update", "cudnn_batch_norm", "native_dropout",
    "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "fill", "zero", "lift_fresh", "detach",
))  # fmt: skip


def _of_operation(func: Any, args: tuple[Any, ...], out: Any) -> Operations | None:
    """None: not known."""
    name = func.overloadpacket.__name__.removesuffix("_")
    operands = [t for t in tree_leaves(args) if isinstance(t, Tensor)]
    results = [t for t in tree_leaves(out) if isinstance(t, Tensor)]
    views = any(r.alias_info is not None and not r.alias_info.is_write for r in schema_of(func).returns)
    if views or name in _MOVES or not any(t.is_floating_point() for t in operands) or not results:
        return 0.0, 0.0
    size = float(results[0].numel())
    if found := isolated.products(func, args, out):
        macs = float(sum(map(isolated.macs_of, found)))
        biased = name in _WITH_BIAS or ("convolution" in name and args[2] is not None)
        return macs, macs - (0.0 if biased else size)
    if name in _PER_ELEMENT:
        multiplications, additions = _PER_ELEMENT[name]
        return multiplications * size, additions * size
    if name in (*_AVERAGES, "sum"):
        return (0.0 if name == "sum" else size), operands[0].numel() - size
    return None


class _Functions(DispatchMode):
    """Counts what runs in no layer that has a rule of its own."""

    def __init__(self, model: nn.Module, settled: Collection[str]) -> None:
        super().__init__()
        self.modules = Modules(model)
        self.found: list[Operations] = []
        self.unknown: dict[str, None] = {}
        self._settled = settled
        self._layers = {n: type(m).__name__ for n, m in model.named_modules() if any(m.children()) or not n}

    def called(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        out = func(*args, **kwargs)
        where = self.modules.current
        if where not in self._settled:
            cost = _of_operation(func, args, out)
            opaque = "scaled_dot_product" in func.overloadpacket.__name__  # there is a softmax in it
            if cost is None or opaque:
                name = func.overloadpacket.__name__.strip("_")
                self.unknown[f"{name} in {where or self._layers['']}" if where in self._layers else where] = None
            self.found.append(cost or (0.0, 0.0))
        return out


def measure(model: nn.Module, example: Tensor) -> MicroNet:
    """Count one forward pass of an image, every layer in the precisions that are registered for it, and what functions
    do beside layers (adding a shortcut, averaging) in the full one.

    ``uncounted`` names the layers, and the operations of functions, that have no rule.
    """
    stored = stored_tensors(model)
    leaves = {name: layer for name, layer in model.named_modules() if not any(layer.children())}
    ruled = {n: layer for n, layer in leaves.items() if counts.dispatch(type(layer)) is not counts.dispatch(object)}
    functions = _Functions(model, ruled)

    def count(name: str, layer: nn.Module, x: tuple[Tensor], y: Tensor) -> None:
        weight = stored.get(f"{name}.weight" if name else "weight")
        bits = round(weight.bits) if weight is not None else FULL
        functions.found.append(counts(layer, x[0], y, bits, round(input_bits(layer))))

    hooks = (layer.register_forward_hook(partial(count, name)) for name, layer in ruled.items())
    with as_it_was(model), hooked(hooks), torch.no_grad(), isolated.transparent(model):
        model.eval()
        with functions.modules.watching(), functions:
            model(example[:1])
    multiplications, additions = (sum(column) for column in zip((0.0, 0.0), *functions.found, strict=True))
    return MicroNet(storage(model), multiplications, additions, tuple(functions.unknown))


def storage(model: nn.Module) -> float:
    """Numbers of 32 bits that inference needs: parameters in their kind's bits, and two numbers for each channel of a
    batch norm that is folded (a scale and a shift)."""
    stored = stored_tensors(model)
    bits = 0.0
    for prefix, module in model.named_modules():
        if isinstance(module, BatchNormBase):
            bits += 2 * FULL * module.num_features
            continue
        for name, parameter in module.named_parameters(prefix, recurse=False):
            bits += stored[name].bits_of(parameter.shape)
    return bits / FULL
