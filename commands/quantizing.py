"""What ``quantize`` measures: a network in all its forms, on test images, and on validation images where it decides."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..pruners.bundle import size_of_state
from ..pruners.errors import NotFiniteError
from ..pruners.run import describe
from ..training.binarization import (
    FEWEST,
    FLOAT32,
    MOST,
    SCOPES,
    Form,
    Half,
    Row,
    Scope,
    enough_bits,
    forms,
    measured,
    weights_of,
    within,
)
from ..training.data import Data, Split
from ..training.fit import EVALUATION_BATCH, Score, evaluate, memory_explained, resolve_device
from .cli import QuantizeOptions
from .show import Voice

CALIBRATION_IMAGES = 256
_NOT_FINITE = "its outputs are not finite: a number on the way is too large for this precision"


@dataclass(frozen=True)
class Result:
    """A row of the table, and what the command knows besides. Changes are in points: 1 is 1 % of the images.

    ``file_bytes``: the file with its weights. ``val_change``: on the images that decide. ``meets``: it loses no more
    there than was asked for.
    """

    row: Row
    change: float | None = None
    file_bytes: int | None = None
    val_accuracy: float | None = None
    val_change: float | None = None
    meets: bool | None = None

    @property
    def values(self) -> dict[str, Any]:
        form, row = self.row.form, self.row
        fixed = {"bits": form.bits, "scope": form.scope} if form.kind == "fixed" else {}
        decided = {} if self.meets is None else {"validation_accuracy": self.val_accuracy, "meets": self.meets}
        return {
            "name": form.name, "kind": form.kind, **fixed, "accuracy": row.accuracy, "change_points": self.change,
            "size_bytes": row.size_bytes, "file_bytes": self.file_bytes, "sqnr_db": finite(row.sqnr), **decided,
            "reason": row.reason,
        }  # fmt: skip


def finite(number: float | None) -> float | None:
    """JSON has no infinity, which an SQNR is where nothing changed."""
    return number if number is not None and math.isfinite(number) else None


class Bench:
    """``model`` is on the CPU, where its forms are made; they are measured on the device asked for."""

    def __init__(self, model: nn.Module, data: Data, options: QuantizeOptions, voice: Voice) -> None:
        self.model, self.data, self.max_loss, self.seed, self.voice = model, data, options.max_loss, options.seed, voice
        self.device = resolve_device(options.device)
        self.batch = options.batch_size or EVALUATION_BATCH
        self.scopes: tuple[Scope, ...] = options.scope or SCOPES

    def fewest_bits(self) -> dict[Scope, int | None]:
        """For each scope the fewest bits that lose no more than asked for on the validation images; None: there are
        none."""
        wanted = self.max_loss is not None and weights_of(self.model).tensors
        return {scope: self._fewest(scope) for scope in self.scopes} if wanted else {}

    def _fewest(self, scope: Scope) -> int | None:
        def watched(model: nn.Module) -> float:
            accuracy = self._score(model, self.data.val, self.device).top1
            self.voice.progress.advance(1, f"{accuracy:.2%}")
            return accuracy

        assert self.max_loss is not None
        self.voice.progress.start(MOST - FEWEST + 2, f"fewest bits per {scope}")
        try:
            found = enough_bits(self.model, watched, self.max_loss / 100, scope)
        finally:
            self.voice.progress.finish()
        return found.bits if found is not None else None

    def results(self, bits: Sequence[int], fewest: Mapping[Scope, int | None]) -> list[Result]:
        """The network as it is, then all its forms."""
        every = forms(sorted({*bits, *filter(None, fewest.values())}, reverse=True), self.scopes)
        wanted = [f for f in every if f.kind != "fixed" or f.bits in bits or fewest.get(f.scope) == f.bits]
        batches = list(self.data.train.sample(CALIBRATION_IMAGES, self.seed).batches(64))
        results: list[Result] = []
        self.voice.progress.start(len(wanted), "quantizing")
        try:
            for form in wanted:
                results.append(self._result(form, batches, results[0] if results else None))
                accuracy = results[-1].row.accuracy
                self.voice.progress.advance(1, f"{form.name}: " + ("no" if accuracy is None else f"{accuracy:.2%}"))
        finally:
            self.voice.progress.finish()
        return results

    def _result(self, form: Form, batches: Sequence[Any], first: Result | None) -> Result:
        device = torch.device("cpu") if form.kind == "int8" else self.device  # torch has its integers there alone
        decided: list[float] = []

        def accuracy(model: nn.Module) -> float:
            if self.max_loss is not None:
                decided.append(self._score(model, self.data.val, device).top1)
            score = self._score(model, self.data.test, device)
            if not math.isfinite(score.loss):
                raise NotFiniteError(
                    _NOT_FINITE if first else "the outputs of this network are not finite: train it again"
                )
            return score.top1

        row = measured(form, self.model, accuracy, batches, describe)
        if row.accuracy is None:
            return Result(row, meets=None if self.max_loss is None else False)
        file = self._file_bytes(form)
        before = first.row.accuracy if first else row.accuracy
        assert before is not None
        change = 100 * (row.accuracy - before)
        if self.max_loss is None:
            return Result(row, change, file)
        start = first.val_accuracy if first else decided[0]
        assert start is not None
        meets = within(start, decided[0], self.max_loss / 100)
        return Result(row, change, file, decided[0], 100 * (decided[0] - start), meets)

    def _score(self, model: nn.Module, split: Split, device: torch.device) -> Score:
        try:
            with memory_explained(lambda: f"with {self.batch} images at a time: take a smaller --batch-size"):
                return evaluate(model.to(device), split, batch_size=self.batch)
        finally:
            model.to("cpu")

    def state(self, form: Form) -> Mapping[str, Tensor]:
        """What a file of this form holds: tensors under the names that the network's own file has for them."""
        made = form.of(self.model).network
        return (made.network if isinstance(made, Half) else made).state_dict()

    def _file_bytes(self, form: Form) -> int | None:
        if form.kind == "int8":
            return None  # there is no such file
        # fixed-point numbers are kept in the tensors of floats that the network's own file has
        return size_of_state(self.state(FLOAT32 if form.kind == "fixed" else form))
