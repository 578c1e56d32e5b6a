"""The files that ``export`` writes, as far as they are known before anything heavy is imported."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ...pruners.errors import BundleExistsError, ConflictError, OptionError, OutputError, PackageError
from .options import ExportOptions


@dataclass(frozen=True)
class Form:
    """``is_such``: whether a file is one of this form, by how it begins."""

    suffix: str
    name: str
    packages: tuple[str, ...]
    is_such: Callable[[Path], bool]


def _is_onnx(path: Path) -> bool:
    """A message whose first field is a version of its form, the second who wrote it."""
    head = _head(path, 3)
    return len(head) == 3 and head[0] == 0x08 and head[2] == 0x12


def _is_torch_export(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as file:
        return any(name.endswith("/archive_format") and file.read(name) == b"pt2" for name in file.namelist())


def _is_executorch(path: Path) -> bool:
    return _head(path, 8)[4:6] == b"ET"


def _is_safetensors(path: Path) -> bool:
    """The length of a JSON object, then the object."""
    length = int.from_bytes(_head(path, 8), "little")
    if not 2 <= length <= path.stat().st_size - 8:
        return False
    with path.open("rb") as file:
        file.seek(8)
        try:
            return isinstance(json.loads(file.read(length)), dict)
        except ValueError:
            return False


def _head(path: Path, length: int) -> bytes:
    with path.open("rb") as file:
        return file.read(length)


FORMS = {
    "executorch": Form(".pte", "an ExecuTorch program", ("executorch", "torchao"), _is_executorch),
    "onnx": Form(".onnx", "an ONNX file", ("onnx", "onnxruntime", "onnxscript"), _is_onnx),
    "safetensors": Form(".safetensors", "a file of safetensors", ("safetensors",), _is_safetensors),
    "torch_export": Form(".pt2", "a program of torch.export", (), _is_torch_export),
}


def check_export(options: ExportOptions, like: Path | None) -> None:
    """Refuse what can't be exported, for want of a package or because of options; and an output that can't be written.
    ``like``: the bundle, or where one of the network would be; None where only its kind decides what it is called."""
    form = FORMS[options.to]
    if options.int8 and options.half:
        raise ConflictError("--int8 and --half are two precisions: give one of them")
    if options.int8 and options.to == "safetensors":
        raise ConflictError("--int8: a file of safetensors holds weights alone; take another --to")
    needed = (*form.packages, *(("torchao",) if options.int8 else ()))
    if missing := [package for package in dict.fromkeys(needed) if find_spec(package) is None]:
        what = f"--to {options.to}" if set(missing) & set(form.packages) else "--int8"
        extra = "pip install executorch" if "executorch" in missing else 'pip install "secateur[export]"'
        raise PackageError(f"{what} needs {', '.join(missing)}: {extra}")
    if options.output is not None and options.output.suffix != form.suffix:
        raise OptionError(f"-o {options.output}: the name of {form.name} ends in {form.suffix}")
    if path := options.output or (like and exported_file(like, options)):
        check_exported(path, options)


def exported_file(like: Path, options: ExportOptions) -> Path:
    """Where it is written unless said otherwise: ``generated/X_int8.onnx`` for ``generated/X``."""
    precision = "_int8" if options.int8 else "_half" if options.half else ""
    like = like if like.name not in ("", "..") else like.resolve()
    return like.with_name(f"{like.name}{precision}{FORMS[options.to].suffix}")


def check_exported(path: Path, options: ExportOptions) -> None:
    """BundleExistsError or OutputError where the file may not be written over; only its like ever is."""
    form = FORMS[options.to]
    if path.is_symlink():
        raise OutputError(f"{path} is a link: name the file itself with -o")
    if path.is_dir():
        raise OutputError(f"{path} is a folder: name a file in it, such as {path / ('model' + form.suffix)}")
    if not path.exists():
        return
    if not form.is_such(path):
        raise BundleExistsError(
            f"{path} exists and is not {form.name}: only such a file is ever written over; choose another with -o"
        )
    if not options.force:
        raise BundleExistsError(f"{path} exists; choose another file with -o, or overwrite it with --force")
