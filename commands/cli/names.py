"""The names that options take, without the code behind them; a test holds them against the registries."""

from __future__ import annotations

METRICS = (
    "angle", "angle_next_layer", "bn_scale", "distance", "distance_next_layer", "fpgm", "l1", "l2", "random",
    "reconstruction", "taylor",
)  # fmt: skip
WITH_KERNELS = ("angles_kernel", "distances_kernel")
RANKINGS = ("smallest", "largest", "random")
SEARCHES = ("bayesian", "global", "sensitivity", "uniform")
TRANSFERS = ("bn", "heal", "lstsq", "slice")
EXPORTS = ("executorch", "onnx", "safetensors", "torch_export")
DATA_SETS = (
    "cifar10", "cifar100", "digits", "folder", "imagenet", "minicifar", "mnist", "synthetic",
    "tiny_imagenet", "webdataset",
)  # fmt: skip
ENDS = {"flreal": "real", "noflreal": "binary"}  # as names of files say what first and last layer are
KINDS = (
    "BWN", "BinaryConnect", "BinaryNet", "DoReFa", "IENet", "IRNet", "Real", "SemiReal", "XnorNet",
)  # fmt: skip
