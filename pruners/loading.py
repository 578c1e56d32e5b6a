"""Loading the user's network: a file or module, the factory in it, and the arguments it is called with.

Every way this can fail gives one line that says what to do.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from .entry import Entry
from .errors import FactoryError, ModelFileError, UserCodeError, some
from .named_files import check_identifier, model_file, split_spec
from .places import Site
from .registry import closest


@dataclass(frozen=True)
class Factory:
    """A function or class that builds a network, or what else ``option`` asks for. ``where`` is the file or module as
    the user wrote it."""

    call: Callable[..., Any]
    name: str
    where: str
    option: str = "--model"


def load_factory(spec: str, option: str = "--model") -> Factory:
    """Find ``FILE.py:FACTORY`` or ``package.module:FACTORY``, which the user gave as ``option``.
    Raises ModelFileError."""
    where, name = split_spec(spec)
    module = load_module(where)
    candidates = _candidates(module)
    if not name:
        choice = candidates[0] if candidates else "FACTORY"
        raise FactoryError(
            f"{option} {spec}: say which function or class, such as {option} {where}:{choice}{_listed(candidates)}"
        )
    found = getattr(module, name, None)
    if found is None:
        close = closest(name, candidates) or closest(name, _makers(module))
        hint = f"; did you mean {close}?" if close else _listed(candidates)
        raise FactoryError(f"{where} has no {name}{hint}")
    if isinstance(found, nn.Module) and option == "--model":
        made = _made_by(module, name)
        raise FactoryError(
            f"{name} in {where} is a network, and what makes it is asked for: write a function, "
            f"def make(): return {made}, and give {option} {where}:make"
        )
    if not callable(found):
        raise FactoryError(
            f"{name} in {where} is a value of type {type(found).__name__}, not a function or class: "
            f"write a function that returns {'the network' if option == '--model' else 'it'}"
        )
    return Factory(found, name, where, option)


def load_module(where: str) -> ModuleType:
    """Import ``FILE.py`` or ``package.module``. Raises ModelFileError."""
    return _import_file(where) if where.endswith(".py") else _import_module(where)


def build(factory: Factory, arguments: Mapping[str, Any]) -> nn.Module:
    """Call the factory. Raises ModelFileError where arguments are missing or unknown, where it fails, and where it
    returns no network."""
    network = call(factory, arguments)
    if not isinstance(network, nn.Module):
        kind = "nothing" if network is None else f"a {type(network).__name__}"
        raise FactoryError(
            f"{factory.name} in {factory.where} returned {kind}, not a torch.nn.Module: return the network"
        )
    return network


def call(factory: Factory, arguments: Mapping[str, Any]) -> Any:
    """What the function returns. Raises ModelFileError where arguments are missing or unknown and where it fails."""
    _check_arguments(factory, arguments)
    try:
        return factory.call(**arguments)
    except Exception as error:
        shown = f"{factory.name}({_shown(arguments)}) in {factory.where} failed: {cause(error, factory.where)}"
        raise UserCodeError(shown, site=failed_at(error, factory.where)) from error


def entry_for(factory: Factory, arguments: Mapping[str, Any]) -> Entry:
    """What the source writer needs to know of a factory."""
    origin = f"{factory.where}, {factory.name}({_shown(arguments)})"
    return Entry(factory.call, dict(arguments), factory.name, origin)


# -- importing


def _import_file(where: str) -> ModuleType:
    path = model_file(where)
    if levels := _relative_levels(path):
        return _import_from_package(path.resolve(), levels, where)
    known = sys.modules.get(path.stem)
    name = path.stem if known is None else f"secateur_input_{path.stem}_{len(sys.modules)}"
    if known is not None and getattr(known, "__file__", None) == str(path.resolve()):
        return known
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    for folder in _import_folders(path.resolve()):
        if folder not in sys.path:
            sys.path.append(folder)  # the file may import its neighbours, or itself by the name of its package
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        raise _import_error(error, where) from error
    return module


def _relative_levels(path: Path) -> int:
    """How many folders up the file's relative imports go; 0 where it has none."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):  # told when it is imported
        return 0
    return max((n.level for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)), default=0)


def _import_from_package(file: Path, levels: int, where: str) -> ModuleType:
    """A file with relative imports, as a module of the outermost package it is in."""
    packaged = [folder for folder in file.parents if (folder / "__init__.py").is_file()]
    outside = next(f for f in file.parents if f not in packaged)
    if len(file.relative_to(outside).parts) <= levels:  # a package needs no __init__.py
        if len(file.parents) <= levels + 1:
            raise ModelFileError(f"{where} imports from {levels} folders above it, which are not there")
        outside = file.parents[levels]
    name = ".".join(file.relative_to(outside).with_suffix("").parts)
    for part in name.split("."):
        check_identifier(part, where, "".join(c if c.isalnum() else "_" for c in part))
    sys.path.insert(0, str(outside))
    try:
        module = importlib.import_module(name)
    except BaseException as error:
        raise _import_error(error, where) from error
    finally:
        sys.path.remove(str(outside))
        sys.path.append(str(outside))
    if Path(module.__file__ or "").resolve() != file:
        raise ModelFileError(
            f"{where} is the module {name}, but another one of that name was imported, {module.__file__}: rename yours"
        )
    return module


def _import_folders(file: Path) -> Iterator[str]:
    """The file's folder, and the one that holds the outermost package it is in."""
    yield str(file.parent)
    outside = next(folder for folder in file.parents if not (folder / "__init__.py").is_file())
    yield str(outside)


def _import_module(where: str) -> ModuleType:
    if where.endswith(".ipynb"):
        raise ModelFileError(f"{where} is a notebook: write it as a file first, jupyter nbconvert --to script {where}")
    for part in where.split("."):
        if "/" in where or "\\" in where:
            raise ModelFileError(f"--model {where}: a model file ends in .py; a module is written package.module")
        check_identifier(part, where, "".join(c if c.isalnum() else "_" for c in part) or "a name")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        found = importlib.import_module(where)
    except ModuleNotFoundError as error:
        if error.name and (where == error.name or where.startswith(f"{error.name}.")):
            raise ModelFileError(
                f"there is no module {where}: install it, or give the file, --model FILE.py:FACTORY"
            ) from None
        raise _import_error(error, where) from error
    except Exception as error:
        raise _import_error(error, where) from error
    if found.__spec__ is not None and found.__spec__.origin is None:
        raise ModelFileError(f"{where} is a folder: give the file in it, --model {where}/FILE.py:FACTORY")
    return found


def _import_error(error: BaseException, where: str) -> BaseException:
    if isinstance(error, SyntaxError):
        return UserCodeError(f"syntax error: {error.msg}", site=_misspelt_at(error))
    if not isinstance(error, (Exception, SystemExit)):
        return error
    if isinstance(error, SystemExit):
        return UserCodeError(f"{where} ends the program when it is imported: put that under if __name__ == '__main__'")
    if isinstance(error, ImportError) and "relative import" in str(error):
        return ModelFileError(f"{where} is part of a package: give it as a module, --model package.module:FACTORY")
    return UserCodeError(f"importing {where} failed: {cause(error, where)}", site=failed_at(error, where))


def _misspelt_at(error: SyntaxError) -> Site:
    line, first, last = error.lineno or 1, error.offset or 0, error.end_offset or 0
    at = len((error.text or "")[: first - 1].encode())  # columns of a site are bytes
    span = (line, at, line, at + max(1, last - first)) if first > 0 and error.end_lineno in (None, line) else None
    return Site(error.filename or "", line, span=span)


def cause(error: BaseException, where: str) -> str:
    """The exception in one line, with the last place in the user's own file."""
    text, site = f"{type(error).__name__}: {error}".splitlines()[0], failed_at(error, where)
    return f"{text} ({site})" if site else text


def failed_at(error: BaseException, where: str) -> Site | None:
    """The last place in the user's own file that an exception came from."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).name == Path(where).name]
    if not frames or not (line := frames[-1].lineno):
        return None
    last = frames[-1]
    return Site(where, line, last.name, (line, last.colno or 0, last.end_lineno or line, last.end_colno or 0))


# -- what is in a module


def _candidates(module: ModuleType) -> list[str]:
    """Functions and network classes that the module itself defines, functions first; else those that it offers."""
    found = _makers(module)
    return [n for n, v in found.items() if v.__module__ == module.__name__] or list(found)


def _makers(module: ModuleType) -> dict[str, Any]:
    """Functions and network classes in a module by name, functions first."""
    known = {n: v for n, v in vars(module).items() if not n.startswith("_") and v is not nn.Module}
    functions = {n: v for n, v in known.items() if inspect.isfunction(v)}
    return {**functions, **{n: v for n, v in known.items() if inspect.isclass(v) and issubclass(v, nn.Module)}}


def _made_by(module: ModuleType, name: str) -> str:
    """The call that a module's name was last given, as it is written."""
    calls = [
        node.value for node in ast.parse(inspect.getsource(module)).body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)
        and any(isinstance(target, ast.Name) and target.id == name for target in node.targets)
    ]  # fmt: skip
    return ast.unparse(calls[-1]) if calls else f"{type(getattr(module, name)).__name__}(...)"


def _listed(candidates: Sequence[str]) -> str:
    return f"; it has {some(candidates, 6) or 'no functions and no network classes'}"


def _check_arguments(factory: Factory, arguments: Mapping[str, Any]) -> None:
    try:
        parameters = inspect.signature(factory.call).parameters
    except (TypeError, ValueError):
        return
    free = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for name in arguments:
        if name not in parameters and not free:
            close = closest(name, parameters)
            takes = f"did you mean {close}?" if close else f"it takes {', '.join(parameters) or 'no arguments'}"
            raise FactoryError(f"{factory.name} in {factory.where} has no argument {name}; {takes}")
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    missing = [
        n for n, p in parameters.items() if p.default is p.empty and p.kind not in kinds and n not in arguments
    ]  # fmt: skip
    if missing:
        called = f"{factory.name}({', '.join(f'{n}=...' for n in missing)})"
        fix = "add " + " ".join(f"--model-arg {n}=..." for n in missing)
        if any(_name(parameters[n].annotation) not in ("int", "float", "str", "bool") for n in missing):
            fix += f"; where that is no number or text but a class, write a function, def make(): return {called}"
        if factory.option != "--model":
            fix = f"{factory.option} calls it without arguments, so give them defaults"
        raise FactoryError(f"{factory.name} in {factory.where} needs {', '.join(missing)}: {fix}")


def _name(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")


def _shown(arguments: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in arguments.items())
