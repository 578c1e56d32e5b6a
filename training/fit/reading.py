"""What a file of weights holds: read without running anything of it."""

from __future__ import annotations

import argparse
import json
import pickle
import re
import tarfile
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path, PosixPath, PureWindowsPath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...pruners.errors import CheckpointError, some
from ...pruners.named_files import check_checkpoint

SAFETENSORS, INDEX = ".safetensors", ".index.json"
_NUMBERS = [
    (part.__reduce__()[0], f"numpy.{core}.multiarray.{name}")  # both names, of numpy 1 and 2
    for part, name in ((np.float64(), "scalar"), (np.zeros(1), "_reconstruct")) for core in ("core", "_core")
]  # fmt: skip
_DTYPES = {type(np.dtype(code)) for code in np.typecodes["All"] if code != "O"}
_NOTED: list[Any] = [
    argparse.Namespace, PosixPath, (PureWindowsPath, "pathlib.WindowsPath"), np.ndarray, np.dtype, *_DTYPES, *_NUMBERS,
]  # fmt: skip
"""What scripts note beside weights: arguments, paths, numbers."""
_PLAIN = (
    *(f"builtins.{name}" for name in ("bool", "dict", "float", "int", "list", "str", "tuple")),
    "collections.defaultdict", "datetime.date", "datetime.datetime", "datetime.timedelta", "types.SimpleNamespace",
    "typing.Any",
)  # fmt: skip
"""Names of Python's own data, which anything else that is noted is made of."""
_SYSTEM = {
    "os", "posix", "nt", "sys", "subprocess", "shutil", "runpy", "socket", "pty", "ctypes", "importlib", "pickle",
    "_pickle",
}  # fmt: skip
_CALLS = {f"builtins.{name}" for name in ("eval", "exec", "compile", "open", "getattr", "__import__")}


def read(path: Path, allowed: Sequence[str] = ()) -> object:
    """The content of what ``torch.save`` or safetensors wrote, and of the index of weights in several files.

    ``allowed``: names of classes, ``module.Class``, whose objects may be in it. They become plain dictionaries: no
    code of theirs is imported or run. Raises CheckpointError in one line.
    """
    check_checkpoint(path)
    if path.name.endswith(INDEX):
        return _in_several(path, allowed)
    if path.suffix == SAFETENSORS:
        return _safetensors(path)
    try:
        with torch.serialization.safe_globals(_known(allowed)), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what torch says of protocols and scripts is said below
            return torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # whatever a file of any other content makes of a reader
        raise CheckpointError(_reason(path, error, allowed)) from None


def _known(allowed: Sequence[str]) -> list[Any]:
    return [*_NOTED, *((_StandIn, name) for name in (*_PLAIN, *allowed))]


class _StandIn:
    """What stands for another class: its objects are dictionaries of what the file says of them, which is all that
    torch fills in for what isn't its own."""

    def __new__(cls, *_: object) -> OrderedDict[str, Any]:  # type: ignore[misc]
        return OrderedDict()


# -- safetensors


def _safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        found: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is no safetensors file: {str(error).splitlines()[0]}") from None
    return found


def _in_several(index: Path, allowed: Sequence[str]) -> dict[str, Tensor]:
    """The weights that an index names with their files beside it."""
    try:
        places = json.loads(index.read_text("utf-8"))["weight_map"]
        files = sorted(set(places.values()))
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        raise CheckpointError(
            f"{index} is no index of weights: it must hold a weight_map, from names to files"
        ) from None
    if strange := [f for f in files if not isinstance(f, str) or Path(f).name != f]:
        raise CheckpointError(f"{index} names {strange[0]!r}, which is no file beside it")
    if gone := [f for f in files if not index.with_name(f).is_file()]:
        raise CheckpointError(f"{index} names {len(files)} files, and there is no {gone[0]} beside it: get all of them")
    found: dict[str, Tensor] = {}
    for name in files:
        part = read(index.with_name(name), allowed)
        found |= part if isinstance(part, dict) else {}
    if lacking := [key for key in places if key not in found]:
        raise CheckpointError(f"{index} says that {lacking[0]} is in {places[lacking[0]]}, where it isn't")
    return {key: found[key] for key in places}


# -- why not


def _reason(path: Path, error: Exception, allowed: Sequence[str]) -> str:
    said = str(error).splitlines()[0] if str(error) else "it is empty"
    saved = _looks_saved(path)
    alone = "torch.save(model.state_dict(), 'weights.pth')"
    kept = zipfile.ZipFile(path).namelist() if zipfile.is_zipfile(path) else []
    if any(name.endswith("/constants.pkl") for name in kept):
        return f"{path} is TorchScript: save its weights alone, {alone} with model = torch.jit.load({path.name!r})"
    if (kept and not any(name.endswith("/data.pkl") for name in kept)) or tarfile.is_tarfile(path):
        return f"{path} is an archive that torch.save didn't write: unpack it, and name the weights in it"
    classes = _classes(path, error) if saved else set()
    if bad := [c for c in classes if c.partition(".")[0] in _SYSTEM or c in _CALLS]:
        return f"refused: {path} would run {bad[0]} when it is opened, which no weights need: don't trust it"
    if strange := sorted(classes - set(allowed)):
        return _of_classes(path, strange, alone)
    if saved and "Unsupported operand" in str(error):
        return f"{path} was saved with another pickle_protocol than torch.save's own: save it anew without that"
    if saved and allowed:
        return f"{path} can't be read without its objects of {' and '.join(allowed)}: save the weights alone, {alone}"
    if saved and isinstance(error, pickle.UnpicklingError):
        return f"refused: {path} holds pickled objects, not plain tensors; save the weights alone, {alone}"
    if isinstance(error, OSError):
        reason = said
    elif saved:
        reason = "it is cut off or damaged"
    else:
        reason = "it is empty" if not path.stat().st_size else "it is no file that torch.save writes"
    return f"{path} can't be read as a checkpoint: {reason}"


def _of_classes(path: Path, classes: list[str], alone: str) -> str:
    """What to do about objects in the file."""
    if any(c.startswith("torch.nn.") for c in classes) and _holds_parameters(path):
        return (
            f"refused: {path} holds a whole pickled network ({some(classes)}), which only running its code could open; "
            f"where that is, load it and save the weights alone, {alone}"
        )
    words = " ".join(f"--allow-class {c}" for c in classes)
    return (
        f"refused: {path} holds objects of {some(classes)} beside tensors: add {words} to have them left out (nothing "
        f"of theirs is run), or save the weights alone, {alone}"
    )


def _classes(path: Path, error: Exception) -> set[str]:
    """The other classes and functions that the file needs; of an old file, the first of them."""
    try:
        with torch.serialization.safe_globals(_known(())):
            return set(torch.serialization.get_unsafe_globals_in_checkpoint(str(path)))
    except Exception:  # whatever else is in the file
        first = re.search(r"GLOBAL (\S+)", str(error))
        return {first[1] if "." in first[1] else f"builtins.{first[1]}"} if first else set()


def _holds_parameters(path: Path) -> bool:
    """Whether there are parameters, as networks have them; the tensors of a state_dict are none."""
    if not zipfile.is_zipfile(path):
        return True
    with zipfile.ZipFile(path) as file:
        return any(b"_rebuild_parameter" in file.read(n) for n in file.namelist() if n.endswith("/data.pkl"))


def _looks_saved(path: Path) -> bool:
    """Whether the file begins like a zip archive or a pickle."""
    try:
        with path.open("rb") as file:
            start = file.read(4)
        return start[:2] == b"PK" or start[:1] == b"\x80"
    except OSError:
        return False
