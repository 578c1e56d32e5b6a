"""Data sets by name."""

from __future__ import annotations

import importlib
from pathlib import Path

from ...pruners.errors import DataError, UnsuitedError
from ...pruners.named_files import is_function
from .own import load_own
from .sets import DATA_SETS, Data


def load_data(spec: str) -> Data:
    """Reads ``digits`` or ``NAME:DIR``; raises DataError in one line if it is missing, empty or laid out otherwise,
    UsageError for a name that isn't known.

    ``FILE.py:FUNCTION`` returns them (``load_own``). ``NAME+thermometer`` codes the images as signs;
    ``NAME+normalize=M,../S,..`` takes other means and deviations.
    """
    for module in ("secateur.training.data.layouts", "secateur.training.data.folders", "secateur.training.data.shards"):
        importlib.import_module(module)  # registers the readers
    if is_function(spec):
        return load_own(spec)
    coded, colon, folder = spec.partition(":")
    name, *codings = coded.split("+")
    coders = [importlib.import_module("secateur.training.data.coding").coder(name, coding) for coding in codings]
    data = _read(name, colon, folder)
    for code in coders:
        data = code(data)
    return data


def _read(name: str, colon: str, folder: str) -> Data:
    if name == "text":
        raise UnsuitedError("--data text:FILES is for --model hf:DIR and bundles of one, which hold the tokenizer")
    read = DATA_SETS.find(name)
    if not DATA_SETS.fact(name, "needs_folder"):
        if colon:
            raise DataError(f"{name} takes no folder: write --data {name}")
        return read(Path())
    if not folder:
        layout = DATA_SETS.fact(name, "layout")
        raise DataError(f"{name} needs a folder: write --data {name}:DIR, where DIR holds {layout}")
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise DataError(f"{name}: there is no folder {folder}")
    return read(path)
