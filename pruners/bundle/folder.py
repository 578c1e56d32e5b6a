"""A bundle: one folder with the generated file, its weights, the plan and the report. Published whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import BundleError, NotGivenError, SecateurError
from ..hub import open_folder
from ..named_files import bundle_summary
from ..outputs import to_disk
from ..plan import PruningPlan, load
from ..saving import save
from ..scratch import import_file
from ..scratch import import_text as module_of
from ..shown import table
from .details import read_details
from .report import comparison, render_report


@dataclass(frozen=True, repr=False)
class Bundle:
    """A verified bundle, in a folder unless ``path`` is None. ``summary`` is what ``summary.json`` holds."""

    path: Path | None
    plan: PruningPlan
    summary: Mapping[str, Any]
    text: str | None = None
    state: Mapping[str, Tensor] | None = None

    def __repr__(self) -> str:
        rows = (f"{r.name} {r.before or '-'} -> {r.after}" for r in comparison(self.summary))
        return f"Bundle({self.summary.get('factory', '')} in {self._place}: {', '.join(rows)})"

    def _repr_html_(self) -> str:
        rows = [(r.name, r.before, r.after, r.change) for r in comparison(self.summary)]
        title = f"{self.summary.get('factory', '')} in {self._place}"
        return table(title, ("", "before", "after", "change"), rows)

    @property
    def file(self) -> Path:
        """The generated file: ``model.py`` unless the network's pruner calls it something else."""
        return self.folder / self.summary.get("file", "model.py")

    @property
    def configured(self) -> bool:
        """Whether it is a configuration and weights that a library opens."""
        return "files" in self.summary

    @property
    def folder(self) -> Path:
        """Where it is; UsageError where it is in memory alone."""
        if self.path is None:
            raise NotGivenError("this bundle is in memory alone: prune with output=FOLDER to have its files")
        return self.path

    @property
    def _place(self) -> str:
        return "memory" if self.path is None else str(self.path)

    @property
    def source(self) -> str:
        """The text of the generated file."""
        return self.file.read_text("utf-8") if self.text is None else self.text

    @cached_property
    def model(self) -> nn.Module:
        """The generated network with its weights, in eval mode; made at first use, and the same one from then on.
        Raises BundleError where its files were damaged, or edited so that they don't fit any more."""
        if self.configured:
            return open_folder(self.folder, code=True)[0]
        try:
            factory = self.summary["factory"]
            network = import_network(self.file, factory) if self.text is None else import_text(self.text, factory)
            network.load_state_dict(self._weights() if self.state is None else self.state)
        except (SecateurError, MemoryError):
            raise
        except Exception as error:  # the file may hold anything
            what = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            raise BundleError(f"{self._place} can't be loaded: {what}") from error
        return network.eval()

    def _weights(self) -> dict[str, Tensor]:
        weights: dict[str, Tensor] = torch.load(self.folder / "weights.pth", weights_only=True, map_location="cpu")
        return weights

    def in_memory(self) -> Bundle:
        """The same without its folder."""
        return Bundle(None, self.plan, self.summary, self.source, self._weights())

    @classmethod
    def open(cls, path: str | Path) -> Bundle:
        """Read a published bundle. Raises UsageError where the folder is none."""
        folder = Path(path)
        summary = bundle_summary(folder)
        return cls(folder, load(folder / "plan.json"), summary)


def report_of(folder: Path) -> str:
    """The text of ``report.html`` for what else lies in a bundle's folder. Raises UsageError where it is none."""
    bundle = Bundle.open(folder)
    ledger = folder / "search.jsonl"
    text = "" if bundle.configured or not bundle.file.is_file() else bundle.source
    return render_report(
        bundle.summary, bundle.plan, ledger.read_bytes() if ledger.is_file() else b"", read_details(folder), text
    )


def import_network(path: Path, factory: str) -> nn.Module:
    """The network that a generated file's factory returns."""
    network: nn.Module = getattr(import_file(path), factory)()
    return network


def import_text(text: str, factory: str) -> nn.Module:
    """The network that the text of a generated file describes."""
    network: nn.Module = getattr(module_of(text), factory)()
    return network


def write_state(path: Path, state: Mapping[str, Tensor]) -> None:
    """Write a state_dict with ``torch.save``; the same tensors give the same bytes."""
    with open(path, "wb") as file:
        _save(state, file)
        to_disk(file)


def _save(state: Mapping[str, Tensor], file: Any) -> None:
    save({k: _own(v.detach().cpu().contiguous()) for k, v in state.items()}, file)


class _Count:
    """A file that keeps the number of its bytes alone."""

    def __init__(self) -> None:
        self.bytes = 0

    def write(self, data: Any) -> int:
        self.bytes += len(data)
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""


def size_of_state(state: Mapping[str, Tensor]) -> int:
    """How large the file is that ``write_state`` writes."""
    file = _Count()
    _save(state, file)
    return file.bytes


def _own(tensor: Tensor) -> Tensor:
    """The tensor without what else its storage holds, which a file would hold too."""
    return tensor if tensor.untyped_storage().nbytes() == tensor.nbytes else tensor.clone()
