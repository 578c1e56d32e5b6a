"""What stands in the author's file beside the network: it stays where it needs nothing that isn't there any more, and
is told by name and line where it doesn't."""

from __future__ import annotations

import ast
import builtins
import inspect
import math
import types
from collections import ChainMap
from collections.abc import Iterator, Mapping, Set
from dataclasses import replace
from functools import partial

import torch
from torch import nn

from ...entry import Entry
from ..author import namespace_of
from ..live import attempted, loading_nothing, undisturbed
from ..text import Definition, SourceFile, loaded_names, stored_names, value_named
from .check import run, sizes
from .gather import Chunk, Gatherer, free_names

_PLAIN = {"dict", "list", "tuple", "set", "frozenset", "range", "len", "int", "float", "zip", "enumerate", "min"}
_LIBRARIES = {"argparse", "collections", "dataclasses", "enum", "functools", "logging", "math", "pathlib", "re"}
_LIBRARIES |= {"types", "typing"}
_OF_TORCH = (torch.device, torch.tensor, torch.cuda.is_available, torch.cuda.device_count)
_KINDS = ("torch.nn.modules.loss", "torchvision.transforms")  # modules whose classes have no widths
SCRIPT = "__main__"


class Beside:
    """``taken``: the names that the written file has from this one already. ``sound``: functions that make the network
    as before, or the written one. ``barred``: names that may not stay; None: nothing may. ``factory``: what the
    function that makes the network is called, here and there, if it was written. ``added``: that it is called there."""

    def __init__(
        self, file: SourceFile, gatherer: Gatherer, sound: Set[str], barred: Set[str] | None, factory: Set[str],
        added: str,
    ) -> None:  # fmt: skip
        self.file = file
        self.added = added
        self.gatherer = gatherer
        self.namespace = namespace_of(file)
        self.names = ChainMap(dict(self.namespace), vars(builtins))
        self.sound = set(sound)
        self.statements = dict(_named(file))
        self.taken = {n for f, n in gatherer.chunks if f == file.name and n in self.statements}
        lines = {c.line for (f, _), c in gatherer.chunks.items() if f == file.name}
        rest = {n: s for n, s in self.statements.items() if n not in self.taken and s.lineno not in lines}
        self.rest = {n: s for n, s in rest.items() if n not in factory}
        inert = {n for n in self.rest if self._is_inert(n)}
        self.scripts = {n for n, s in self.rest.items() if n == SCRIPT or _gives_nothing(s) or n not in inert}
        may = self.rest.keys() - barred if barred is not None else set[str]()
        self.builders = {n for n in may if self._builds(n, set())}
        self.staying = self._staying(may & inert)

    def chunks(self) -> Iterator[Chunk]:
        for name in self.staying:
            stmt = self.rest[name]
            is_definition = not isinstance(stmt, ast.Assign | ast.AnnAssign)
            yield Chunk(name, self.file, stmt.lineno, self._text(name, stmt), {}, is_definition)

    def others(self, text: str, entry: Entry) -> set[str]:
        """Functions that would make other networks in the written file than they do in the author's."""
        tried = self.builders & self.staying.keys()
        return {n for n in tried if not attempted(f"{n} can't stay", partial(self._makes_the_same, text, entry, n))}

    def _makes_the_same(self, text: str, entry: Entry, name: str) -> bool:
        with loading_nothing(), undisturbed():
            made = self.namespace[name]()
            return isinstance(made, nn.Module) and sizes(made) == sizes(run(text, replace(entry, name=name)))

    @property
    def lost(self) -> list[str]:
        """What doesn't stay, by name and line."""
        there = {id(self.statements[n]) for n in self.staying}
        gone = [(s.lineno, n) for n, s in self.rest.items() if id(s) not in there]
        names = {n: "if __name__" if n == SCRIPT else n for _, n in gone}
        return [f"{names[name]} (line {line})" for line, name in sorted(gone)]

    def _text(self, name: str, stmt: ast.stmt) -> str:
        listed = self._listed() if name == "__all__" else None
        if listed is None:
            return self.gatherer.text_of(stmt, self.file)
        there = self.taken | set(self.staying)
        kept = [self.file.segment(n) for n in listed.elts if isinstance(n, ast.Constant) and n.value in there]
        new = self.added not in ("", *(n.value for n in listed.elts if isinstance(n, ast.Constant)))
        if len(kept) == len(listed.elts) and not new:
            return self.gatherer.text_of(stmt, self.file)
        mark = kept[0][-1] if kept else self.file.segment(listed.elts[0])[-1] if listed.elts else '"'
        kept += [f"{mark}{self.added}{mark}"] if new else []
        inner = ", ".join(kept) + ("," if isinstance(listed, ast.Tuple) and len(kept) == 1 else "")
        return f"__all__ = [{inner}]\n" if isinstance(listed, ast.List) else f"__all__ = ({inner})\n"

    def _listed(self) -> ast.List | ast.Tuple | None:
        value = getattr(self.rest.get("__all__"), "value", None)
        words = isinstance(value, ast.List | ast.Tuple) and all(isinstance(e, ast.Constant) for e in value.elts)
        return value if words and isinstance(value, ast.List | ast.Tuple) else None

    def _staying(self, names: set[str]) -> dict[str, None]:
        texts = [ast.parse(c.text) for (f, _), c in self.gatherer.chunks.items() if f == self.file.name]
        written = set[str]().union(*map(loaded_names, texts))
        loads = {n: loaded_names(s) for n, s in self.statements.items()}
        while True:
            read = self._read_in(names, written, loads)
            kept = {n for n in names if n in read and self._has_its_names(n, names) and self._is_unchanged(n, names)}
            if kept == names:
                return {n: None for n in self.rest if n in kept}
            names = kept

    def _read_in(self, staying: Set[str], written: Set[str], loads: Mapping[str, Set[str]]) -> set[str]:
        """Names that are read now, or that nothing in the author's file read either; functions and classes, too, that a
        script read which is gone (``main``): others may read them from outside. ``written``: what the written code
        reads; ``loads``: what each of the author's statements does."""
        readers = {n: {m for m, read in loads.items() if m != n and n in read} for n in staying}
        found = {n for n in staying if isinstance(self.rest[n], Definition) and readers[n] & self.scripts}
        found |= {n for n in staying if not readers[n]}
        others = {n: [loads[m] for m in staying if self.rest[m] is not self.rest[n]] for n in staying}
        return found | {n for n in staying if n in written or any(n in read for read in others[n])}

    def _is_inert(self, name: str) -> bool:
        """Whether nothing happens where the statement runs while the file is imported."""
        stmt = self.rest[name]
        several = sum(s is stmt for s in self.statements.values()) > 1
        if (several and not isinstance(stmt, ast.Assign)) or len(self.file.bound.get(name, ())) > 1:
            return False
        if name == "__all__":
            return self._listed() is not None
        if isinstance(stmt, Definition):
            return all(self._is_plain_call(c) for d in stmt.decorator_list for c in (d, *ast.walk(d)))
        if isinstance(stmt, ast.Assign | ast.AnnAssign) and stmt.value is not None:
            return all(self._is_plain_call(f) for f in _called_at_once(stmt.value))
        return name == SCRIPT

    def _is_plain_call(self, func: ast.AST) -> bool:
        """Whether a call makes a value and does nothing else: of builtins, of plain libraries, of torch's devices and
        losses, of the file's own classes that are no modules."""
        if not isinstance(func, ast.Name | ast.Attribute):
            return True
        value = value_named(func, self.names)
        if isinstance(value, types.ModuleType):
            return True
        module = getattr(value, "__module__", "") or ""
        own = isinstance(value, type) and module == self.namespace.get("__name__") and not issubclass(value, nn.Module)
        known = isinstance(func, ast.Name) and func.id in _PLAIN and value is getattr(builtins, func.id)
        known |= any(value is one for one in _OF_TORCH) or (isinstance(value, type) and module.startswith(_KINDS))
        return own or known or module.partition(".")[0] in _LIBRARIES

    def _has_its_names(self, name: str, staying: Set[str]) -> bool:
        own = stored_names(self.rest[name]) if name != SCRIPT else set()
        needed = free_names(ast.unparse(self.rest[name])) - own - {"__file__", "__name__", "__class__"} - self.taken
        return all(n not in self.statements and self.gatherer.there(n, self.file, True) for n in needed - staying)

    def _is_unchanged(self, name: str, staying: Set[str]) -> bool:
        """Whether all that it calls is as its author wrote it, or makes networks as before."""
        readers = {n for n in (*self.taken, *staying) if n != name and name in loaded_names(self.statements[n])}
        given = isinstance(self.rest[name], ast.Assign | ast.AnnAssign) and readers and readers <= self.builders
        if name == "__all__" or name in self.builders or given:
            return True
        todo, seen = [self.rest[name]], set[str]()
        while todo:
            for called in _uses(todo.pop()) & self.statements.keys() - seen - self.sound - self.builders:
                seen.add(called)
                written = self.gatherer.chunks[self.file.name, called].text if called in self.taken else ""
                if written and ast.dump(ast.parse(written)) != ast.dump(ast.Module([self.statements[called]], [])):
                    return False
                todo.append(self.statements[called])
        return True

    def _builds(self, name: str, seen: Set[str]) -> bool:
        """Whether a function without arguments only makes modules."""
        stmt, value = self.statements.get(name), self.namespace.get(name)
        if not isinstance(stmt, ast.FunctionDef) or not isinstance(value, types.FunctionType) or name in seen:
            return False
        if not seen and any(p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
                            for p in inspect.signature(value).parameters.values()):  # fmt: skip
            return False
        odd = (ast.With, ast.Try, ast.Import, ast.ImportFrom, ast.Global, ast.While, ast.Await, ast.Yield, ast.Raise)
        inside = [n for s in stmt.body for n in ast.walk(s)]
        calls = [n.func for n in inside if isinstance(n, ast.Call)]
        plain = all(self._makes(f, {*seen, name}) for f in calls) and not any(isinstance(n, odd) for n in inside)
        return plain and any(isinstance(n, ast.Return) and isinstance(n.value, ast.Call | ast.Name) for n in inside)

    def _makes(self, func: ast.expr, seen: Set[str]) -> bool:
        value = value_named(func, self.names)
        if isinstance(value, type) and issubclass(value, nn.Module):
            return True
        if isinstance(value, types.FunctionType) and isinstance(func, ast.Name) and func.id in self.statements:
            return self._builds(func.id, seen)
        of_math = isinstance(func, ast.Attribute) and value_named(func.value, self.names) is math
        return of_math or (isinstance(func, ast.Name | ast.Attribute) and self._is_plain_call(func))


def _uses(stmt: ast.stmt) -> set[str]:
    """Names of the file that a statement reads to do something with: not those in annotations, or in ``isinstance``."""
    notes = [n for n in ast.walk(stmt) if isinstance(n, ast.arg | ast.FunctionDef | ast.AnnAssign)]
    told = [getattr(n, "annotation", None) or getattr(n, "returns", None) for n in notes]
    told += [n.args[1] for n in ast.walk(stmt) if isinstance(n, ast.Call) and ast.unparse(n.func) == "isinstance"
             and len(n.args) == 2]  # fmt: skip
    unread = {id(i) for t in told if t is not None for i in ast.walk(t)}
    used = {n.id for n in ast.walk(stmt) if isinstance(n, ast.Name) and id(n) not in unread}
    return used & free_names(ast.unparse(stmt))


def _named(file: SourceFile) -> Iterator[tuple[str, ast.stmt]]:
    """The statements at the top of a file by what they bind; others by their text."""
    for stmt in file.tree.body:
        remark = isinstance(stmt, ast.Expr) and isinstance(stmt.value, ast.Constant)  # a text
        if isinstance(stmt, ast.Import | ast.ImportFrom) or remark:
            continue
        if isinstance(stmt, ast.If) and ast.unparse(stmt.test).startswith("__name__ =="):
            yield SCRIPT, stmt
        elif isinstance(stmt, Definition):
            yield stmt.name, stmt
        elif names := sorted(stored_names(stmt)):
            yield from ((n, stmt) for n in names)
        elif any(not isinstance(s, ast.Import | ast.ImportFrom | ast.Pass) for s in _inside(stmt)):
            yield ast.unparse(stmt).split("\n")[0][:40], stmt


def _called_at_once(node: ast.AST) -> list[ast.expr]:
    """What an expression calls while the file is imported: not what a ``lambda`` in it calls later."""
    if isinstance(node, ast.Lambda):
        return []
    mine = [node.func] if isinstance(node, ast.Call) else []
    return [*mine, *(f for child in ast.iter_child_nodes(node) for f in _called_at_once(child))]


def _inside(stmt: ast.stmt) -> list[ast.stmt]:
    """The statements in branches, or the statement itself."""
    blocks = [getattr(stmt, n, []) for n in ("body", "orelse", "handlers", "finalbody")]
    found = [s for b in blocks for s in b]
    return [i for s in found for i in _inside(s)] if found else [stmt]


def _gives_nothing(stmt: ast.stmt) -> bool:
    """Whether it is a function that is there for what it does."""
    returns = (n.value for n in ast.walk(stmt) if isinstance(n, ast.Return))
    return isinstance(stmt, ast.FunctionDef) and all(value is None for value in returns)
