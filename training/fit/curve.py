"""The curve of a training, epoch by epoch: as JSON lines, as CSV, for TensorBoard."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ...pruners.errors import CheckpointError, OutputError, UsageError
from ...pruners.outputs import replaced
from .checkpoints import beside
from .history import Epoch, Watch


def curve_beside(weights: Path) -> Watch:
    """Writes ``NAME.curve.jsonl`` and ``NAME.curve.csv`` beside the weights ``NAME.pt``."""
    return partial(write_curve, weights=weights)


def write_curve(history: Sequence[Epoch], weights: Path) -> None:
    rows = [_row(epoch) for epoch in history]
    table = io.StringIO()
    writer = csv.DictWriter(table, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    try:
        weights.parent.mkdir(parents=True, exist_ok=True)
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        for ending, text in ((".curve.jsonl", lines), (".curve.csv", table.getvalue())):
            with replaced(beside(weights, ending)) as file:
                file.write(text.encode())
    except OSError as error:
        raise OutputError(f"the curve of {weights} can't be written: {error.strerror}") from None


def curve_rows(history: Sequence[Epoch]) -> list[dict[str, float]]:
    """The curve for a summary: what of every epoch is a number, without the seconds that it took."""
    rows = [{k: v for k, v in _row(e).items() if k != "seconds" and math.isfinite(v)} for e in history]
    return [{k: v for k, v in row.items() if k != "train_loss" or row["epoch"]} for row in rows]  # 0 is untrained


def read_curve(weights: Path) -> list[dict[str, Any]]:
    """The epochs that ``write_curve`` left beside these weights; none where there is no such file. CheckpointError
    where it is damaged."""
    file = beside(weights, ".curve.jsonl")
    try:
        rows = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
        return [{**row, "seconds": float(row["seconds"])} for row in rows]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError):
        raise CheckpointError(f"{file} is damaged: it should hold one line for each epoch of {weights}") from None


def tensorboard_beside(weights: Path) -> Watch:
    """Adds every epoch to the events in ``NAME.tensorboard/``; UsageError where TensorBoard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UsageError("--tensorboard needs a package: pip install -e '.[tensorboard]'") from None
    writer = SummaryWriter(str(beside(weights, ".tensorboard")))

    def add(history: Sequence[Epoch]) -> None:
        row = _row(history[-1])
        for name in ("lr", "train_loss", "val_loss", "val_top1"):
            writer.add_scalar(name, row[name], row["epoch"])
        writer.flush()

    return add


def _row(epoch: Epoch) -> dict[str, Any]:
    return {
        "epoch": epoch.number,
        "lr": epoch.lr,
        "train_loss": epoch.train_loss,
        "val_loss": epoch.val.loss,
        "val_top1": epoch.val.top1,
        "seconds": epoch.seconds,
    }
