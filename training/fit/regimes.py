"""The regimes by name, and which one a network is trained with when none is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from ...pruners.registry import check_name
from .regime import Regime

Purpose = Literal["train", "retrain"]

_OURS = "this project's own: a short training for real-valued networks"
_DIGITS = "this project's own: a short training for networks of a binary kind"
_PRUNED = "Bayesian channel pruning of binary networks (the toolkit's first document)"
_XNOR = "XNOR-Net for LeNet-5 and NIN (the toolkit's second document), after github.com/jiecaoyu/XNOR-Net-PyTorch"
_IRNET = "IR-Net, Qin et al. 2020, and its repository"
_IENET = "IE-Net and its repository: IR-Net's with a warm-up of five epochs"
_BINARYCONNECT = "BinaryConnect, Courbariaux et al. 2015: the repository's script for CIFAR-10"


def _sgd(
    name: str, lr: float, *, epochs: int, shape: Literal["cosine", "one_cycle"], batch_size: int = 64,
    weight_decay: float = 5e-4, nesterov: bool = True, warm_up_epochs: int = 0, source: str = _OURS,
) -> Regime:  # fmt: skip
    settings = {"lr": lr, "momentum": 0.9, "weight_decay": weight_decay}
    return Regime(
        name, "sgd", {0: settings}, shape=shape, epochs=epochs, batch_size=batch_size, warm_up_epochs=warm_up_epochs,
        options={"nesterov": True} if nesterov else {}, source=source,
    )  # fmt: skip


def _adam(
    name: str, lrs: Mapping[int, float], epochs: int, *, source: str, batch_size: int = 256, weight_decay: float = 0.0
) -> Regime:
    changes = {epoch: {"lr": lr} for epoch, lr in lrs.items()}
    changes[0]["weight_decay"] = weight_decay
    return Regime(name, "adam", changes, epochs=epochs, batch_size=batch_size, source=source)


def _tenths(lr: float, *epochs: int) -> dict[int, float]:
    """A tenth of the rate before in each of these epochs."""
    return {epoch: lr * 0.1**times for times, epoch in enumerate((0, *epochs))}


_RETRAIN_STEPS = {0: 5e-3, 1: 1e-3, 2: 5e-4, 3: 1e-4}


def _of_pruning(name: str, train: Regime, last: float | None = 1e-5) -> dict[Purpose, Regime]:
    """A regime of Adam, with the steps that networks are retrained in after each pruned layer."""
    steps = _RETRAIN_STEPS if last is None else {**_RETRAIN_STEPS, 4: last}
    return {"train": train, "retrain": _adam(name, steps, 10, batch_size=train.batch_size, source=_PRUNED)}


def _of_few_images(name: str, lr: float) -> Regime:
    return Regime(name, "adam", {0: {"lr": lr}}, shape="one_cycle", batch_size=64, epochs=40, source=_DIGITS)


def _of_irnet(
    name: str, lr: float, epochs: int, warm_up_epochs: int = 0, source: str = _IRNET
) -> dict[Purpose, Regime]:
    def sgd(lr: float, epochs: int, warm_up_epochs: int, source: str) -> Regime:
        return _sgd(
            name, lr, epochs=epochs, shape="cosine", batch_size=128, weight_decay=1e-4, nesterov=False,
            warm_up_epochs=warm_up_epochs, source=source,
        )  # fmt: skip

    return {"train": sgd(lr, epochs, warm_up_epochs, source), "retrain": sgd(lr / 5, 10, 0, _OURS)}


REGIMES: dict[str, dict[Purpose, Regime]] = {
    # real-valued networks with batch norm, and without (where a high rate makes them diverge)
    "normalised": {
        "train": _sgd("normalised", 0.1, epochs=40, shape="one_cycle"),
        "retrain": _sgd("normalised", 0.02, epochs=10, shape="cosine"),
    },
    "plain": {
        "train": _sgd("plain", 0.02, epochs=40, shape="one_cycle"),
        "retrain": _sgd("plain", 0.005, epochs=10, shape="cosine"),
    },
    "language": {
        "train": Regime("language", "adam", {0: {"lr": 3e-3}}, "one_cycle", batch_size=16, epochs=5, source=_OURS),
        "retrain": Regime("language", "adam", {0: {"lr": 5e-4}}, "one_cycle", batch_size=16, epochs=1, source=_OURS),
    },
    # binary kinds: epoch -> learning rate of Adam (the original went on at the last rate for up to 1,000 epochs)
    "resnet_cifar": _of_pruning(
        "resnet_cifar",
        _adam("resnet_cifar", {0: 5e-3, 101: 1e-3, 142: 5e-4, 184: 1e-4, 220: 1e-5}, 250, source=_PRUNED),
    ),
    "resnet_imagenet": _of_pruning(
        "resnet_imagenet",
        _adam(
            "resnet_imagenet", {0: 1e-2, 20: 5e-3, 30: 1e-3, 40: 5e-4, 60: 5e-5, 70: 5e-6, 75: 5e-7}, 80, source=_PRUNED
        ),
        last=None,
    ),
    "vgg11": _of_pruning(
        "vgg11",
        _adam("vgg11", {0: 5e-3, 40: 1e-3, 80: 5e-4, 100: 1e-4, 120: 5e-5, 140: 1e-5}, 160, source=_PRUNED),
        last=5e-5,
    ),
    "xnor_lenet5": _of_pruning(
        "xnor_lenet5",
        _adam("xnor_lenet5", _tenths(0.01, 15, 30, 45), 60, batch_size=128, weight_decay=1e-5, source=_XNOR),
    ),
    "xnor_nin": _of_pruning(
        "xnor_nin",
        _adam("xnor_nin", _tenths(0.01, 120, 200, 240, 280), 319, batch_size=128, weight_decay=1e-5, source=_XNOR),
    ),
    "binaryconnect": {
        "train": Regime(
            "binaryconnect", "adam", {0: {"lr": 3e-3}}, shape="exponential", final=2e-6 / 3e-3, batch_size=50,
            epochs=500, loss="square_hinge", glorot=True, source=_BINARYCONNECT,
        ),
        "retrain": _adam("binaryconnect", {**_RETRAIN_STEPS, 4: 1e-5}, 10, batch_size=50, source=_PRUNED),
    },
    # binary kinds with SGD and a cosine
    "irnet_vgg_small": _of_irnet("irnet_vgg_small", 0.007, 300),
    "irnet_resnet": _of_irnet("irnet_resnet", 0.1, 400),
    "ienet": _of_irnet("ienet", 0.1, 400, 5, _IENET),
    "irnet_imagenet": {
        # 62,500 steps of 2,048 images; the rate rises from 0.2 to 0.8 in four epochs
        "train": Regime(
            "irnet_imagenet", "sgd",
            {0: {"lr": 0.8, "momentum": 0.9, "weight_decay": 1e-5}, 30: {"lr": 8e-2}, 60: {"lr": 8e-3},
             90: {"lr": 8e-4}},
            warm_up_epochs=4, batch_size=2048, epochs=100, options={"nesterov": True}, source=_IRNET,
        ),
        "retrain": _sgd("irnet_imagenet", 0.02, epochs=10, shape="cosine", weight_decay=1e-5, batch_size=256),
    },
    "binary": _of_pruning("binary", _of_few_images("binary", 5e-3)),
    # for networks of few channels: ResNet-20 of kind XnorNet reaches 93 % of the digits with it, 74 % with 5e-3
    "binary_narrow": _of_pruning("binary_narrow", _of_few_images("binary_narrow", 0.02)),
    # whose layers learn scales and shifts as well: of kind IENet 89 %, with 0.02 79 %, with 0.01 71 %
    "ienet_narrow": _of_pruning("ienet_narrow", _of_few_images("ienet_narrow", 0.04)),
}  # fmt: skip

_PLAIN = ("alexnet", "lenet5")
_BY_NETWORK = {
    "lenet5": "xnor_lenet5",
    "nin": "xnor_nin",
    "vgg11": "vgg11",
    "vgg_small": "irnet_vgg_small",
    "vgg_small_irnet": "irnet_vgg_small",
    "resnet14": "resnet_cifar",
    "resnet18": "irnet_resnet",
    "resnet20": "irnet_resnet",
}
"""For the binary kinds, by the name without ``_binary``."""
_BY_KIND = {"IENet": "ienet", "BinaryConnect": "binaryconnect"}
_WHATEVER_KIND = ("resnet14", "vgg11")
"""The networks of the first document, which trained all kinds alike."""
_ON_IMAGENET = {"IRNet": "irnet_imagenet", "IENet": "irnet_imagenet"}
_REAL = ("", "Real")
SMALL = {"digits": 40, "minicifar": 60}
"""Epochs, where the regimes of binary kinds, made for CIFAR-10, are too long and take too few steps in each."""
_NARROW = {"resnet20": {"IENet": "ienet_narrow"}}
"""Networks of few channels, and kinds of them with a regime of their own, on a few small images."""
_WIDE = {"resnet18": 6, "resnet14": 10, "vgg11": 10, "vgg_small": 10, "vgg_small_irnet": 10, "alexnet": 10}
"""Epochs on the digits of networks in which each takes long, and which need fewer."""
SHORT = {**SMALL, "mnist": 8}
"""Epochs for real-valued networks."""


def find_regime(name: str, purpose: Purpose) -> Regime:
    """The regime called ``name``; raises UsageError with the closest name."""
    check_name("regime", name, sorted(REGIMES))
    return REGIMES[name][purpose]


def regime_for(arch: str, data_name: str, purpose: Purpose, kind: str = "") -> Regime:
    """The regime that a bundled network ``arch`` of a kind is trained with when none is asked for."""
    data = data_name.partition("+")[0]
    if kind in _REAL:
        regime = find_regime("plain" if arch in _PLAIN else "normalised", purpose)
        own = SHORT
    else:
        network = arch.removesuffix("_binary")
        small = _NARROW[network].get(kind, "binary_narrow") if network in _NARROW else "binary"
        regime = find_regime(small if data in SMALL else _usual(network, data, kind), purpose)
        own = {**SMALL, "digits": _WIDE.get(network, SMALL["digits"])}
    return regime.lasting(own[data]) if purpose == "train" and data in own else regime


def _usual(network: str, data: str, kind: str) -> str:
    """For a network of a binary kind on more than a few small images."""
    if data == "imagenet" and network.startswith("resnet"):
        return _ON_IMAGENET.get(kind, "resnet_imagenet")
    of_network = _BY_NETWORK.get(network, "binary")
    return of_network if network in _WHATEVER_KIND else _BY_KIND.get(kind, of_network)
