"""Which methods of author's classes stay: those that running, initialising and copying the network can reach."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass

from ..author import DROPPED, attribute_reads, attributes_set, code_in, methods_of
from ..text import FunctionNode, loaded_names
from .gather import free_names

Nodes = Mapping[type, ast.ClassDef]
SHOWN = frozenset({"__repr__", "__str__", "__format__", "__deepcopy__", "__copy__", "__getstate__", "__setstate__"})


class Reach:
    """``live``: the classes of modules. ``nodes``: these and their parents as they are written by their authors."""

    def __init__(self, live: Iterable[type], nodes: Nodes, helpers: Callable[[type, list[ast.AST]], set[str]]) -> None:
        self.lines = {cls: [c for c in cls.__mro__ if c in nodes] for cls in live}
        self.nodes = nodes
        self.helpers = helpers  # what functions read that code of a class calls
        self.methods = {cls: methods_of(node) for cls, node in nodes.items()}
        self._known: dict[tuple[object, ...], set[str]] = {}

    def reached(self, written: Mapping[type, ast.AST], shown: bool = True) -> dict[type, set[str]]:
        """By class. ``written``: the constructors in their new form. ``shown``: also by printing and copying."""
        self.found: dict[type, set[str]] = {cls: set() for cls in self.nodes}
        names = {"forward"} | {n for methods in self.methods.values() for n in methods if n.startswith("__")}
        names -= DROPPED if shown else DROPPED | SHOWN
        for cls in self.nodes:
            code = [*code_in(self.nodes[cls], set()), *([written[cls]] if cls in written else [])]
            names |= self._reads(cls, code) | (_in_body(self.nodes[cls]) & self.methods[cls].keys())
            for line in (line for line in self.lines.values() if cls in line):
                for part in code:
                    self._inherited(line, cls, part)
        known: set[str] = set()
        while known != names:
            known = set(names)
            for line in self.lines.values():
                for name in sorted(known - DROPPED):
                    self._resolve(line, name)
            for cls, methods in self.found.items():
                names |= self._reads(cls, [f for n in methods for f in self.methods[cls][n]])
        return self.found

    def _reads(self, cls: type, code: list[ast.AST]) -> set[str]:
        key = cls, *code
        if key not in self._known:
            self._known[key] = set().union(*map(attribute_reads, code)) | self.helpers(cls, code)
        return self._known[key]

    def _resolve(self, line: list[type], name: str) -> None:
        """Marks the method that instances of the first class of the line have under a name."""
        for cls in line:
            if name in self.methods[cls]:
                self.found[cls].add(name)
                for function in self.methods[cls][name]:
                    self._inherited(line, cls, function)
                return

    def _inherited(self, line: list[type], cls: type, part: ast.AST) -> None:
        """``super().name`` and ``Parent.name`` in code of one class of the line."""
        rest = line[line.index(cls) + 1 :]
        for node in ast.walk(part) if rest else ():
            if not isinstance(node, ast.Attribute) or node.attr in DROPPED:
                continue
            if isinstance(node.value, ast.Call) and ast.unparse(node.value.func) == "super":
                self._resolve(rest, node.attr)
            elif isinstance(node.value, ast.Name):
                named = next((c for c in rest if c.__name__ == node.value.id), None)
                if named is not None:
                    self._resolve(rest[rest.index(named) :], node.attr)


@dataclass(frozen=True)
class Unreached:
    """Methods that nothing reaches: they stay where they need nothing that isn't there anyway.

    ``held``: attributes that written modules have. ``there``: whether a global name of a class may stand in the file.
    ``whole``: classes that also keep methods which set attributes of their own. ``same``: those whose constructors
    still take the author's arguments.
    """

    reach: Reach
    held: Mapping[type, Set[str]]
    there: Callable[[type, str], bool]
    whole: Set[type]
    same: Set[type]

    def methods(self, only_init: Mapping[type, Set[str]]) -> dict[type, set[str]]:
        """By class. ``only_init``: methods that only the author's constructor called."""
        found = {
            cls: {n for n in methods if self._may_stay(cls, n) and n not in only_init[cls]}
            for cls, methods in self.reach.methods.items()
        }
        before = -1
        while before != (before := sum(map(len, found.values()))):
            for cls in found:
                found[cls] = {
                    n for n in found[cls] if all(self._holds(cls, f, found) for f in self.reach.methods[cls][n])
                }
        return found

    def _may_stay(self, cls: type, name: str) -> bool:
        """Whether a method is what instances have under its name, and global names in it are there."""
        functions = self.reach.methods[cls][name]
        if name in DROPPED | self.reach.found[cls] or (constructs(functions) and cls not in self.whole & self.same):
            return False
        lines = [line for line in self.reach.lines.values() if cls in line]
        had = any(next(c for c in line if name in self.reach.methods[c]) is cls for line in lines)
        return had and all(self.there(cls, n) for f in functions for n in free_names(ast.unparse(f)))

    def _holds(self, cls: type, function: FunctionNode, found: Mapping[type, set[str]]) -> bool:
        """Whether all that it reads and sets on ``self`` is there."""
        owner = function.args.args[0].arg if function.args.args else ""
        methods = {
            n for line in self.reach.lines.values() if cls in line for c in line for n in self.reach.found[c] | found[c]
        }
        held = self.held[cls] | methods
        own = [n for n in ast.walk(function) if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name)]
        if cls in self.whole:
            mine = [f for n in self.reach.found[cls] | found[cls] for f in self.reach.methods[cls][n]]
            held |= set().union(*map(attributes_set, mine))
            own = [n for n in own if isinstance(n.ctx, ast.Load)]
        return all(n.attr in held for n in own if n.value.id == owner)  # type: ignore[attr-defined]


def _in_body(node: ast.ClassDef) -> set[str]:
    """Names that a class's body itself reads, as ``again = forward`` and decorators do."""
    inside = [n for f in node.body if isinstance(f, FunctionNode) for stmt in f.body for n in ast.walk(stmt)]
    return loaded_names(node) - {n.id for n in inside if isinstance(n, ast.Name)}


def constructs(functions: Iterable[FunctionNode]) -> bool:
    """Whether a method is another constructor: ``cls(...)``."""
    for function in functions:
        names = {d.id for d in function.decorator_list if isinstance(d, ast.Name)}
        calls = [n.func for n in ast.walk(function) if isinstance(n, ast.Call)]
        if "classmethod" in names and any(isinstance(c, ast.Name) and c.id == "cls" for c in calls):
            return True
    return False
