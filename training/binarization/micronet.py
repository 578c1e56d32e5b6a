"""The score of the MicroNet challenge (NeurIPS 2019): storage and operations, each relative to a baseline.

    score = storage / baseline storage + operations / baseline operations; lower is better

Storage counts numbers of 32 bits: one of b bits is b / 32. Operations count multiplications and additions one by one;
one whose wider operand has b bits is b / 32. A product with +-1 only changes a sign, which is 1/32 whatever the other
operand is (a float has its sign in one bit). Additions are as wide as the accumulator, 32 bits here. Batch norms are
taken to be folded into what is before them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ...pruners.costs import input_bits, stored_tensors
from ...pruners.registry import check_name
from ...pruners.run import BatchNormBase, as_it_was

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

    def in_half_precision(self) -> MicroNet:
        """The challenge's free 16 bits, for a network in which nothing is quantized: storage and multiplications
        halve, additions stay."""
        return replace(self, storage=self.storage / 2, multiplications=self.multiplications / 2)

    def score(self, data: str = "cifar100") -> float:
        baseline = find_baseline(data)
        return self.storage / baseline.params + self.operations / baseline.operations


def find_baseline(data: str) -> Baseline:
    check_name("data set of the MicroNet challenge", data, sorted(BASELINES))
    return BASELINES[data]


# -- operations of a layer: (layer, input, output, bits of the weights, bits of the input) -> multiplications, additions

Operations = tuple[float, float]
Counter = Callable[[Any, Tensor, Tensor, int, int], Operations]
_COUNTERS: dict[type[nn.Module], Counter] = {}


def counts(*layers: type[nn.Module]) -> Callable[[Counter], Counter]:
    """Register how the operations of these classes and their subclasses are counted."""

    def register(counter: Counter) -> Counter:
        _COUNTERS.update(dict.fromkeys(layers, counter))
        return counter

    return register


@counts(nn.Conv2d, nn.Linear)
def products(layer: Any, x: Tensor, y: Tensor, weight_bits: int, input_bits: int) -> Operations:
    """Each output takes n products and n - 1 additions, one more with a bias (n = inputs under the kernel). Products
    with +-1 are changes of sign; a scale per filter goes into the batch norm."""
    n = layer.weight[0].numel()
    cost = 1 / FULL if 1 in (weight_bits, input_bits) else max(weight_bits, input_bits) / FULL
    additions = (n - 1 + (layer.bias is not None)) * y[0].numel()
    return n * cost * y[0].numel(), float(additions)


@counts(nn.ReLU, nn.PReLU)
def relu(layer: nn.Module, x: Tensor, y: Tensor, weight_bits: int, input_bits: int) -> Operations:
    """One comparison is one multiplication."""
    return float(y[0].numel()), 0.0


@counts(nn.Hardtanh)
def hardtanh(layer: nn.Module, x: Tensor, y: Tensor, weight_bits: int, input_bits: int) -> Operations:
    """Two comparisons."""
    return 2.0 * y[0].numel(), 0.0


@counts(nn.Sigmoid)
def sigmoid(layer: nn.Module, x: Tensor, y: Tensor, weight_bits: int, input_bits: int) -> Operations:
    """Exponential and quotient, one addition."""
    return 2.0 * y[0].numel(), 1.0 * y[0].numel()


@counts(nn.SiLU)
def swish(layer: nn.Module, x: Tensor, y: Tensor, weight_bits: int, input_bits: int) -> Operations:
    """A sigmoid and a product."""
    return 3.0 * y[0].numel(), 1.0 * y[0].numel()


@counts(nn.AdaptiveAvgPool2d, nn.AvgPool2d)
def average(layer: nn.Module, x: Tensor, y: Tensor, weight_bits: int, input_bits: int) -> Operations:
    """The sum of what lies under each output, and a product."""
    under = x[0].numel() / y[0].numel()
    return float(y[0].numel()), (under - 1) * y[0].numel()


_FREE = (nn.BatchNorm1d, nn.BatchNorm2d, nn.Identity, nn.Dropout, nn.Flatten, nn.MaxPool2d)


def measure(model: nn.Module, example: Tensor) -> MicroNet:
    """Count one forward pass of an image, every layer in the precisions that are registered for it.

    Only modules are seen: ``uncounted`` names those without a rule; what forward does with functions (adding a
    shortcut, averaging) is not counted and is small beside convolutions.
    """
    stored = stored_tensors(model)
    found: list[Operations] = []
    uncounted: list[str] = []

    def count(name: str, layer: nn.Module, x: Tensor, y: Tensor) -> None:
        counter = next((_COUNTERS[c] for c in type(layer).__mro__ if c in _COUNTERS), None)
        if counter is None:
            uncounted.extend([] if isinstance(layer, _FREE) else [name])
            return
        weight = stored.get(f"{name}.weight" if name else "weight")
        found.append(counter(layer, x, y, round(weight.bits) if weight is not None else FULL, round(input_bits(layer))))

    with as_it_was(model), _hooked(model, count), torch.no_grad():
        model.eval()(example[:1])
    multiplications, additions = (sum(column) for column in zip(*found, strict=True)) if found else (0.0, 0.0)
    return MicroNet(storage(model), multiplications, additions, tuple(uncounted))


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


@contextmanager
def _hooked(model: nn.Module, count: Callable[[str, nn.Module, Tensor, Tensor], None]) -> Iterator[None]:
    leaves = [(n, m) for n, m in model.named_modules() if not any(True for _ in m.children())]
    handles = [m.register_forward_hook(lambda m, x, y, n=n: count(n, m, x[0], y)) for n, m in leaves]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
