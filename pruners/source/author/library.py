"""Classes of installed libraries whose code may stay there: they are imported and called as the author called them."""

from __future__ import annotations

import ast
import functools
import inspect
import sys
import types
from collections.abc import Container, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import nn

from ...places import LiteralSite
from ...run import INTERNAL
from ..live import (
    Arg,
    Birth,
    Call,
    Tree,
    attempted,
    author_init,
    called_with,
    is_authored,
    is_plain,
    is_torch,
    term_of_value,
    undisturbed,
)
from ..text import SourceFile, Sources, first_line, loaded_names
from .bindings import binding, installed, module_of
from .namer import unwelcome

Key = tuple[str, str]  # file, name
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_DEPTH = 20


def homes_of(model: nn.Module) -> set[str]:
    """Packages that the file never imports: this one, and torchvision where the network itself comes from there."""
    top = type(model).__module__.partition(".")[0]
    return {top} if unwelcome(top) else set()


def taken_whole(module: str, homes: Iterable[str]) -> bool:
    """Whether everything of a module is taken over: the author's project's, and that of a package in ``homes``."""
    top = module.partition(".")[0]
    return top in homes or top == __name__.partition(".")[0] or not installed(module)


def choose_imported(tree: Tree, sites: Sequence[LiteralSite]) -> None:
    """Settles which classes the file imports: all their instances are as a call makes them, no code of theirs changes.

    ``sites``: numbers in code that must change.
    """
    homes, calls = homes_of(tree.model), {}
    found: dict[type, list[str]] = {}
    for path, module in tree.live.items():
        if path and not is_torch(type(module)):
            found.setdefault(type(module), []).append(path)
    for cls, paths in found.items():
        if taken_whole(cls.__module__, homes) or issubclass(cls, type(tree.model)):
            continue
        made = {p: _call(tree, p, homes) for p in paths} if author_init(cls) is not None else {}
        if all(made.values()) and not _changed(cls, sites, tree.sources):
            calls[cls] = {p: call for p, call in made.items() if call is not None}
    while True:
        taken = {type(tree.model), *(c for c in found if c not in calls)}
        parents = {c for cls in taken for c in cls.__mro__}
        wrong = {c for c in calls if c in parents or any(_is_given(tree, path, taken) for path in calls[c])}
        calls = {cls: made for cls, made in calls.items() if cls not in wrong}
        if not wrong:
            tree.imported = calls
            return


def _is_given(tree: Tree, path: str, taken: Container[type]) -> bool:
    """Whether a constructor is handed a class that is taken over: it would call it as the library does."""
    birth = tree.birth(path)
    todo: list[Any] = [*birth.arguments.values()] if birth else []
    while todo:
        value = todo.pop()
        if isinstance(value, functools.partial):
            todo.append(value.func)
        elif isinstance(value, dict):
            todo += value.values()
        elif isinstance(value, list | tuple):
            todo += value
        elif isinstance(value, type) and value in taken:
            return True
    return False


def _changed(cls: type, sites: Sequence[LiteralSite], sources: Sources) -> bool:
    """Whether a number changes in code that instances of a class run."""
    if not sites:
        return False
    marked = {top_name(file, s.line) for s in sites if (file := sources.file(s.file)) is not None}
    library = Library(sources, marked)
    own = [sources.of_class(c) for c in cls.__mro__ if is_authored(c) and issubclass(c, nn.Module)]
    return any(library.touches(file, top_name(file, node.lineno)[1]) for file, node in own)


def _call(tree: Tree, path: str, homes: set[str]) -> Call | None:
    """The call that makes the module again; None where none is known or where it makes another."""
    module, birth = tree.live[path], tree.birth(path)
    inside = [type(m) for m in module.modules() if not is_torch(type(m))]
    if birth is None or any(taken_whole(c.__module__, homes) for c in inside):
        return None
    try:
        call = Call(type(module), tuple(_arguments(type(module), birth, tree.sources)), (path,))
        return call if _as_made(module, birth) else None
    except LookupError:
        return None


def _arguments(cls: type, birth: Birth, sources: Sources) -> Iterator[Arg]:
    """What the constructor was given. Raises LookupError for what no expression gives."""
    parameters = inspect.signature(cls).parameters
    star = next((n for n, p in parameters.items() if p.kind is p.VAR_POSITIONAL), "")
    many = bool(star and birth.arguments[star])
    for name, p in parameters.items():
        value = birth.arguments[name]
        if p.kind is p.VAR_POSITIONAL:
            yield from (Arg(str(i), term_of_value(v, sources), positional=True) for i, v in enumerate(value))
        elif p.kind is p.VAR_KEYWORD:
            yield from (Arg(k, term_of_value(v, sources)) for k, v in value.items())
        else:
            known = p.default is not p.empty and (is_plain(p.default) or callable(p.default)) and not many
            default = term_of_value(p.default, sources) if known else None
            first = p.kind in _POSITIONAL and (many or default is None or p.kind is p.POSITIONAL_ONLY)
            yield Arg(name, term_of_value(value, sources), default, first)


def _as_made(module: nn.Module, birth: Birth) -> bool:
    """Whether a call with the author's arguments makes such a module, numbers in its tensors aside."""
    what = f"{type(module).__name__} is taken over: a second call fails"
    with undisturbed():
        twin = attempted(what, lambda: called_with(type(module), birth.arguments))
    return twin is not None and _alike(module, twin, set())


def _alike(live: Any, made: Any, seen: set[tuple[int, int]]) -> bool:
    """Whether two objects are built alike. Containers that running filled may be empty in the one just made."""
    if live is made or (id(live), id(made)) in seen:
        return True
    seen.add((id(live), id(made)))
    if type(live) is not type(made):
        return False
    if isinstance(live, torch.Tensor):
        return (live.shape, live.dtype, live.requires_grad) == (made.shape, made.dtype, made.requires_grad)
    if isinstance(live, nn.Module):
        return _alike_modules(live, made, seen)
    if isinstance(live, dict):
        keys = list(live) == list(made)
        return not made or (keys and all(_alike(live[k], made[k], seen) for k in live))
    if isinstance(live, list | tuple):
        same = len(live) == len(made) and all(_alike(a, b, seen) for a, b in zip(live, made, strict=True))
        return same or (isinstance(live, list) and not made)
    if isinstance(live, types.MethodType):
        return live.__func__ is made.__func__ and _alike(live.__self__, made.__self__, seen)
    if isinstance(live, types.FunctionType):
        first, second = ([c.cell_contents for c in f.__closure__ or ()] for f in (live, made))
        return live.__code__ is made.__code__ and _alike(first, second, seen)
    if type(live).__eq__ is not object.__eq__:  # the type tells by itself what is equal
        return bool(live == made or (live != live and made != made))
    return _alike(_state(live), _state(made), seen)


def _alike_modules(live: nn.Module, made: nn.Module, seen: set[tuple[int, int]]) -> bool:
    first, second = vars(live), vars(made)
    held = ("_parameters", "_buffers", "_modules")
    if any(list(first[k]) != list(second[k]) for k in held):
        return False
    plain = [n for n in {**first, **second} if n not in INTERNAL]
    if any((n in first) != (n in second) for n in plain):
        return False
    return all(_alike(first[k][n], second[k][n], seen) for k in held for n in first[k]) and all(
        _alike(first[n], second[n], seen) for n in plain
    )


def _state(value: Any) -> list[Any]:
    slots = [n for c in type(value).__mro__ for n in getattr(c, "__slots__", ()) if hasattr(value, n)]
    return [getattr(value, "__dict__", {}), *(getattr(value, n) for n in slots)]


class Library:
    """Follows definitions of installed packages by name. ``marked``: definitions that the file can't import.
    ``imported``: those that it imports, whatever they use."""

    def __init__(self, sources: Sources, marked: Iterable[Key], imported: Iterable[Key] = ()) -> None:
        self.sources = sources
        self.marked = set(marked)
        self._next: dict[Key, set[Key]] = {}
        self._touches: dict[Key, bool] = dict.fromkeys(imported, False)
        self._tops = {m.__name__.partition(".")[0] for f, _ in self.marked if (m := module_at(f)) is not None}

    def touches(self, file: SourceFile | None, name: str) -> bool:
        """Whether a definition is marked, or uses one that is, however indirectly."""
        if file is None or not self.marked:
            return False
        start = self._resolve(file, name)
        if isinstance(start, types.ModuleType) or start is None:
            return False
        if start not in self._touches:
            self._touches[start] = self._search(start)
        return self._touches[start]

    def _search(self, start: Key) -> bool:
        seen, todo = {start}, [start]
        while todo:
            key = todo.pop()
            if key in self.marked or self._touches.get(key):
                return True
            new = {k for k in self._used(key) if k not in seen and self._touches.get(k) is not False}
            seen |= new
            todo += new
        self._touches |= dict.fromkeys(seen, False)
        return False

    def _used(self, key: Key) -> set[Key]:
        if key not in self._next:
            file = self.sources.file(key[0])
            stmt = binding(file, key[1]) if file else None
            found = self._in_code(file, stmt) if file and stmt else set()
            self._next[key] = found
        return self._next[key]

    def _in_code(self, file: SourceFile, stmt: ast.stmt) -> set[Key]:
        found: set[Key] = set()
        for name in loaded_names(stmt):
            meant = self._resolve(file, name)
            if isinstance(meant, tuple):
                found.add(meant)
            elif meant is not None:
                found |= self._of_module(name, meant, stmt)
        return found

    def _of_module(self, name: str, module: types.ModuleType, code: ast.AST) -> set[Key]:
        """Definitions that code names as attributes of a module."""
        found: set[Key] = set()
        for attribute in attributes_of(name, code):
            value = getattr(module, attribute, None)
            if isinstance(value, types.ModuleType):
                found |= self._of_module(f"{name}.{attribute}", value, code)
            elif (file := file_of(module.__name__, self.sources)) is not None:
                meant = self._resolve(file, attribute)
                found |= {meant} if isinstance(meant, tuple) else set()
        return found

    def uses_of_module(self, name: str, module: types.ModuleType, text: str) -> bool:
        """Whether code names something of a module, as ``name.attribute``, that can't be imported."""
        return bool(self.marked) and any(
            self.touches(self.sources.file(f), n) for f, n in self._of_module(name, module, ast.parse(text))
        )

    def _resolve(self, file: SourceFile, name: str) -> Key | types.ModuleType | None:
        """Where a name of a file is defined; torch's and Python's own names are nowhere."""
        for _ in range(_DEPTH):
            stmt = binding(file, name)
            if isinstance(stmt, ast.Import):
                alias = next(a for a in stmt.names if (a.asname or a.name.partition(".")[0]) == name)
                return self._module(alias.name if alias.asname else name)
            if not isinstance(stmt, ast.ImportFrom):
                return (file.name, name) if stmt is not None else None
            module = module_of(stmt, file)
            name = next((a.name for a in stmt.names if (a.asname or a.name) == name), name)
            if isinstance(getattr(sys.modules.get(module), name, None), types.ModuleType):
                return self._module(f"{module}.{name}")
            other = file_of(module, self.sources) if self._module(module) else None
            if other is None:
                return None
            file = other
        return None

    def _module(self, name: str) -> types.ModuleType | None:
        """The module, if it is of a package that has something marked."""
        return sys.modules.get(name) if name.partition(".")[0] in self._tops else None


def attributes_of(name: str, code: ast.AST) -> list[str]:
    """The attributes of a name that the code reads: ``F.relu(F.pad(x))`` of ``F`` gives pad and relu."""
    nodes = [n for n in ast.walk(code) if isinstance(n, ast.Attribute)]
    return sorted({n.attr for n in nodes if ast.unparse(n.value) == name})


def file_of(module: str, sources: Sources) -> SourceFile | None:
    """The source of a module that is imported; None where there is none."""
    name = getattr(sys.modules.get(module), "__file__", None)
    return sources.file(name) if name else None


def top_name(file: SourceFile, line: int) -> Key:
    """The definition at the top of a file, also under ``if`` and ``try``, around a line."""
    body: list[ast.stmt] = list(file.tree.body)
    while body:
        stmt = next((s for s in body if first_line(s) <= line <= (s.end_lineno or 0)), None)
        if isinstance(stmt, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            return file.name, stmt.name
        body = [s for s in ast.iter_child_nodes(stmt) if isinstance(s, ast.stmt)] if stmt is not None else []
    return file.name, ""


_MODULES: dict[str, str] = {}  # file -> where its module was found; thousands are imported


def module_at(file: str) -> types.ModuleType | None:
    """The imported module whose code is in this file."""
    known = sys.modules.get(_MODULES.get(file, ""))
    if known is not None and getattr(known, "__file__", None) == file:
        return known
    for name, module in list(sys.modules.items()):
        if getattr(module, "__file__", None) == file:
            _MODULES[file] = name
            return module
    return None


def is_simple(stmt: ast.stmt) -> bool:
    """Whether a statement gives a constant that nobody can change: it is as good in another file."""
    value = stmt.value if isinstance(stmt, ast.Assign | ast.AnnAssign) else None
    try:
        hash(ast.literal_eval(value) if value is not None else [])
    except (ValueError, TypeError):
        return False
    return True
