"""Collects what kept code refers to: definitions from author's files, imports of everything else."""

from __future__ import annotations

import ast
import builtins
import symtable
import sys
import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pruners.errors import SourceError
from pruners.source.files import SourceFile, Sources
from pruners.source.names import unwelcome
from pruners.source.splice import Edit, statement_text
from pruners.source.values import global_name


@dataclass(frozen=True)
class Import:
    """``import module as name`` (``member`` empty) or ``from module import member as name``."""

    module: str
    member: str
    name: str


@dataclass
class Chunk:
    """A top-level statement of the generated file. ``extra``: names in it that its own file doesn't bind."""

    name: str
    file: SourceFile | None
    line: int
    text: str
    extra: Mapping[str, Any] = field(default_factory=dict)
    is_definition: bool = True


class Gatherer:
    """``homes``: top-level packages whose code is taken over rather than imported."""

    def __init__(self, sources: Sources, homes: set[str], edits: Mapping[str, tuple[Edit, ...]]) -> None:
        self.sources = sources
        self.homes = homes
        self.edits = edits
        self.chunks: dict[str, Chunk] = {}
        self.imports: dict[str, Import] = {}
        self._edges: list[tuple[str, str]] = []

    def add(self, chunk: Chunk) -> None:
        """A chunk and, in turn, everything that it names."""
        other = self.chunks.get(chunk.name)
        if other is not None:
            if other.file is not chunk.file or other.line != chunk.line:
                raise SourceError(
                    f"{chunk.file.name if chunk.file else ''}:{chunk.line}: two different definitions of {chunk.name} "
                    "would meet in one file; rename one of them"
                )
            return
        self.chunks[chunk.name] = chunk

    def close(self) -> None:
        """Follows names until nothing is missing."""
        done: set[str] = set()
        while todo := [c for n, c in self.chunks.items() if n not in done]:
            for chunk in todo:
                done.add(chunk.name)
                for name in sorted(free_names(chunk.text)):
                    self._need(name, chunk)

    def _need(self, name: str, chunk: Chunk) -> None:
        if name in self.chunks and (self.chunks[name].file is chunk.file or name in chunk.extra):
            self._edges.append((chunk.name, name))
        elif name in chunk.extra:
            self._object(name, chunk.extra[name])
        elif chunk.file is not None and self._from_file(name, chunk.file, chunk):
            pass
        elif not hasattr(builtins, name) and name not in ("__file__", "__class__"):
            place = f"{chunk.file.name}:{chunk.line}" if chunk.file else chunk.name
            raise SourceError(f"{place}: the name {name} in {chunk.name} is not defined at the top of its file")

    def _object(self, name: str, value: Any) -> None:
        if isinstance(value, types.ModuleType):
            self._import(_module_import(name, value))
            return
        home = global_name(value)
        if home is None:
            raise SourceError(f"{value!r} can't be found by an import")
        if not self._taken_over(home[0]):
            self._import(Import(home[0], home[1], name))
            return
        file = self._file_of(home[0])
        if file is not None:
            self._from_file(name, file, None)

    def _from_file(self, name: str, file: SourceFile, user: Chunk | None) -> bool:
        stmt = binding(file.tree, name)
        if stmt is None:
            return False
        if isinstance(stmt, ast.Import | ast.ImportFrom):
            self._from_import(name, stmt, file, user)
            return True
        chunk = definition(name, stmt, file, self.edits.get(file.name, ()))
        self.add(chunk)
        if user is not None:
            self._edges.append((user.name, name))
        return True

    def _from_import(self, name: str, stmt: ast.Import | ast.ImportFrom, file: SourceFile, user: Chunk | None) -> None:
        alias = next(a for a in stmt.names if (a.asname or a.name.partition(".")[0]) == name)
        if isinstance(stmt, ast.Import):
            self._from_modules(name, alias, stmt, file, user)
            return
        module = self._absolute(stmt, file)
        if not self._taken_over(module):
            self._import(Import(module, alias.name, name))
            return
        if f"{module}.{alias.name}" in sys.modules:
            raise SourceError(f"{file.at(stmt)}: import the names of {alias.name} that are used, not the module itself")
        other = self._file_of(module)
        if other is None or not self._from_file(alias.name, other, user):
            raise SourceError(f"{file.at(stmt)}: the definition of {alias.name} was not found in {module}")
        if alias.name != name:
            value = getattr(sys.modules[module], alias.name)
            self.add(Chunk(name, file, stmt.lineno, f"{name} = {alias.name}\n", {alias.name: value}, False))

    def _from_modules(
        self, name: str, alias: ast.alias, stmt: ast.Import, file: SourceFile, user: Chunk | None
    ) -> None:
        """``import torch`` and ``import torch.fx`` bind one name: those that the code uses are needed."""
        if self._taken_over(alias.name):
            raise SourceError(f"{file.at(stmt)}: import the names of {alias.name} that are used, not the module itself")
        if alias.asname:
            self._import(Import(alias.name, "", name))
            return
        text = user.text if user is not None else ""
        found = [a.name for s in file.tree.body if isinstance(s, ast.Import) for a in s.names if not a.asname]
        mine = [m for m in found if m == name or (m.startswith(f"{name}.") and m in text)]
        for module in mine or [alias.name]:
            self._import(Import(module, "", module))

    def _absolute(self, stmt: ast.ImportFrom, file: SourceFile) -> str:
        if not stmt.level:
            return stmt.module or ""
        owner = next((m for m in list(sys.modules.values()) if getattr(m, "__file__", None) == file.name), None)
        package = (getattr(owner, "__package__", None) or "").split(".")
        base = package[: len(package) - stmt.level + 1]
        return ".".join([*base, *([stmt.module] if stmt.module else [])])

    def _file_of(self, module: str) -> SourceFile | None:
        name = getattr(sys.modules.get(module), "__file__", None)
        return self.sources.file(name) if name else None

    def _taken_over(self, module: str) -> bool:
        top = module.partition(".")[0]
        return unwelcome(module) or top in self.homes

    def _import(self, wanted: Import) -> None:
        other = self.imports.setdefault(wanted.name, wanted)
        if other != wanted and _meant(other) is not _meant(wanted):
            raise SourceError(
                f"the name {wanted.name} means {_shown(other)} in one file and {_shown(wanted)} in another"
            )

    def ordered(self) -> list[Chunk]:
        """Files that others import from come first; inside a file the author's order stays."""
        files: list[SourceFile | None] = []
        needs: dict[SourceFile | None, set[SourceFile | None]] = {}
        for chunk in self.chunks.values():
            needs.setdefault(chunk.file, set())
        for user, used in self._edges:
            a, b = self.chunks[user].file, self.chunks[used].file
            if a is not b:
                needs[a].add(b)
        while len(files) < len(needs):
            rest = [f for f in needs if f not in files]
            files.append(next((f for f in rest if not needs[f] - set(files)), rest[0]))
        return sorted(self.chunks.values(), key=lambda c: (files.index(c.file), c.line))


def _shown(wanted: Import) -> str:
    return f"{wanted.module}.{wanted.member}" if wanted.member else wanted.module


def _meant(wanted: Import) -> Any:
    """What an import binds: ``torch.nn`` and ``nn`` of ``torch`` are one module."""
    module = sys.modules.get(wanted.module, wanted)
    return getattr(module, wanted.member, wanted) if wanted.member else module


def _module_import(name: str, module: types.ModuleType) -> Import:
    path, _, last = module.__name__.rpartition(".")
    if path and last == name:
        return Import(path, last, name)
    return Import(module.__name__, "", name)


def binding(tree: ast.AST, name: str) -> ast.stmt | None:
    """The last top-level statement that binds a name, also under ``if`` and ``try``."""
    found: ast.stmt | None = None
    for stmt in getattr(tree, "body", []):
        if isinstance(stmt, ast.If | ast.Try):
            inner = binding(stmt, name) or binding(ast.Module(stmt.orelse, []), name)
            found = inner or found
        elif _binds(stmt, name):
            found = stmt
    return found


def _binds(stmt: ast.stmt, name: str) -> bool:
    if isinstance(stmt, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return stmt.name == name
    if isinstance(stmt, ast.Import | ast.ImportFrom):
        return any((a.asname or a.name.partition(".")[0]) == name for a in stmt.names)
    targets = stmt.targets if isinstance(stmt, ast.Assign) else [stmt.target] if isinstance(stmt, ast.AnnAssign) else []
    return any(
        n.id == name and isinstance(n.ctx, ast.Store) for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)
    )


def definition(name: str, stmt: ast.stmt, file: SourceFile, edits: tuple[Edit, ...] = ()) -> Chunk:
    """A helper taken over as it is."""
    is_definition = isinstance(stmt, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    return Chunk(name, file, stmt.lineno, statement_text(stmt, file, edits), {}, is_definition)


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
    notes = [n.annotation for n in ast.walk(tree) if isinstance(n, ast.arg | ast.AnnAssign) and n.annotation]
    notes += [n.returns for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.returns]
    names: set[str] = set()
    for note in notes:
        for part in ast.walk(note):
            if isinstance(part, ast.Constant) and isinstance(part.value, str):
                try:
                    names |= {n.id for n in ast.walk(ast.parse(part.value, mode="eval")) if isinstance(n, ast.Name)}
                except SyntaxError:
                    continue
    return names
