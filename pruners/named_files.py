"""What the user names on the disk: files and bundles that must be there. Imports no torch."""

from __future__ import annotations

import ast
import difflib
import json
import re
import tokenize
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .errors import BundleError, CheckpointError, FactoryError, ModelFileError, NotGivenError

_HUB = "hf:"


def split_spec(spec: str) -> tuple[str, str]:
    """``FILE.py:FACTORY`` or ``package.module:FACTORY`` in two; the factory is empty where none is named."""
    where, _, name = spec.rpartition(":")
    return (spec, "") if not where or where.endswith(("/", "\\")) else (where, name)


def model_file(where: str) -> Path:
    """The Python file, which must be there and have a name that can be imported. Raises ModelFileError."""
    path = Path(where).expanduser()
    check_identifier(path.stem, where, f"{''.join(c if c.isalnum() else '_' for c in path.stem)}.py")
    if not path.is_file():
        close = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*.py")], 1)
        hint = f"; did you mean {path.with_name(close[0])}?" if close else ""
        raise ModelFileError(f"there is no model file {where}{hint}")
    return path


def is_function(spec: str) -> bool:
    """Whether a spec that may say something else, such as ``folder:DIR``, names a Python file, or a function in one."""
    return spec.partition(":")[0].endswith(".py")


def check_function(option: str, spec: str) -> None:
    """ModelFileError unless the option names a function, and one that its file, which is not run, may define."""
    where, name = split_spec(spec)
    if not name:
        raise NotGivenError(f"{option} {spec}: say which function, {option} {where or 'FILE.py'}:FUNCTION")
    if not where.endswith(".py"):
        return  # an importable module
    try:
        tree = ast.parse(source_text(str(model_file(where))))
    except (SyntaxError, ValueError):  # told with its line when it is imported
        return
    bound = {n for node in ast.walk(tree) for n in _bound(node)}
    if name not in bound and not bound & _BINDS_MORE:
        close = difflib.get_close_matches(name, filter(str.isidentifier, bound), 1)
        raise FactoryError(f"{option} {spec}: {where} has no {name}{f'; did you mean {close[0]}?' if close else ''}")


_BINDS_MORE = {"*", "__getattr__", "globals()", "exec()", "setattr()", "vars()"}
"""Beside these a file may hold names that it doesn't write down."""


def _bound(node: ast.AST) -> Iterator[str]:
    """The names that a piece of code binds, wherever it stands."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        yield node.name
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    elif isinstance(node, ast.alias):
        yield (node.asname or node.name).partition(".")[0]
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        yield f"{node.func.id}()"


def source_text(file: str) -> str:
    """A Python file as Python reads it: in UTF-8, or as its first lines say."""
    with tokenize.open(file) as text:
        return text.read()


def check_identifier(name: str, where: str, better: str) -> None:
    """ModelFileError where a part of ``where`` can't be imported."""
    if not name.isidentifier():
        raise ModelFileError(f"{where}: {name!r} is not a Python identifier and can't be imported; rename it {better}")


def is_hub(spec: str) -> bool:
    """Whether ``--model`` names a folder as Hugging Face's library keeps models: ``hf:DIR``."""
    return spec.startswith(_HUB)


def hub_folder(spec: str) -> Path:
    """The folder that ``hf:DIR`` names. Raises ModelFileError where it can't be one."""
    path = Path(spec.removeprefix(_HUB))
    if not path.is_dir():
        name = path.as_posix()
        hint = ""
        if not path.exists() and re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
            hint = f"; a model on the hub is downloaded first: hf download {name} --local-dir {path.name}"
        raise ModelFileError(f"--model {spec}: there is no folder {path}{hint}")
    if not (path / "config.json").is_file():
        raise ModelFileError(f"--model {spec}: {path} has no config.json, so no model is kept there")
    if not any(path.glob("*.safetensors")):
        pickled = next((p.name for s in (".bin", ".pt", ".pth") for p in sorted(path.glob(f"*{s}"))), None)
        how = f"{pickled} is a pickle, which is not loaded: save the model as safetensors" if pickled else "get them"
        raise ModelFileError(f"--model {spec}: {path} has no weights (*.safetensors); {how}")
    return path


def check_checkpoint(path: Path) -> None:
    """Raises CheckpointError where there is no such file; of a folder it names the one that is meant, perhaps."""
    if not path.exists():
        raise CheckpointError(f"there is no checkpoint {path}")
    if path.is_dir():
        endings = (".index.json", ".safetensors", ".pth", ".pt", ".ckpt", ".bin")
        found = [f for ending in endings for f in sorted(path.iterdir()) if f.name.endswith(ending)]
        such = f", such as {found[0]}" if found else ""
        raise CheckpointError(f"{path} is a folder: name the checkpoint file in it{such}")


def bundle_summary(folder: Path) -> Mapping[str, Any]:
    """What a bundle's ``summary.json`` holds. Raises UsageError where the folder is no bundle."""
    if folder.is_file():
        raise BundleError(f"{folder} is a file: give the bundle's folder, {folder.parent}")
    told = folder / "summary.json"
    try:
        summary = json.loads(told.read_text("utf-8")) if told.is_file() else {}
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f"{told} is damaged: {error}") from None
    if not isinstance(summary, dict) or not isinstance(summary.get("file", ""), str):
        raise BundleError(f"{told} is damaged: it doesn't say what a bundle's summary says")
    if (schema := summary.get("schema", 1)) != 1:
        raise BundleError(f"{told}: schema {json.dumps(schema)[:40]} is unknown, this version reads schema 1")
    weights = () if isinstance(summary.get("files"), list) else ("weights.pth",)
    names = (summary.get("file", "model.py"), *weights, "plan.json", "summary.json")
    missing = [n for n in names if not (folder / n).is_file()]
    if missing:
        raise BundleError(f"{folder} is not a bundle: it has no {missing[0]}")
    return summary


def parse_arguments(texts: Sequence[str], option: str = "--model-arg") -> dict[str, Any]:
    """``["width=16", "act=relu"]`` -> ``{"width": 16, "act": "relu"}``: Python literals, else the text itself."""
    arguments: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise FactoryError(f"{option} {text}: write NAME=VALUE, such as {option} width=16")
        try:
            arguments[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            arguments[name] = value
    return arguments
