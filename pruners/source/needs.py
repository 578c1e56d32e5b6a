"""Which of the author's methods the written network needs, and what code of his reads that runs with it."""

from __future__ import annotations

import ast
import copy
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from torch import nn

from ..errors import SourceError
from .author import (
    attribute_reads,
    attributes_set,
    code_in,
    factors,
    methods_of,
    only_compared,
    only_for,
    own,
    own_tests,
    reads_of_helpers,
    usual,
)
from .constructor import WrittenInit
from .file import Branches, Reach, Unreached
from .live import Tree, is_torch, torch_base
from .text import SourceFile


class Needs:
    """``classes``: those of the file, parents among them. ``written``: their constructors in the new form, as far as
    there are any; ``choose`` looks at them anew."""

    def __init__(self, tree: Tree, classes: Iterable[type], written: Mapping[type, WrittenInit]) -> None:
        self.tree = tree
        self.classes = list(classes)
        self.written = written
        self.beside = list(self._parents_that_are_no_modules())
        self.branches = Branches(tree.sources, tree.live.values())
        self.methods: dict[type, set[str]] = {}
        self.run_by_forward: set[str] = set()  # methods that run with the network
        self.running: set[str] = set()  # attributes that code reads which runs with the network
        self.computing: dict[type, set[str]] = {}  # by class, words whose values it uses for more than ``==``
        self.compared = set[str](), set[int]()  # the words, and numbers, that it compares
        self.reads_here: dict[type, set[str]] = {}  # by class, what its own running code reads
        self.tests: dict[type, list[ast.expr]] = {}  # conditions there on the module's own attributes alone

    def choose(self) -> None:
        """Those that are reached, first in the author's code, then in what is left of it without dead branches."""
        found = self._reached(lambda _, node: node)
        functions = [(cls, f) for cls, names in found.items() for n in names for f in self.reach.methods[cls][n]]
        stored = {a for _, f in functions for a in attributes_set(f)}
        self.tree.changing |= stored
        self.branches.settle([(cls, f) for cls, f in functions if cls not in self.beside], stored)
        self.methods = self._reached(self.branches.folded)
        running = self.reach.reached({}, shown=False)
        self.reach.found = self.methods
        self.tests, self.running, self.computing, self.compared = {}, set(), {}, (set(), set())
        self.run_by_forward = {f"{cls.__name__}.{n}" for cls, names in running.items() for n in names}
        for cls, names in running.items():
            trees = code_in(self.reach.nodes[cls], names)
            self.tests[cls] = [test for tree in trees for test in own_tests(tree)]
            self.running |= set().union(*(attribute_reads(t, self.tests[cls]) for t in trees))
            self.running |= self._helpers(cls, trees)
            self.reads_here[cls] = set().union(*map(attribute_reads, trees))
            self.computing[cls], words, numbers = only_compared(trees)
            self.compared = (self.compared[0] | words, self.compared[1] | numbers)

    def _reached(self, folded: Callable[[SourceFile, ast.AST], Any]) -> dict[type, set[str]]:
        of_class = self.tree.sources.of_class
        nodes = {cls: folded(*of_class(cls)) for cls in self.classes}
        nodes |= {cls: _of_instances(of_class(cls)[1]) for cls in self.beside}
        self.reach = Reach({type(m) for m in self.tree.live.values()}, nodes, self._helpers)
        return self.reach.reached({cls: ast.parse(mine.code) for cls, mine in self.written.items()})

    def reads(self) -> set[str]:
        reads: set[str] = set()
        for cls, methods in self.methods.items():
            written = [ast.parse(self.written[cls].code)] if cls in self.written else []
            trees = [*code_in(self.reach.nodes[cls], methods), *written]
            reads |= self._helpers(cls, trees).union(*map(attribute_reads, trees))
        return reads

    def _helpers(self, cls: type, trees: list[ast.AST]) -> set[str]:
        namespace = vars(sys.modules[cls.__module__]) if cls.__module__ in sys.modules else {}
        return reads_of_helpers(trees, namespace, self.tree.sources, self.branches.folded)

    def tests_on(self, cls: type) -> list[ast.expr]:
        """Conditions on the attributes of instances of the class, in its code and in its parents' and children's."""
        return [t for c, found in self.tests.items() if issubclass(c, cls) or issubclass(cls, c) for t in found]

    def reads_in(self, cls: type) -> set[str]:
        """What its running code reads, its parents' among it."""
        return set().union(*(self.reads_here.get(c, set()) for c in cls.__mro__))

    def computing_in(self, cls: type) -> set[str]:
        return {w for c, words in self.computing.items() for w in words if "." in w or c in cls.__mro__}

    def unreached(self, reads: set[str], there: Callable[[type, str], bool], same: set[type]) -> dict[type, set[str]]:
        """Methods that nothing reaches but that need nothing more. ``there``, ``same``: as in ``Unreached``."""
        held = {cls: self._held(cls, reads) - self.branches.switches.get(cls, set()) for cls in self.methods}
        only_init = {cls: self._only_init(cls) for cls in self.methods}
        whole = {cls for cls in self.methods if own(cls.__module__)}
        found = Unreached(self.reach, held, there, whole, same).methods(only_init)
        return {cls: names for cls, names in found.items() if names and cls not in self.beside}

    def _only_init(self, cls: type) -> set[str]:
        """Methods of a class that only its constructor needs."""
        nodes = [self.reach.nodes[c] for c in cls.__mro__ if c in self.reach.nodes]
        return only_for("__init__", nodes, self.methods[cls])

    def _held(self, cls: type, reads: set[str]) -> set[str]:
        """Attributes that all written instances of a class have."""
        live = [m for m in self.tree.live.values() if cls in type(m).__mro__]
        codes = {c: self.written[c].code for m in live for c in type(m).__mro__ if c in self.written}
        stored = {c: self._stored_by(c, ast.parse(code)) for c, code in codes.items()}
        found = [
            {*m._modules, *m._parameters, *m._buffers, *(n for n in vars(m) if n in reads), *dir(torch_base(type(m)))}
            | set().union(*(stored.get(c, set()) for c in type(m).__mro__))
            for m in live
        ]
        return set.intersection(*found) | reads & set(dir(cls)) if found else set()

    def _stored_by(self, cls: type, init: ast.AST) -> set[str]:
        """Attributes that a written constructor sets, itself or by methods that it calls."""
        called = {n.func.attr for n in ast.walk(init) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)}
        homes = [(methods_of(self.reach.nodes[c]), called & self.methods[c]) for c in cls.__mro__ if c in self.methods]
        code = [init, *(f for there, names in homes for n in names for f in there.get(n, ()))]
        return set().union(*map(attributes_set, code))

    def ratios(self, cls: type) -> set[str]:
        """Constants of a class with which constructors and their helpers multiply or divide, ``expansion``, say:
        between widths that differ now they aren't true any more. One changes nothing."""
        files = {self.tree.sources.of_class(c)[0] for c in self.reach.nodes}
        making: list[ast.AST] = [s for f in files for s in f.tree.body if isinstance(s, ast.FunctionDef)]
        for other, node in self.reach.nodes.items():
            making += [f for n in {"__init__", *self._only_init(other)} for f in methods_of(node).get(n, ())]
        return {n for n in set().union(*map(factors, making)) if vars(cls).get(n) != 1}

    def _parents_that_are_no_modules(self) -> Iterator[type]:
        """They stand in the file, or are imported by it, as they are: what they read on instances has to be there."""
        for cls in dict.fromkeys(c for m in self.tree.written.values() for c in type(m).__mro__):
            if not is_torch(cls) and not issubclass(cls, nn.Module) and not usual(cls.__module__.partition(".")[0]):
                try:
                    self.tree.sources.of_class(cls)
                except SourceError:  # one that a call made
                    continue
                yield cls


def _of_instances(node: ast.ClassDef) -> ast.ClassDef:
    """A class without what makes classes and instances."""
    making = {"__new__", "__init_subclass__", "__class_getitem__"}
    body = [s for s in node.body if not (isinstance(s, ast.FunctionDef) and s.name in making)]
    found = copy.copy(node)
    found.body = body
    return found
