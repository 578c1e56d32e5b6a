"""Collects what kept code refers to: definitions from author's files, imports of everything else."""

from __future__ import annotations

import ast
import builtins
import re
import symtable
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any

from ...errors import NameClashError, NoSourceError, SourceError, ValueTextError
from ...places import Site
from ..author import (
    Library,
    attributes_of,
    binding,
    file_of,
    for_checkers,
    installed,
    is_simple,
    module_at,
    module_of,
    taken_whole,
    usual,
)
from ..live import global_name
from ..text import SourceFile, Sources, filled_names, free, indented, loaded_names, quoted_notes, renamed, rows
from .order import at_once, in_order

Key = tuple[str, str]  # file, name
LAST = 10**9  # the line of what stands at the end of the generated file


@dataclass(frozen=True)
class Import:
    """``import module as name`` (``member`` empty) or ``from module import member as name``.

    ``checkers``: for annotations only, under ``if TYPE_CHECKING``.
    """

    module: str
    member: str
    name: str
    checkers: bool = False


@dataclass
class Chunk:
    """A top-level statement of the generated file. ``extra``: names in it that its own file doesn't bind.

    ``name``: what its file calls it; ``target``: what the generated file calls it, if that is settled already.
    ``second``: another file whose names it uses. ``fills``: whether it puts something into the object before it.
    """

    name: str
    file: SourceFile | None
    line: int
    text: str
    extra: Mapping[str, Any] = field(default_factory=dict)
    is_definition: bool = True
    target: str = ""
    second: SourceFile | None = None
    fills: bool = False

    def with_comments(self, text: str) -> Chunk:
        """The statement in these words, with the author's comments above and below it that they don't hold."""
        if self.file is None:
            return replace(self, text=text)
        above = self.file.comments_above(self.line).splitlines(keepends=True)
        below = self.file.comments_below(self.line, self.name)
        there = next(n for n in range(len(above) + 1) if text.startswith("".join(above[n:])))
        ends = below.strip() and text.endswith(below)
        return replace(self, text="".join([*above[:there], text, "" if ends else below]))

    @property
    def key(self) -> Key:
        return self.file.name if self.file else "", self.name


class Gatherer:
    """``homes``: top-level packages whose code is taken over whole rather than imported. ``library``: says what of
    other packages can't be imported. ``text_of``: how a statement is taken over."""

    def __init__(
        self, sources: Sources, homes: set[str], library: Library, text_of: Callable[[ast.stmt, SourceFile], str]
    ) -> None:
        self.sources = sources
        self.homes = homes
        self.library = library
        self.text_of = text_of
        self.chunks: dict[Key, Chunk] = {}
        self.imports: dict[Import, Import] = {}  # as files have them, and as the generated file has them
        self.uses: dict[Key, dict[str, Key | Import]] = {}

    def add(self, chunk: Chunk) -> None:
        other = self.chunks.setdefault(chunk.key, chunk)
        if other.line != chunk.line:
            raise NameClashError(
                f"one file has two different definitions of {chunk.name}",
                site=Site(chunk.file.name if chunk.file else "", chunk.line), help="rename one of them",
            )  # fmt: skip

    def put(self, chunk: Chunk) -> None:
        """The chunk instead of the one of that name."""
        self.chunks[chunk.key] = chunk
        self.uses.pop(chunk.key, None)

    def close(self) -> None:
        """Follows names until nothing is missing."""
        while todo := [c for k, c in self.chunks.items() if k not in self.uses]:
            for chunk in todo:
                mine = self.uses.setdefault(chunk.key, {})
                for name in sorted(free_names(chunk.text)):
                    mine.update(self._meaning(name, chunk))
            for chunk in todo:
                self._fill(chunk)

    def _fill(self, chunk: Chunk) -> None:
        """Adds the statements that put something into an object where it is made, and need nothing that isn't there."""
        if chunk.is_definition or chunk.file is None:
            return
        for stmt in chunk.file.tree.body:
            names = free_names(ast.unparse(stmt)) if filled_names(stmt) == {chunk.name} else {""}
            if all(self.there(n, chunk.file) for n in names):
                text = self.text_of(stmt, chunk.file)
                name = f"{chunk.name}, line {stmt.lineno}"
                self.add(Chunk(name, chunk.file, stmt.lineno, text, {}, False, fills=True))

    def there(self, name: str, file: SourceFile, packages: bool = False) -> bool:
        """Whether a name at the top of a file means something that is there already, or torch's or Python's own;
        ``packages``: or something of another installed package."""
        found = self._found(name, file)
        if not found:
            return found is not None and hasattr(builtins, name)
        can_be_imported = installed if packages else usual
        return all(k in self.chunks if isinstance(k, tuple) else can_be_imported(k.module) for k in found.values())

    def known(self, name: str, file: SourceFile) -> bool:
        """Whether a name at the top of a file can be had: defined or imported there, or Python's own."""
        found = self._found(name, file)
        return bool(found) or (found is not None and hasattr(builtins, name))

    def _found(self, name: str, file: SourceFile) -> dict[str, Key | Import] | None:
        try:
            return self._find(name, file, "", gather=False)
        except SourceError:
            return None

    def _meaning(self, name: str, chunk: Chunk) -> dict[str, Key | Import]:
        if chunk.key[1] == name and name not in chunk.extra:
            return {name: chunk.key}
        if name in chunk.extra:
            found = self._object(name, chunk.extra[name])
        else:
            found = self._find(name, chunk.file, chunk.text) if chunk.file else {}
            found = found or (self._find(name, chunk.second, chunk.text) if chunk.second else {})
        if not found and not hasattr(builtins, name) and name not in ("__file__", "__class__", "__name__"):
            raise NameClashError(
                f"the name {name} in {chunk.name} is not defined at the top of its file",
                site=Site(chunk.file.name, chunk.line) if chunk.file else None,
            )
        return found

    def _object(self, name: str, value: Any) -> dict[str, Key | Import]:
        if isinstance(value, types.ModuleType):
            path, _, last = value.__name__.rpartition(".")
            whole = Import(value.__name__, "", name)
            return {name: self._import(Import(path, last, name) if path and last == name else whole)}
        own = next((k for k, c in self.chunks.items() if c.target == name), None)
        if own is not None:
            return {name: own}
        home = global_name(value)
        if home is None:
            raise ValueTextError(f"{value!r} can't be found by an import")
        if not self._taken_over(home[0], home[1].partition(".")[0]):
            return {name: self._import(Import(home[0], home[1], name))}
        file = self._file_of(home[0])
        found = self._find(home[1].partition(".")[0], file, "") if file is not None else {}
        return dict.fromkeys([name], next(iter(found.values()))) if found else {}

    def _find(self, name: str, file: SourceFile, text: str, gather: bool = True) -> dict[str, Key | Import]:
        """What a name of a file is here; of a module whose definitions are taken over, what its attributes are."""
        stmt = binding(file, name)
        if stmt is None:
            return {}
        if isinstance(stmt, ast.Import):
            return self._from_modules(name, stmt, file, text, gather)
        if isinstance(stmt, ast.ImportFrom):
            return self._from_import(name, stmt, file, text, gather)
        key, module = (file.name, name), module_at(file.name)
        if key not in self.chunks and not is_simple(stmt) and module and not self._taken_over(module.__name__, name):
            return {name: self._import(Import(module.__name__, name, name), gather)}
        if gather and key not in self.chunks:
            is_definition = isinstance(stmt, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            own, around = self.text_of(stmt, file), for_checkers(file, stmt)
            if around is not None:
                own = "\n".join([f"if {ast.unparse(around.test)}:", *indented(rows(own.rstrip("\n")))]) + "\n"
            self.add(Chunk(name, file, stmt.lineno, own, {}, is_definition))
        return {name: key}

    def _from_import(
        self, name: str, stmt: ast.ImportFrom, file: SourceFile, text: str, gather: bool
    ) -> dict[str, Key | Import]:
        alias = next((a for a in stmt.names if (a.asname or a.name) == name), None)
        member, module = alias.name if alias else name, module_of(stmt, file)
        checkers = for_checkers(file, stmt) is not None
        value = getattr(sys.modules.get(module), member, None)
        if isinstance(value, types.ModuleType) and self._taken_from(name, value, text):
            return self._of_module(name, value, file, stmt, text, gather)
        if self._taken_over(module, member) and not (checkers and module not in sys.modules):
            return self._defined(name, member, module, file, stmt, text, gather)
        return {name: self._import(Import(module, member, name, checkers), gather)}

    def _defined(
        self, name: str, member: str, module: str, file: SourceFile, stmt: ast.stmt, text: str, gather: bool
    ) -> dict[str, Key | Import]:
        other = self._file_of(module)
        found = self._find(member, other, text, gather) if other is not None else {}
        if not found:
            raise NoSourceError(f"the definition of {member} was not found in {module}", site=file.at(stmt))
        return {name + k[len(member) :]: v for k, v in found.items()}

    def _from_modules(
        self, name: str, stmt: ast.Import, file: SourceFile, text: str, gather: bool
    ) -> dict[str, Key | Import]:
        """``import torch`` and ``import torch.fx`` bind one name: those that the code uses are needed."""
        alias = next(a for a in stmt.names if (a.asname or a.name.partition(".")[0]) == name)
        checkers = for_checkers(file, stmt) is not None
        loaded = alias.name in sys.modules or not checkers
        module = sys.modules.get(alias.name if alias.asname else name) if loaded else None
        whole = taken_whole(alias.name, self.homes)
        if module is not None and (whole or self._taken_from(name, module, text)):
            return self._of_module(name, module, file, stmt, text, gather)
        if alias.asname:
            return {name: self._import(Import(alias.name, "", name, checkers), gather)}
        found = [a.name for s in file.tree.body if isinstance(s, ast.Import) for a in s.names if not a.asname]
        mine = [m for m in found if m == name or (m.startswith(f"{name}.") and m in text)]
        return {m: self._import(Import(m, "", m, checkers), gather) for m in mine or [alias.name]}

    def _of_module(
        self, name: str, module: types.ModuleType, file: SourceFile, stmt: ast.stmt, text: str, gather: bool
    ) -> dict[str, Key | Import]:
        """``layers.Mlp`` and ``models.layers.Mlp`` where ``layers`` is a module of the author's package."""
        other = self._file_of(module.__name__)
        found: dict[str, Key | Import] = {}
        tree = ast.parse(text)
        nodes = [n for n in ast.walk(tree) if isinstance(n, ast.Attribute | ast.Name)]
        for attribute in attributes_of(name, tree):
            value, dotted_name = getattr(module, attribute, None), f"{name}.{attribute}"
            deeper = isinstance(value, types.ModuleType) and self._taken_from(dotted_name, value, text)
            inner = self._find(attribute, other, text, gather) if other is not None and not deeper else {}
            if not inner and isinstance(value, types.ModuleType):
                found |= self._of_module(dotted_name, value, file, stmt, text, gather)
            found |= {f"{name}.{k}": v for k, v in inner.items()}
        bare = sum(ast.unparse(n) == name for n in nodes)
        dotted = sum(isinstance(n, ast.Attribute) and ast.unparse(n.value) == name for n in nodes)
        if bare != dotted or not found:
            raise NameClashError(f"import the names of {name} that are used, not the module itself", site=file.at(stmt))
        return found

    def _file_of(self, module: str) -> SourceFile | None:
        return file_of(module, self.sources)

    def _taken_over(self, module: str, member: str) -> bool:
        return taken_whole(module, self.homes) or self.library.touches(self._file_of(module), member)

    def _taken_from(self, name: str, module: types.ModuleType, text: str) -> bool:
        """Whether code uses something of a module that is taken over."""
        return taken_whole(module.__name__, self.homes) or self.library.uses_of_module(name, module, text)

    def _import(self, wanted: Import, gather: bool = True) -> Import:
        if gather and wanted not in self.imports:
            alike = [i for k, i in self.imports.items() if _alike(k, wanted) and k.checkers <= wanted.checkers]
            self.imports[wanted] = alike[0] if alike else wanted
        return wanted

    # the result

    def finished(self, notes: bool) -> tuple[list[Import], list[Chunk]]:
        """Imports and definitions with names that don't meet. Files that others import from come first; inside a file
        the author's order stays; but what is needed when the file is imported stands before its users.

        ``notes``: whether annotations are looked at then."""
        loaded = [i for i in self.imports if not i.checkers]
        if any(i.checkers and not any(_alike(i, other) for other in loaded) for i in self.imports):
            self._import(Import("typing", "TYPE_CHECKING", "TYPE_CHECKING"))
        taken = self._name_imports()
        final: dict[Key, str] = {k: c.target for k, c in self.chunks.items() if c.target}
        taken |= set(final.values())
        for key, chunk in self.chunks.items():
            if key not in final:
                final[key] = free(chunk.name, key[0], taken)
                taken.add(final[key])
        ordered = [c[0].with_comments(self._with_names(c, final)) for c in self._statements(notes)]
        return list(dict.fromkeys([*self.imports.values(), *_libraries(ordered)])), ordered

    def _name_imports(self) -> set[str]:
        """Two imports under one name: the second gets another."""
        taken: dict[str, Import] = {}
        for given, wanted in sorted(self.imports.items(), key=lambda pair: pair[1].checkers):
            if wanted.checkers:
                wanted = self.imports[given] = next((i for i in taken.values() if _alike(i, wanted)), wanted)
            if taken.setdefault(wanted.name, wanted) != wanted:
                words = wanted.module.replace(".", "_")
                name = free(f"{words}_{wanted.member}".strip("_"), words, set(taken))
                wanted = next((i for i in taken.values() if _meant(i) is _meant(wanted)), replace(wanted, name=name))
                taken[wanted.name] = self.imports[given] = wanted
        return set(taken)

    def _statements(self, notes: bool) -> list[list[Chunk]]:
        """The chunks in order, those of one statement together: ``a, b = 1, 2`` stands once."""
        found: dict[Any, list[Chunk]] = {}
        for chunk in self._ordered(notes):
            whole = chunk.is_definition or chunk.file is None
            found.setdefault(chunk.key if whole else (chunk.file, chunk.line, chunk.text), []).append(chunk)
        return list(found.values())

    def _with_names(self, chunks: Sequence[Chunk], final: Mapping[Key, str]) -> str:
        names = {c.name: final[c.key] for c in chunks}
        for local, meant in (pair for c in chunks for pair in self.uses[c.key].items()):
            names[local] = final[meant] if isinstance(meant, tuple) else self.imports[meant].name
        names = {k: v for k, v in names.items() if k != v}
        return renamed(chunks[0].text, names) if names else chunks[0].text

    def _ordered(self, notes: bool) -> list[Chunk]:
        at = {k: at_once(c.text, notes) for k, c in self.chunks.items()}
        uses = {k: {m for m in found.values() if isinstance(m, tuple)} for k, found in self.uses.items()}
        first = {k: self._keys(k, at[k].read) for k in self.chunks}
        called = {k: self._keys(k, at[k].called) for k in self.chunks}
        files = self._files(uses, {k: self._keys(k, at_once(c.text, notes=True).read) for k, c in self.chunks.items()})
        last = {k for k, c in self.chunks.items() if c.line == LAST}
        plain = sorted(self.chunks, key=lambda k: (k in last, files.index(self.chunks[k].file), self.chunks[k].line))
        return [self.chunks[k] for k in in_order(plain, first, called, uses)]

    def _keys(self, user: Key, names: Set[str]) -> set[Key]:
        return {m for n, m in self.uses[user].items() if n in names and isinstance(m, tuple) and m != user}

    def _files(self, uses: Mapping[Key, Set[Key]], first: Mapping[Key, Set[Key]]) -> list[SourceFile | None]:
        """Files that others use first; where they use each other, those that the others need at once."""
        needs, at_once = self._between_files(uses), self._between_files(first)
        files: list[SourceFile | None] = []
        while len(files) < len(needs):
            rest = [f for f in needs if f not in files]
            free = [f for f in rest if not needs[f] - set(files)] or [f for f in rest if not at_once[f] - set(files)]
            files.append((free or rest)[0])
        return files

    def _between_files(self, uses: Mapping[Key, Set[Key]]) -> dict[SourceFile | None, set[SourceFile | None]]:
        needs: dict[SourceFile | None, set[SourceFile | None]] = {c.file: set() for c in self.chunks.values()}
        for user, used in uses.items():
            own = self.chunks[user].file
            needs[own] |= {self.chunks[k].file for k in used} - {own}
        return needs


def _meant(wanted: Import) -> Any:
    """What an import binds: ``torch.nn`` and ``nn`` of ``torch`` are one module."""
    module = sys.modules.get(wanted.module, wanted)
    return getattr(module, wanted.member, wanted) if wanted.member else module


def _alike(first: Import, second: Import) -> bool:
    same = (first.module, first.member) == (second.module, second.member)
    return first.name == second.name and (same or _meant(first) is _meant(second))


def free_names(text: str) -> set[str]:
    """Names that a piece of code reads and does not bind itself; names in quoted annotations count."""
    found: set[str] = set()
    top = symtable.symtable(text, "<chunk>", "exec")
    tables = [top]
    while tables:
        table = tables.pop()
        tables += table.get_children()
        for symbol in table.get_symbols():
            outside = symbol.is_global() or (table is top and not symbol.is_assigned() and not symbol.is_imported())
            if outside and symbol.is_referenced():
                found.add(symbol.get_name())
    bound = {s.get_name() for s in top.get_symbols() if s.is_assigned() or s.is_imported() or s.is_namespace()}
    return (found | _quoted(ast.parse(text))) - bound


def _quoted(tree: ast.AST) -> set[str]:
    names: set[str] = set()
    for part in quoted_notes(tree):
        try:
            names |= loaded_names(ast.parse(str(part.value), mode="eval"))
        except SyntaxError:
            continue
    return names


def _libraries(chunks: Sequence[Chunk]) -> Iterator[Import]:
    """Packages whose import brings operations that the code calls: ``torch.ops.torchvision.nms``."""
    called = {name for c in chunks for name in re.findall(r"\btorch\.ops\.(\w+)\.", c.text)}
    for name in sorted(called - {"aten", "prims", "prim", "quantized"}):
        if name in sys.modules:
            yield Import(name, "", name)
