"""What ``compare`` has measured: kept as JSON, shown as Markdown and CSV."""

from __future__ import annotations

import csv
import io
import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from ..pruners.errors import PlanError
from ..pruners.outputs import replaced, unwritable
from ..training.packing import CHANNELS_OF_FILTERS, FILTER, OUTPUTS, SIDE, SpeedUp
from .cli import COMPARISON, CompareOptions

_UNSAID = frozenset({"verbose", "json", "output", "resume", "force"})


Key = tuple[str, str, str]
"""Network, data and kind: what a row is known by."""


@dataclass(frozen=True)
class Measured:
    """One form of a network. ``training_seconds``: None where it was not trained in this run and nobody noted it;
    ``inference``: images at a time -> seconds for each image."""

    accuracy: float
    size_bytes: int
    inference: Mapping[str, float]
    epochs: int | None = None
    training_seconds: float | None = None


@dataclass(frozen=True)
class Row:
    """Two networks on one data set. ``packed`` is None where ``unpacked`` says why. ``settings``: what they were
    trained and measured with."""

    network: str
    data: str
    kind: str
    real: Measured
    binary: Measured
    packed: Measured | None
    unpacked: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> Key:
        return self.network, self.data, self.kind


@dataclass(frozen=True)
class Sweep:
    """The speed-up of one layer, against channels and against filter size."""

    channels: Sequence[SpeedUp]
    filters: Sequence[SpeedUp]
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Comparison:
    rows: Sequence[Row] = ()
    sweep: Sweep | None = None

    def with_row(self, row: Row) -> Comparison:
        """In the place of the one that compares the same networks on the same data."""
        return Comparison([*(r for r in self.rows if r.key != row.key), row], self.sweep)


def load(folder: Path) -> Comparison:
    """What a folder holds so far. PlanError where it is damaged."""
    file = folder / COMPARISON
    if not file.exists():
        return Comparison()
    try:
        saved = json.loads(file.read_text("utf-8"))
        sweep = saved["sweep"]
        return Comparison([_row(r) for r in saved["rows"]], None if sweep is None else _sweep(sweep))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise PlanError(f"{file} is damaged, or not of this program: choose another folder with -o") from None


def _row(saved: Mapping[str, Any]) -> Row:
    forms = {n: saved[n] and Measured(**saved[n]) for n in ("real", "binary", "packed")}
    return Row(**{**saved, **forms})


def _sweep(saved: Mapping[str, Any]) -> Sweep:
    channels, filters = ([SpeedUp(**point) for point in saved[name]] for name in ("channels", "filters"))
    return Sweep(channels, filters, saved["settings"])


def save(comparison: Comparison, folder: Path) -> list[Path]:
    """Writes the results, and all tables made of them. OutputError where that fails."""
    files = {COMPARISON: json.dumps(as_values(comparison), indent=2) + "\n", "comparison.md": markdown(comparison)}
    files |= {f"{table.name}.csv": table.as_csv() for table in tables(comparison)}
    try:
        for name, text in files.items():
            with replaced(folder / name) as file:
                file.write(text.encode())
    except OSError as error:
        raise unwritable(folder, error) from None
    return [folder / name for name in files]


def as_values(comparison: Comparison) -> dict[str, Any]:
    return {"schema": 1, **asdict(comparison)}


def as_command(options: CompareOptions) -> str:
    """The words that repeat a run."""
    words = ["secateur", "compare"]
    for option in fields(options):
        value, word = getattr(options, option.name), f"--{option.name.replace('_', '-')}"
        if option.name in _UNSAID or value == option.default:
            continue
        for one in value if isinstance(value, tuple) else [value]:
            words += [word] if one is True else [word, str(one)]
    return shlex.join(words)


# -- tables


@dataclass(frozen=True)
class Table:
    """``caption`` says how it was measured."""

    name: str
    title: str
    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]

    def as_markdown(self) -> str:
        lines = [" | ".join(cells) for cells in (self.head, ["---"] * len(self.head), *self.rows)]
        return "\n".join([f"## {self.title}", "", self.caption, "", *(f"| {line} |" for line in lines), ""])

    def as_csv(self) -> str:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([self.head, *self.rows])
        return text.getvalue()


def tables(comparison: Comparison) -> Iterator[Table]:
    """Of accuracy, memory, training time and inference time; and of the speed-up, where it was measured."""
    rows = comparison.rows
    about = ("data", "network", "kind")
    yield Table(
        "accuracy", "Accuracy",
        "Share of the test images that are classified rightly, with the weights of the epoch that was best on "
        "validation images. \"Packed\" is the network of few bits with its weights as bits.",
        (*about, "real %", "few bits %", "packed %", "few bits - real", "test images"),
        [(*_about(r), _percent(r.real), _percent(r.binary), _percent(r.packed),
          f"{100 * (r.binary.accuracy - r.real.accuracy):+.2f}", str(r.settings["test_images"])) for r in rows],
    )  # fmt: skip
    yield Table(
        "memory", "Memory of the trained model",
        "Bytes of the file of weights that torch writes. While it is trained, a network of few bits has real weights, "
        "too; its layers are bits once it is packed.",
        (*about, "real bytes", "few bits, in training", "packed", "real / packed"),
        [(*_about(r), f"{r.real.size_bytes}", f"{r.binary.size_bytes}", f"{r.packed.size_bytes}" if r.packed else "",
          f"{r.real.size_bytes / r.packed.size_bytes:.1f}" if r.packed else "") for r in rows],
    )  # fmt: skip
    yield Table(
        "training_time", "Training time",
        "Seconds on the clock for all epochs, each with its pass over the validation images; of weights that were "
        "given: what is noted beside them.",
        (*about, "real s", "few bits s", "few bits / real, an epoch", "epochs", "real s an epoch",
         "few bits s an epoch", "training images"),
        [(*_about(r), *_training(r), str(r.settings["training_images"] or "")) for r in rows],
    )  # fmt: skip
    yield Table(
        "inference_time", "Inference time",
        "Milliseconds for each image, the median of forward passes that took turns. \"Real\" is the faster of the two "
        "layouts that torch has (NCHW, channels_last); \"few bits, in floats\" computes its signs as floats.",
        (*about, "images at a time", "real ms", "few bits, in floats ms", "packed ms", "real / packed"),
        [(*_about(r), batch, _ms(r.real, batch), _ms(r.binary, batch), _ms(r.packed, batch),
          f"{r.real.inference[batch] / r.packed.inference[batch]:.2f}" if r.packed else "")
         for r in rows for batch in r.real.inference],
    )  # fmt: skip
    if comparison.sweep is not None:
        yield from _speed_ups(comparison.sweep)


def _speed_ups(sweep: Sweep) -> Iterator[Table]:
    told = (
        "Theory is a count of operations, 64 c n / (c n + 64) for c channels and n places of the filter, and not a "
        "time. The other columns are measured: the time of a real convolution over that of the packed layer, which "
        "takes and gives float32: its signs, packing, scale and offset are in its time."
    )
    for name, label, points in figures(sweep):
        what = label.partition(" (")[0]
        yield Table(
            f"speed_up_{name}", f"Speed-up against {what}",
            f"One convolution, {label[len(what) + 2:-1]}, of one image of {SIDE}x{SIDE} pixels. {told}",
            (what, "theory", *(f"against {rival}" for rival in points[0].seconds), "packed us"),
            [(str(p.channels if name == "channels" else p.filter), f"{p.theory:.1f}",
              *(f"{v:.2f}" for v in p.measured.values()), f"{1e6 * p.packed:.0f}") for p in points],
        )  # fmt: skip


def figures(sweep: Sweep) -> Iterator[tuple[str, str, Sequence[SpeedUp]]]:
    """Name, what is on the axis, and the points."""
    yield "channels", f"input channels ({OUTPUTS} outputs, filters of {FILTER}x{FILTER})", sweep.channels
    yield "filters", f"filter size ({CHANNELS_OF_FILTERS} channels, {OUTPUTS} outputs)", sweep.filters


def markdown(comparison: Comparison) -> str:
    """All tables, the pictures, and what each was measured with."""
    parts = ["# Real networks and networks of few bits", ""]
    for row in comparison.rows:
        why = f" Not packed: {row.unpacked}." if row.unpacked else ""
        parts += [f"* **{row.network} of kind {row.kind} on {row.data}:** {_settings(row.settings)}.{why}", ""]
    if comparison.sweep is not None:
        parts += [f"* **Speed-up:** {_settings(comparison.sweep.settings)}.", ""]
    for table in tables(comparison):
        picture = [f"![{table.title}]({table.name}.svg)", ""] if table.name.startswith("speed_up") else []
        parts += [table.as_markdown(), *picture]
    return "\n".join(parts)


def _settings(settings: Mapping[str, Any]) -> str:
    """``one thread of AMD EPYC, torch 2.14: `secateur compare ...` ``"""
    machine = settings["machine"]
    device = f"{machine['device']}, " if machine["device"] != "cpu" else ""
    trained = [f"{what} {settings[what]}" for what in ("regimes", "batch sizes", "seed") if what in settings]
    told = f"{device}{threads_of(settings)} of {machine['cpu']}, torch {machine['torch']}"
    return "; ".join([told, *trained, f"`{settings['command']}`"])


def threads_of(settings: Mapping[str, Any]) -> str:
    threads = settings["machine"]["threads"]
    return "one thread" if threads == 1 else f"{threads} threads"


def _about(row: Row) -> tuple[str, str, str]:
    return row.data, row.network, row.kind


def _percent(form: Measured | None) -> str:
    return "" if form is None else f"{100 * form.accuracy:.2f}"


def _ms(form: Measured | None, batch: str) -> str:
    return "" if form is None else f"{1e3 * form.inference[batch]:.3f}"


def _training(row: Row) -> Iterator[str]:
    """What is known of how long both took."""
    forms = (row.real, row.binary)
    known = [None if f.training_seconds is None or not f.epochs else f.training_seconds / f.epochs for f in forms]
    yield from ("" if f.training_seconds is None else f"{f.training_seconds:.1f}" for f in forms)
    alike = row.settings["training_images"] is not None
    yield f"{known[1] / known[0]:.2f}" if alike and known[0] and known[1] else ""
    yield " and ".join(dict.fromkeys("?" if f.epochs is None else str(f.epochs) for f in forms))
    yield from ("" if s is None else f"{s:.2f}" for s in known)
