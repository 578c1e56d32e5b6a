"""The options of the commands, as app.py hands them over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

_OF_WEIGHTS = (".pt", ".pth", ".tar")


@dataclass(frozen=True, kw_only=True)
class CommonOptions:
    """``verbose`` counts: -1 quiet, 0 normal, 1 with details."""

    verbose: int = 0
    json: bool = False
    seed: int = 0
    device: str = "auto"


@dataclass(frozen=True, kw_only=True)
class NetworkOptions(CommonOptions):
    """Which network, with which weights, on which data: ``arch`` or ``model``; ``network`` is its kind."""

    arch: str | None = None
    model: str | None = None
    model_arg: tuple[str, ...] = ()
    weights: Path | None = None
    input_shape: tuple[tuple[int, ...], ...] = ()
    example: str | None = None
    data: str | None = None
    network: str | None = None
    kind_arg: tuple[str, ...] = ()
    first_layer: str | None = None
    last_layer: str | None = None
    init_from: Path | None = None
    dtype: str | None = None
    attn: str | None = None
    residual: bool = False
    per_layer: bool = False
    ema: bool = False
    allow_class: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class StepOptions:
    """How the steps of a training are taken. What is None is as the regime has it."""

    regime: str | None = None
    lr: float | None = None
    optimizer: Literal["sgd", "adam"] | None = None
    batch_size: int | None = None
    warm_up: int | None = None
    loss: Literal["cross_entropy", "square_hinge"] | None = None
    label_smoothing: float | None = None
    beta: float = 0.0
    amp: Literal["bf16", "fp16"] | None = None
    half: bool = False
    accumulate: int = 1
    workers: int | None = None


@dataclass(frozen=True, kw_only=True)
class PruneOptions(NetworkOptions, StepOptions):
    """``ratios``: words that name layers, and the ratio of these. ``metric`` None is the pruner's default, ``alpha``
    None the network kind's; ``search`` None is bayesian without a budget, else sensitivity where there are images, or
    uniform; ``transfer`` None is lstsq where there are images, but slice for bayesian, and heal where ``heal``
    (seconds) says how long it may take; ``calibration`` None is the transfer strategy's own number of images."""

    macs: float | None = None
    params: float | None = None
    ratio: float | None = None
    ratios: tuple[tuple[str, float], ...] = ()
    latency: float | None = None
    layers: float | Literal["auto"] | None = None
    experts: float | None = None
    latency_batch: int = 1
    latency_table: Path | None = None
    alpha: float | None = None
    mode: str = "prune"
    metric: str | None = None
    search: str | None = None
    direction: str = "bottom-up"
    per: str = "layer"
    transfer: str | None = None
    calibration: int | None = None
    heal: float | None = None
    distill: float | None = None
    temperature: float | None = None
    retrain_epochs: int | None = None
    final_epochs: int | None = None
    round_to: int = 1
    min_channels: int = 2
    skip: tuple[str, ...] = ()
    tie_declared: bool = False
    stop_early: bool = False
    jobs: int = 1
    backend: str = "loky"
    address: str | None = None
    cache_gb: float = 2.0
    output: Path | None = None
    resume: bool = False
    force: bool = False
    profile: bool = False
    dry_run: bool = False
    score: str | None = None
    score_seconds: float | None = None


WITHOUT_EFFECT = frozenset({
    "verbose", "json", "output", "resume", "force", "dry_run", "workers", "cache_gb", "latency_table", "profile",
    "allow_class",
    "jobs", "backend", "address",
})  # fmt: skip
"""Options of ``prune`` that its outcome doesn't depend on (of ``latency_table`` the times it holds count). With another
value of any other one, a run is another run."""


@dataclass(frozen=True, kw_only=True)
class TrainOptions(NetworkOptions, StepOptions):
    """``epochs`` None is as the regime has it. ``resume_from``: a checkpoint to resume instead of the usual one.
    ``sparsity`` None is as hard as the number of steps needs."""

    epochs: int | None = None
    sparsify: Literal["bn", "group"] | None = None
    sparsity: float | None = None
    data_on_device: bool = False
    save_dir: Path | None = None
    save_every: int = 1
    print_freq: int | None = None
    tensorboard: bool = False
    output: Path | None = None
    resume: bool = False
    resume_from: Path | None = None
    force: bool = False


@dataclass(frozen=True, kw_only=True)
class BundleOptions(CommonOptions, StepOptions):
    """``retrain``, which works on a published bundle."""

    bundle: Path
    data: str | None = None
    epochs: int | None = None
    data_on_device: bool = False
    output: Path | None = None
    resume: bool = False
    force: bool = False


@dataclass(frozen=True, kw_only=True)
class SubjectOptions(NetworkOptions):
    """A bundle, or a network."""

    bundle: Path | None = None


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(SubjectOptions):
    """Options of ``evaluate``: batches, and what is shown of the answers. A file of weights that is given as the model
    of a bundled network is its ``weights``."""

    batch_size: int | None = None
    workers: int | None = None
    confusion: bool = False
    confusion_csv: Path | None = None
    draw: Path | None = None
    score: str | None = None
    score_seconds: float | None = None

    def __post_init__(self) -> None:
        if self.arch and self.model and not self.weights and Path(self.model).suffix in _OF_WEIGHTS:
            object.__setattr__(self, "weights", Path(self.model))
            object.__setattr__(self, "model", None)


def evaluation_of(training: Mapping[str, Any]) -> dict[str, Any]:
    """What the options of ``train`` say to ``evaluate``."""
    known = {option.name for option in fields(EvaluateOptions)} | {"quiet"}
    return {name: value for name, value in training.items() if name in known}


@dataclass(frozen=True, kw_only=True)
class QuantizeOptions(SubjectOptions):
    """``scope`` empty: all; ``max_loss`` in points of accuracy."""

    bits: str = "8,6,4"
    scope: tuple[Literal["net", "layer", "kernel"], ...] = ()
    max_loss: float | None = None
    save: Literal["half", "fixed", "int8"] | None = None
    batch_size: int | None = None
    workers: int | None = None
    output: Path | None = None
    force: bool = False


@dataclass(frozen=True, kw_only=True)
class ProfileOptions(SubjectOptions):
    """Options of ``profile``: how often the latency is measured."""

    repeats: int = 10


@dataclass(frozen=True, kw_only=True)
class PackOptions(SubjectOptions):
    """``text``: a folder for the parameters as text."""

    text: Path | None = None
    output: Path | None = None
    force: bool = False


@dataclass(frozen=True, kw_only=True)
class ExportOptions(SubjectOptions):
    """``to``: the kind of file; ``output``: its name; ``calibration``: how many synthetic inputs are made."""

    to: Literal["onnx", "torch_export", "safetensors", "executorch"]
    calibration: int = 64
    int8: bool = False
    half: bool = False
    output: Path | None = None
    force: bool = False


@dataclass(frozen=True, kw_only=True)
class CompareOptions(NetworkOptions, StepOptions):
    """``real``, ``binary``: bundles or weights to take instead of training. ``limit``: images in each part of the
    data. ``repeats``: how often times are measured."""

    epochs: int | None = None
    data_on_device: bool = False
    limit: int | None = None
    real: Path | None = None
    binary: Path | None = None
    repeats: int = 20
    output: Path | None = None
    resume: bool = False
    force: bool = False


@dataclass(frozen=True, kw_only=True)
class CurvesOptions(NetworkOptions):
    """``metric`` empty: those of few bits, or l1 for a real network; ``ranking`` empty: all."""

    metric: tuple[str, ...] = ()
    ranking: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    tie_declared: bool = False
    cache_gb: float = 2.0
    output: Path | None = None
    resume: bool = False
    force: bool = False


@dataclass(frozen=True, kw_only=True)
class InspectOptions(NetworkOptions):
    """Options of ``inspect``: ``why`` asks about one layer's channels."""

    why: str | None = None
    skip: tuple[str, ...] = ()
    tie_declared: bool = False


@dataclass(frozen=True, kw_only=True)
class ApplyOptions(NetworkOptions):
    """Options of ``apply``: a plan, and where the bundle goes."""

    plan: Path
    output: Path | None = None
    force: bool = False


@dataclass(frozen=True, kw_only=True)
class ExplainOptions(CommonOptions):
    """Options of ``explain``: the code that is asked for, or none for the list."""

    error_code: str | None = None


@dataclass(frozen=True, kw_only=True)
class ReportOptions(CommonOptions):
    """Options of ``report``: one bundle, or two to compare; ``output`` is a file."""

    bundles: tuple[Path, ...]
    output: Path | None = None
    force: bool = False


@dataclass(frozen=True, kw_only=True)
class CheckOptions(CommonOptions):
    """Options of ``check``: the file that is looked at."""

    file: Path
