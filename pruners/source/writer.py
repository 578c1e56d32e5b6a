"""From a live, sliced network to the text of one standalone file."""

from __future__ import annotations

import ast
import logging
from collections.abc import Iterator, Mapping, Sequence
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
    attributes_set,
    binding,
    choose_imported,
    homes_of,
    named_values,
    own,
    top_name,
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
    Changes,
    Chunk,
    ClassParts,
    Edit,
    Gatherer,
    Header,
    Rewrites,
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
from .live import Recorder, Tree, Unsaid, loading_nothing, refuse, with_equal_sides
from .needs import Needs
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
    inside = {cls: attributes_set(node) for cls, node in writing.needs.reach.nodes.items()}
    was = {path: b.module for path, b in tree.births.items()}
    outside = set_from_outside(model, twin, was, inside, writing.scripts.expected, writing.needs.running)
    missing += [(type(model), line) for line in (*outside, *repairs(model, twin))]
    for cls in dict.fromkeys(c for c, _ in missing):
        writing.finish(cls, list(dict.fromkeys(line for c, line in missing if c is cls)))
    if missing:
        text = writing.text(header)
    made = check(text, tree)
    lost = [*losses(model, made), *gone_parameters(entry, text), *writing.gone_arguments()]
    lost += [t for w in writing.written.values() for t in w.lost] + [t for b in writing.beside_it for t in b.lost]
    old = [*writing.stale_constants()]
    old += stale(model, made, was, text, writing.needs.running, writing.scripts.expected, writing.scripts.doubts)
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
        self.written: dict[type, WrittenInit] = {}
        self.needs = Needs(tree, [*self.authors, *self.plain], self.written)
        self.own_factory = factory  # whether the author's factory is tried
        self.barred: set[str] | None = None  # what of the author's file may not stay beside the network; None: nothing
        self.beside_it: list[Beside] = []

    def write_classes(self) -> None:
        keep = {"forward", *(n for names in self.rewrites.attributes.values() for n in names)}
        for _ in range(ROUNDS):
            self.needs.choose()
            reads = self.needs.reads()
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
        needs, paths = self.needs, self.tree.instances[cls]
        idle = needs.branches.switches.get(cls, set())  # they only chose between branches of which one is left
        records, bases = [recorder.record(p) for p in paths], [recorder.base_call(p) for p in paths]
        return ClassContext(
            self.tree, self.authors[cls], list(paths), records, bases, keep,
            needs.running.union(idle, *(recorder.added.get(p, ()) for p in paths)), whole=own(cls.__module__),
            tests=needs.tests_on(cls), computing=needs.computing_in(cls), compared=needs.compared,
            reads_here=needs.reads_in(cls),
        )  # fmt: skip

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
        lines, read = text.splitlines(), self.needs.running.union(*(_own_reads(w.code) for w in self.written.values()))
        for failed in (lines[n - 1] for n in failing_lines(error)):
            for cls, mine in self.written.items():
                code = mine.code.split("\n")[1:]
                for stmt in _removable(mine):
                    own = slice(stmt.lineno - 2, (stmt.end_lineno or 0) - 1)
                    if failed in code[own] and not (sets := attributes_set(stmt)) & read:
                        kept = [*code[: own.start], *code[own.stop :]]
                        told = [] if sets else [f"{cls.__qualname__}.__init__ ({code[own.start].strip()})"]
                        self.written[cls] = replace(mine, lines=kept, lost=(*mine.lost, *told))
                        self.needs.choose()
                        return True
        return False

    def text(self, header: Header | None) -> str:
        entry, sources = self.tree.entry, self.tree.sources
        gatherer = Gatherer(sources, homes_of(self.tree.model), self._library(), self._statement)
        reads = self.needs.reads()
        root = type(self.tree.model)
        for cls in (*self.plain, *self.authors):
            if not (self.tree.bare and cls is root):
                gatherer.add(self._class_chunk(cls, reads, self.needs.methods[cls]))
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

        def there(cls: type, name: str) -> bool:
            known = gatherer.known if own(cls.__module__) else gatherer.there
            return known(name, sources.of_class(cls)[0])

        same = {cls for cls in self.needs.methods if self._takes_the_same(cls)}
        for cls, methods in self.needs.unreached(reads, there, same).items():
            gatherer.put(self._class_chunk(cls, reads, self.needs.methods[cls] | methods))
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
            self.needs.branches.settle_function(file, stmt)
        changes = self._changes(file)
        return statement_text(stmt, file, replace(changes, edits=(*changes.edits, *more)))

    def is_idle(self, name: str) -> bool:
        """Whether a function, or a method with its class, stands in the file for others than the network."""
        method = "." in name and name not in self.needs.run_by_forward and not name.endswith(".__init__")
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
        return Changes(self._edits().get(file.name, ()), self.needs.branches.settled.get(file.name, {}))

    def root_file(self) -> SourceFile:
        return self.tree.sources.of_class(type(self.tree.model))[0]

    def _class_chunk(self, cls: type, reads: set[str], methods: set[str]) -> Chunk:
        author, mine = self._author(cls), self.written.get(cls)
        attributes = reads | {"__constants__", "forward"}
        if own(cls.__module__):
            bound = [stored_names(s) for s in author.node.body if isinstance(s, ast.Assign | ast.AnnAssign)]
            attributes |= set().union(*bound) - (self.needs.ratios(cls) - reads)
        untouched = mine is None and "__init__" in methods
        gone = set(author.parameters) if mine is None and not untouched else set(self._gone(cls))
        parts = ClassParts(mine.lines if mine else [], methods, attributes, self._changes(author.file), gone)
        text = writer_of(cls).class_source(cls, self._instances(cls), class_text(author, parts))
        extra = mine.extra if mine else {}
        return Chunk(cls.__name__, author.file, author.node.lineno, text, extra, target=self.tree.names[cls])

    def _instances(self, cls: type) -> dict[str, nn.Module]:
        return {path: self.tree.live[path] for path in self.tree.instances.get(cls, ())}


def _removable(written: WrittenInit) -> list[ast.stmt]:
    """Statements of a constructor that may only check, initialise or set something, the innermost first; not what a
    block consists of."""
    found: list[ast.stmt] = []
    for node in ast.walk(ast.parse(written.code)):
        for block in (getattr(node, "body", None), getattr(node, "orelse", None)):
            if isinstance(block, list) and len(block) > 1:
                found += (s for s in block if isinstance(s, ast.Expr | ast.Assert | ast.Assign | ast.For | ast.If))
    return found[::-1]


def _own_reads(code: str) -> set[str]:
    """Attributes that code reads of what has a name: of ``self.stem.width`` the ``stem``."""
    nodes = [n for n in ast.walk(ast.parse(code)) if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Load)]
    return {n.attr for n in nodes if isinstance(n.value, ast.Name)}
