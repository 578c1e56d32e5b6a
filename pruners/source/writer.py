"""From a live, sliced network to the text of one standalone file."""

from __future__ import annotations

import ast
import copy
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from ..entry import Entry
from ..errors import SourceError
from ..model_writers import writer_of
from ..places import LiteralSite, Span
from ..run import same_mode
from .author import (
    AuthorClass,
    Library,
    attribute_reads,
    attributes_set,
    binding,
    choose_imported,
    code_in,
    factors,
    homes_of,
    methods_of,
    named_values,
    only_compared,
    only_for,
    own,
    own_tests,
    reads_of_helpers,
    top_name,
    usual,
)
from .constructor import (
    INDENT,
    Circle,
    ClassContext,
    ClassWriter,
    Made,
    Parameter,
    Replays,
    ScriptNumbers,
    WrittenInit,
)
from .file import (
    Beside,
    Branches,
    Changes,
    Chunk,
    ClassParts,
    Edit,
    Gatherer,
    Header,
    Reach,
    Rewrites,
    Unreached,
    as_written,
    broken_choices,
    called,
    check,
    class_text,
    factory_chunk,
    failing_lines,
    follow_beside,
    gone_parameters,
    loaders,
    losses,
    namespace,
    plan_rewrites,
    render,
    repairs,
    returning,
    run,
    set_from_outside,
    shared,
    sizes,
    source_of,
    stale,
    statement_text,
    tie,
    top_of,
)
from .live import Recorder, Tree, Unsaid, is_torch, loading_nothing, refuse, torch_base, with_equal_sides
from .text import SourceFile, Sources, encloses, span_of, stored_names

log = logging.getLogger(__name__)
ROUNDS = 5


@dataclass(frozen=True)
class Written:
    """The text of the file. ``lost``: ``Class.name`` of what the author's classes hold and the written ones don't, and
    ``factory(parameter)``. ``stale``: of attributes that have a number which a size had and has no more. ``loads``:
    functions that can load weights, which no longer fit. ``newline``: what ends the lines of the author's file."""

    text: str
    lost: tuple[str, ...]
    stale: tuple[str, ...]
    loads: tuple[str, ...] = ()
    newline: str = "\n"

    def encoded(self) -> bytes:
        """The file, with lines that end as the author's do."""
        return self.text.replace("\n", self.newline).encode()


def write_source(
    model: nn.Module, entry: Entry, *, rewrites: Sequence[LiteralSite] = (), header: Header | None = None
) -> str:
    """The text that ``write`` gives."""
    return write(model, entry, rewrites=rewrites, header=header).text


def write(
    model: nn.Module, entry: Entry, *, rewrites: Sequence[LiteralSite] = (), header: Header | None = None,
    example: Any = None,
) -> Written:  # fmt: skip
    """The text of one standalone Python file whose ``entry.name()`` gives a network like ``model``.

    ``model`` is a live module tree with the widths that are wanted: its tensors and the attributes of its layers are
    right already. Class tree, state_dict (keys, order, shapes, types) and behaviour are the model's; the file imports
    torch and what the author's kept code needs. ``rewrites``: expressions in the author's code that hold stale numbers.
    ``example``: what the network runs on, for what stands beside ``forward``; None leaves that as it is.
    Raises SourceError, with file and line, for what can't be written. The model is not touched.
    """
    def written(again: bool, factory: bool) -> Written:
        with same_mode(model):  # networks that the author's code makes may share layers with this one
            return _write(model, entry, rewrites, header, example, again, factory)

    for again in (True, False):
        try:
            return written(again, factory=True)
        except SourceError as error:
            log.info("%s written anew: %s", "constructors are" if again else "the factory is", error)
    return written(again=False, factory=False)


def _write(
    model: nn.Module, entry: Entry, rewrites: Sequence[LiteralSite], header: Header | None, example: Any, again: bool,
    factory: bool,
) -> Written:  # fmt: skip
    """The file. ``again``: with the author's constructors where they make the same with other numbers. ``factory``:
    with his factory, where only the call in it is another."""
    sources = Sources()
    tree = Tree(model, entry, sources)
    model = tree.model
    choose_imported(tree, rewrites)
    refuse(tree)
    writing = _Writing(tree, plan_rewrites(rewrites, tree, sources), again, factory)
    writing.write_classes()
    text, twin = writing.first(header)
    missing = [tie(model, pair, tree.instances) for pair in shared(model, twin)]
    inside = {cls: attributes_set(node) for cls, node in writing.reach.nodes.items()}
    was = {path: b.module for path, b in tree.births.items()}
    outside = set_from_outside(model, twin, was, inside, writing.scripts.expected, writing.running)
    missing += [(type(model), line) for line in (*outside, *repairs(model, twin))]
    for cls in dict.fromkeys(c for c, _ in missing):
        writing.finish(cls, list(dict.fromkeys(line for c, line in missing if c is cls)))
    if missing:
        text = writing.text(header)
    made = check(text, tree)
    lost = [*losses(model, made), *gone_parameters(entry, text), *writing.gone_arguments()]
    lost += [t for w in writing.written.values() for t in w.lost] + [t for b in writing.beside_it for t in b.lost]
    old = [*writing.stale_constants()]
    old += stale(model, made, was, text, writing.running, writing.scripts.expected, writing.scripts.doubts)
    if "" in was and example is not None:
        lost += writing.broken_choices(made, example)
        text, more = follow_beside(text, was[""], made, entry.name, writing.is_idle, example)
        old += more
    newline = writing.root_file().newline
    return Written(text, tuple(dict.fromkeys(lost)), tuple(old), tuple(loaders(text)), newline)


class _Writing:
    def __init__(self, tree: Tree, rewrites: Rewrites, again: bool, factory: bool) -> None:
        self.tree = tree
        self.rewrites = rewrites
        self.traces = Replays(tree)
        self.replays = self.traces if again else None
        self.scripts = ScriptNumbers(self.traces)
        self.authors = {cls: AuthorClass(cls, tree.sources) for cls in tree.instances}
        self.plain = [c for c in tree.names if c not in self.authors]  # parents, and layers without a constructor
        self.beside = list(self._parents_that_are_no_modules())
        self.written: dict[type, WrittenInit] = {}
        self.methods: dict[type, set[str]] = {}
        self.run_by_forward: set[str] = set()  # methods that run with the network
        self.running: set[str] = set()  # attributes that code reads which runs with the network
        self.computing: dict[type, set[str]] = {}  # by class, words whose values it uses for more than ``==``
        self.compared = set[str](), set[int]()  # the words, and numbers, that it compares
        self.reads_here: dict[type, set[str]] = {}  # by class, what its own running code reads
        self.tests: dict[type, list[ast.expr]] = {}  # conditions there on the module's own attributes alone
        self.branches = Branches(tree.sources, tree.live.values())
        self.own_factory = factory  # whether the author's factory is tried
        self.barred: set[str] | None = None  # what of the author's file may not stay beside the network; None: nothing
        self.beside_it: list[Beside] = []

    def _parents_that_are_no_modules(self) -> Iterator[type]:
        """They stand in the file, or are imported by it, as they are: what they read on instances has to be there."""
        for cls in dict.fromkeys(c for m in self.tree.written.values() for c in type(m).__mro__):
            if not is_torch(cls) and not issubclass(cls, nn.Module) and not usual(cls.__module__.partition(".")[0]):
                try:
                    self.tree.sources.of_class(cls)
                except SourceError:  # one that a call made
                    continue
                yield cls

    def write_classes(self) -> None:
        keep = {"forward", *(n for names in self.rewrites.attributes.values() for n in names)}
        for _ in range(ROUNDS):
            self._choose_methods()
            reads = self._reads()
            if reads <= keep and self.written:
                return
            keep |= reads
            while not self._write_constructors(keep):
                pass

    def _write_constructors(self, keep: set[str]) -> bool:
        """False where an object can't be handed to a constructor after all, which then has to do without, or where a
        loop can't stay, for which blocks would be written otherwise."""
        gone = len(self.replays.gone) if self.replays is not None else 0
        self.scripts = ScriptNumbers(self.traces)
        if self.replays is not None:
            self.replays.begin()
        recorder = Recorder(self.tree, self.rewrites.attributes, self.rewrites.held)
        try:
            for made in self._constructors(recorder, keep):
                for cls, (_, written) in made.items():
                    self.written[cls] = written
                    recorder.calls.update(written.calls)
        except Unsaid as unsaid:
            self.tree.unsaid[id(unsaid.value)] = unsaid.value
            return False
        if self.replays is None:
            return True
        for cls in [c for c in self.written if c not in self.authors]:
            del self.written[cls]
        self.written.update(self.replays.parents())
        return len(self.replays.gone) == gone

    def _constructors(self, recorder: Recorder, keep: set[str]) -> Iterator[Made]:
        """Class by class; those that contain one another together."""

        def context_of(cls: type[nn.Module]) -> ClassContext:
            return self._context(cls, recorder, keep)

        for cls in self.tree.instances:
            circle = self.tree.circles.get(cls, [cls])
            if circle[0] is cls and cls in self.tree.circles:
                yield Circle(self.tree, circle, self.authors).write(recorder, context_of)
            elif circle[0] is cls:
                context = context_of(cls)
                again = self.replays.write(context, recorder) if self.replays is not None else None
                if again is None:
                    context.traced = self.scripts.values(context)
                yield {cls: (context, again or ClassWriter(context).write())}

    def _context(self, cls: type[nn.Module], recorder: Recorder, keep: set[str]) -> ClassContext:
        idle = self.branches.switches.get(cls, set())  # they only chose between branches of which one is left
        paths, whole = self.tree.instances[cls], own(cls.__module__)
        tests = [t for c, found in self.tests.items() if issubclass(c, cls) or issubclass(cls, c) for t in found]
        here = set().union(*(self.reads_here.get(c, set()) for c in cls.__mro__))
        computing = {w for c, words in self.computing.items() for w in words if "." in w or c in cls.__mro__}
        records, bases = [recorder.record(p) for p in paths], [recorder.base_call(p) for p in paths]
        running = self.running.union(idle, *(recorder.added.get(p, ()) for p in paths))
        return ClassContext(
            self.tree, self.authors[cls], list(paths), records, bases, keep, running, whole=whole, tests=tests,
            computing=computing, compared=self.compared, reads_here=here,
        )  # fmt: skip

    def _choose_methods(self) -> None:
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
            self.running |= self._reads_of_helpers(cls, trees)
            self.reads_here[cls] = set().union(*map(attribute_reads, trees))
            self.computing[cls], words, numbers = only_compared(trees)
            self.compared = (self.compared[0] | words, self.compared[1] | numbers)

    def _reached(self, folded: Callable[[SourceFile, ast.AST], Any]) -> dict[type, set[str]]:
        of_class = self.tree.sources.of_class
        nodes = {cls: folded(*of_class(cls)) for cls in (*self.authors, *self.plain)}
        nodes |= {cls: _of_instances(of_class(cls)[1]) for cls in self.beside}
        self.reach = Reach({type(m) for m in self.tree.live.values()}, nodes, self._reads_of_helpers)
        return self.reach.reached({cls: ast.parse(_code(mine)) for cls, mine in self.written.items()})

    def _reads(self) -> set[str]:
        reads: set[str] = set()
        for cls, methods in self.methods.items():
            written = [ast.parse(_code(self.written[cls]))] if cls in self.written else []
            trees = [*code_in(self.reach.nodes[cls], methods), *written]
            reads |= self._reads_of_helpers(cls, trees).union(*map(attribute_reads, trees))
        return reads

    def _reads_of_helpers(self, cls: type, trees: list[ast.AST]) -> set[str]:
        namespace = vars(sys.modules[cls.__module__]) if cls.__module__ in sys.modules else {}
        return reads_of_helpers(trees, namespace, self.tree.sources, self.branches.folded)

    def finish(self, cls: type, statements: list[str]) -> None:
        """Adds statements to the end of a class's constructor."""
        mine = self.written.get(cls)
        if mine is None or not mine.lines:
            raise SourceError(f"{cls.__qualname__} has no constructor that could say: {'; '.join(statements)}")
        own = {s.strip() for s in mine.lines}
        added = [" " * INDENT + s for s in statements if s not in own]
        extra = {**mine.extra, **({"torch": torch} if any("torch." in s for s in added) else {})}
        self.written[cls] = replace(mine, lines=[*mine.lines, *([""] if added else []), *added], extra=extra)

    # the file

    def first(self, header: Header | None) -> tuple[str, nn.Module]:
        """The text and its model, without what only initialises weights and can't do it with the new widths."""
        text, twin = self._alone(header)
        return self._with_the_rest(header) or text, twin

    def _with_the_rest(self, header: Header | None) -> str | None:
        """The text with what else of the author's file can stay; other functions that make networks only where those
        are as before."""
        if not any(b.rest for b in self.beside_it):
            return None
        self.barred = set()
        try:
            while True:
                text = self.text(header)
                if not (wrong := set().union(*(b.others(text, self.tree.entry) for b in self.beside_it))):
                    return text
                self.barred |= wrong
        except SourceError as error:
            log.info("the network stands alone: %s", error)
            self.barred = None
            return self.text(header)

    def _alone(self, header: Header | None) -> tuple[str, nn.Module]:
        while True:
            text = ""
            try:
                text = self.text(header)
                if not self.own_factory:
                    return text, run(text, self.tree.entry)
                with loading_nothing():
                    twin = run(text, self.tree.entry)
                if sizes(twin) == sizes(self.tree.model):
                    return text, twin
                self.own_factory = False
            except SourceError as error:
                if text and self._without(text, error):
                    continue
                if not self.own_factory:
                    raise
                self.own_factory = False

    def _without(self, text: str, error: SourceError) -> bool:
        """Takes the statement out of a constructor that failed, if it only checks or initialises, or sets what nothing
        reads."""
        lines, read = text.splitlines(), self.running.union(*(_own_reads(_code(w)) for w in self.written.values()))
        for failed in (lines[n - 1] for n in failing_lines(error)):
            for cls, mine in self.written.items():
                code = _code(mine).split("\n")[1:]
                for stmt in _removable(mine):
                    own = slice(stmt.lineno - 2, (stmt.end_lineno or 0) - 1)
                    if failed in code[own] and not (sets := attributes_set(stmt)) & read:
                        kept = [*code[: own.start], *code[own.stop :]]
                        told = [] if sets else [f"{cls.__qualname__}.__init__ ({code[own.start].strip()})"]
                        self.written[cls] = replace(mine, lines=kept, lost=(*mine.lost, *told))
                        self._choose_methods()
                        return True
        return False

    def text(self, header: Header | None) -> str:
        entry, sources = self.tree.entry, self.tree.sources
        gatherer = Gatherer(sources, homes_of(self.tree.model), self._library(), self._statement)
        reads = self._reads()
        root = type(self.tree.model)
        for cls in (*self.plain, *self.authors):
            if not (self.tree.bare and cls is root):
                gatherer.add(self._class_chunk(cls, reads, self.methods[cls]))
        parameters = self.written[root].parameters if root in self.written else []
        factory: Chunk | None
        if self.replays is not None and self.replays.factory:
            factory = as_written(entry, self.replays.arguments, sources, self._statement)
        elif self.tree.bare:
            factory = returning(entry, self.authors[root], self.written[root])
        else:
            factory = self._called(parameters) if self.own_factory else None
            birth, name = self.tree.birth(""), self.tree.names[root]
            factory = factory or factory_chunk(entry, root, name, parameters, birth, sources)
        if factory is not None:
            gatherer.add(factory)
        gatherer.close()
        for cls, methods in self._unreached(gatherer, reads).items():
            gatherer.put(self._class_chunk(cls, reads, self.methods[cls] | methods))
        gatherer.close()
        sound = {entry.name} if factory is not None and not gone_parameters(entry, factory.text) else set[str]()
        if entry.name == self.tree.names[root] and root in self.written:  # the class is what one makes the network with
            sound |= {entry.name} if not self._gone(root) else set()
        theirs = getattr(entry.factory, "__name__", entry.name)  # a pruner class may give it another name
        made = {entry.name, theirs} if factory is not None else set[str]()
        made |= {root.__name__} if self.tree.bare else set()
        added = entry.name if factory is not None else ""
        self.beside_it = [Beside(f, gatherer, sound, self.barred, made, added) for f in self._users_files()]
        for beside in self.beside_it:
            for chunk in beside.chunks():
                gatherer.add(chunk)
            if factory is not None and factory.file is beside.file and beside.staying and theirs in beside.statements:
                factory.line = beside.statements[theirs].lineno  # among the others
        gatherer.close()
        files = [c.file for c in gatherer.chunks.values() if c.file]
        future = any(binding(file, "annotations") is not None for file in files)
        imports, chunks = gatherer.finished(notes=not future)
        users = own(type(self.tree.model).__module__)
        top = top_of(self.root_file(), users)
        return render(entry, header, top, imports, chunks, future, self.root_file() if users else None)

    def stale_constants(self) -> Iterator[str]:
        """Names at the top of the author's files, with their lines, that still have a number which counts others."""
        lines = {(f, c.line) for b in self.beside_it for (f, _), c in b.gatherer.chunks.items() if not c.is_definition}
        edited = self.replays.numbers if self.replays is not None else {}
        for key in sorted(self.scripts.constants - edited.keys(), key=str):
            file = self.tree.sources.file(key.file)
            for stmt in file.tree.body if file is not None else ():
                there = [n for n, value in named_values(stmt) if encloses(span_of(value), key.span)]
                if there and (key.file, stmt.lineno) in lines:
                    yield f"{there[0]} (line {stmt.lineno})"

    def _users_files(self) -> list[SourceFile]:
        """The files that the user handed over: those of the network's class and of the function that makes it."""
        place = source_of(self.tree.entry.factory, self.tree.sources)
        files = [self.root_file(), *([place[0]] if place is not None else [])]
        modules = [type(self.tree.model).__module__, getattr(self.tree.entry.factory, "__module__", "")]
        ours = f"{__name__.partition('.')[0]}."
        mine = [f for f, m in zip(files, modules, strict=False) if own(m) and not m.startswith(ours)]
        return list({f.name: f for f in mine}.values())

    def _library(self) -> Library:
        """What can't be imported: classes that are written, and functions in which a number changes."""
        of_class = self.tree.sources.of_class
        classes = {(file.name, node.name) for file, node in map(of_class, self.tree.names)}
        imported = {(file.name, node.name) for file, node in map(of_class, self.tree.imported)}
        edits = self._edits()
        files = {name: self.tree.sources.file(name) for name in edits}
        lines = {(name, e.span[0]) for name, found in edits.items() for e in found}
        edited = {top_name(file, line) for name, line in lines if (file := files[name]) is not None}
        return Library(self.tree.sources, classes | edited, imported)

    def _unreached(self, gatherer: Gatherer, reads: set[str]) -> dict[type, set[str]]:
        """Methods that nothing reaches but that need nothing more."""
        held = {cls: self._held(cls, reads) - self.branches.switches.get(cls, set()) for cls in self.methods}
        files = {cls: self.tree.sources.of_class(cls)[0] for cls in self.methods}
        only_init = {
            cls: only_for("__init__", [self.reach.nodes[c] for c in cls.__mro__ if c in self.reach.nodes], found)
            for cls, found in self.methods.items()
        }
        unreached = Unreached(
            self.reach,
            held,
            lambda cls, name: (gatherer.known if own(cls.__module__) else gatherer.there)(name, files[cls]),
            {cls for cls in self.methods if own(cls.__module__)},
            {cls for cls in self.methods if self._takes_the_same(cls)},
        )
        return {cls: names for cls, names in unreached.methods(only_init).items() if names and cls not in self.beside}

    def _held(self, cls: type, reads: set[str]) -> set[str]:
        """Attributes that all written instances of a class have."""
        live = [m for m in self.tree.live.values() if cls in type(m).__mro__]
        codes = {c: _code(self.written[c]) for m in live for c in type(m).__mro__ if c in self.written}
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

    def _author(self, cls: type) -> AuthorClass:
        return self.authors.get(cls) or AuthorClass(cls, self.tree.sources)

    def _takes_the_same(self, cls: type) -> bool:
        """Whether the constructor still takes what the author's takes."""
        takes = [p.name for p in self.written[cls].parameters] if cls in self.written else None
        return takes is None or takes == list(self._author(cls).parameters)

    def _gone(self, cls: type) -> list[str]:
        """What the author's constructor took and the written one doesn't."""
        stay = {p.name for p in self.written[cls].parameters} if cls in self.written else None
        return [n for n in self._author(cls).parameters if stay is not None and n not in stay]

    def gone_arguments(self) -> Iterator[str]:
        """``Class(argument)`` for each that a constructor of the user's took and takes no more."""
        for cls in self.written:
            if cls in self.authors and own(cls.__module__):
                yield from (f"{cls.__qualname__}({n})" for n in self._gone(cls))

    def broken_choices(self, made: nn.Module, example: Any) -> list[str]:
        """Values of arguments, of the function that makes the network and of its class, that work no more."""
        entry, root, names = self.tree.entry, type(self.tree.model), namespace(made)
        here = names.get(entry.name)
        file, found = self.root_file(), list[str]()
        if callable(here):
            found += broken_choices(entry.factory, here, entry.kwargs, file, example)
        if entry.factory is not root and root in self.authors and own(root.__module__):
            found += broken_choices(root, type(made), {}, file, example)
        return found

    def _called(self, parameters: Sequence[Parameter]) -> Chunk | None:
        """The author's factory with another call of the root's class."""
        tree, root = self.tree, type(self.tree.model)
        return called(tree.entry, root, parameters, tree.birth(""), tree.sources, self._statement)

    def _statement(self, stmt: ast.stmt, file: SourceFile, more: Sequence[Edit] = ()) -> str:
        if isinstance(stmt, ast.FunctionDef | ast.AsyncFunctionDef):
            self.branches.settle_function(file, stmt)
        changes = self._changes(file)
        return statement_text(stmt, file, replace(changes, edits=(*changes.edits, *more)))

    def is_idle(self, name: str) -> bool:
        """Whether a function, or a method with its class, stands in the file for others than the network."""
        method = "." in name and name not in self.run_by_forward and not name.endswith(".__init__")
        return method or any(name in b.staying for b in self.beside_it)

    def _edits(self) -> Mapping[str, tuple[Edit, ...]]:
        """Numbers that change, by file."""
        found, numbers = dict(self.rewrites.edits), dict[str, dict[Span, str]]()
        for file, span, text in self.replays.edits() if self.replays is not None else ():
            numbers.setdefault(file, {})[span] = text
        for file, edits in numbers.items():
            now = with_equal_sides(self.tree.sources.file(file), edits)
            found[file] = (*found.get(file, ()), *(Edit(span, text) for span, text in now.items()))
        return found

    def _changes(self, file: SourceFile) -> Changes:
        return Changes(self._edits().get(file.name, ()), self.branches.settled.get(file.name, {}))

    def root_file(self) -> SourceFile:
        return self.tree.sources.of_class(type(self.tree.model))[0]

    def _class_chunk(self, cls: type, reads: set[str], methods: set[str]) -> Chunk:
        author, mine = self._author(cls), self.written.get(cls)
        attributes = reads | {"__constants__", "forward"}
        if own(cls.__module__):
            bound = [stored_names(s) for s in author.node.body if isinstance(s, ast.Assign | ast.AnnAssign)]
            attributes |= set().union(*bound) - (self._ratios(cls) - reads)
        untouched = mine is None and "__init__" in methods
        gone = set(author.parameters) if mine is None and not untouched else set(self._gone(cls))
        parts = ClassParts(mine.lines if mine else [], methods, attributes, self._changes(author.file), gone)
        text = writer_of(cls).class_source(cls, self._instances(cls), class_text(author, parts))
        extra = mine.extra if mine else {}
        return Chunk(cls.__name__, author.file, author.node.lineno, text, extra, target=self.tree.names[cls])

    def _ratios(self, cls: type) -> set[str]:
        """Constants of a class with which constructors and their helpers multiply or divide, ``expansion``, say:
        between widths that differ now they aren't true any more. One changes nothing."""
        files = {self.tree.sources.of_class(c)[0] for c in self.reach.nodes}
        making: list[ast.AST] = [s for f in files for s in f.tree.body if isinstance(s, ast.FunctionDef)]
        for other, node in self.reach.nodes.items():
            nodes = [self.reach.nodes[c] for c in other.__mro__ if c in self.reach.nodes]
            names = {"__init__", *only_for("__init__", nodes, self.methods[other])}
            making += [f for n in names for f in methods_of(node).get(n, ())]
        return {n for n in set().union(*map(factors, making)) if vars(cls).get(n) != 1}

    def _instances(self, cls: type) -> dict[str, nn.Module]:
        return {path: self.tree.live[path] for path in self.tree.instances.get(cls, ())}


def _of_instances(node: ast.ClassDef) -> ast.ClassDef:
    """A class without what makes classes and instances."""
    making = {"__new__", "__init_subclass__", "__class_getitem__"}
    body = [s for s in node.body if not (isinstance(s, ast.FunctionDef) and s.name in making)]
    found = copy.copy(node)
    found.body = body
    return found


def _removable(written: WrittenInit) -> list[ast.stmt]:
    """Statements of a constructor that may only check, initialise or set something, the innermost first; not what a
    block consists of."""
    found: list[ast.stmt] = []
    for node in ast.walk(ast.parse(_code(written))):
        for block in (getattr(node, "body", None), getattr(node, "orelse", None)):
            if isinstance(block, list) and len(block) > 1:
                found += (s for s in block if isinstance(s, ast.Expr | ast.Assert | ast.Assign | ast.For | ast.If))
    return found[::-1]


def _own_reads(code: str) -> set[str]:
    """Attributes that code reads of what has a name: of ``self.stem.width`` the ``stem``."""
    nodes = [n for n in ast.walk(ast.parse(code)) if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Load)]
    return {n.attr for n in nodes if isinstance(n.value, ast.Name)}


def _code(written: WrittenInit) -> str:
    return "\n".join(["class _:", *written.lines]) if written.lines else ""
