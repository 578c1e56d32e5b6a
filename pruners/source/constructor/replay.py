"""The author's own constructor, where it makes the live modules once its numbers are other ones: loops, helpers and
tables stay."""

from __future__ import annotations

import ast
import copy
import inspect
import io
import tokenize
import types
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import Any

from torch import nn

from ...places import Span
from ..author import (
    Asked,
    AuthorClass,
    Traced,
    Written,
    compensated,
    decided,
    fields_of,
    file_of,
    is_options,
    namespace_of,
    own,
    reads_of,
    solved,
    traced,
    with_fields,
    with_numbers,
)
from ..live import (
    PLAIN,
    Recorder,
    Tree,
    attempted,
    constructed,
    is_authored,
    is_plain,
    literal,
    loading_nothing,
)
from ..text import FunctionNode, SourceFile, span_of
from .agreement import Agreement, Arguments, Run
from .context import ClassContext
from .equations import equations_of, namesakes, sizes_made, twins
from .parameters import WrittenInit
from .replayed_text import ReplayedText, init_as_written, path_of
from .uses import Reading, Use, choices

DEPTH = 4  # of records in records
Key = tuple[Any, ...]  # class, instance, parameter, places in what was given for it
Solution = tuple[dict[Hashable, float], Sequence[Arguments]]


class Replays:
    """Constructors that stay. ``numbers``: those in the author's files that these constructors settle."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.numbers: dict[Hashable, float] = {}
        self.uses: dict[Written, Use] = {}  # what goes to places where a name says another number than is wanted
        self.gone: set[type] = set()  # classes whose constructors can't stay
        self.old: dict[Hashable, float] = {}
        self.factory = False  # whether the author's factory stays
        self.arguments: Arguments = {}  # with these as defaults
        self.kept: set[type] = set()  # classes of which the constructors stay
        self._depths: dict[Hashable, int] = {}  # numbers of layers in lists that lost some
        self._runs: dict[Any, list[Run]] = {}  # by what makes them
        self._asked: dict[Any, list[Asked]] = {}  # comparisons of the numbers in them
        self._once: dict[type, list[Run]] = {}  # with the lists as long as they were
        self._files: dict[type, list[SourceFile]] = {}
        self._made_last: dict[Any, tuple[Any, dict[Hashable, Run]]] = {}  # by maker; with which numbers

    def begin(self) -> None:
        """All constructors are written anew."""
        self.numbers.clear()
        self.uses.clear()
        self.factory = False
        self.kept.clear()

    def write(self, context: ClassContext, recorder: Recorder) -> WrittenInit | None:
        """The constructor of a class as the author wrote it but for numbers; None where it wouldn't make the same."""
        what = f"{context.author.cls.__name__} can't stay as it is"
        uses = dict(self.uses)
        found = attempted(what, lambda: self._tried(context, recorder))
        self.uses = uses if found is None else self.uses
        (self.gone if found is None else self.kept).add(context.author.cls)
        return found

    def parents(self) -> dict[type, WrittenInit]:
        """Constructors of author's parents that those which stay call. Where a child's can't stay, none of the others
        of that parent may."""
        found: dict[type, WrittenInit] = {}
        above = [c for cls in self.tree.instances if cls in self.kept for c in cls.__mro__[1:] if "__init__" in vars(c)]
        for parent in dict.fromkeys(c for c in above if issubclass(c, nn.Module) and is_authored(c)):
            children = [c for c in self.tree.instances if issubclass(c, parent)]
            self.gone |= set() if self.kept.issuperset(children) else self.kept.intersection(children)
            if parent in self.tree.instances:
                continue  # it has a text already
            author = AuthorClass(parent, self.tree.sources)
            found[parent] = init_as_written(author, self._changed(self.numbers), self.uses)
        return found

    def _tried(self, context: ClassContext, recorder: Recorder) -> WrittenInit | None:
        held = dict(self.uses)
        if context.is_root and (found := self._of_factory(context)) is not None:
            return found
        self.uses = held
        return None if context.author.cls in self.gone or not _alone(context) else self._written(context, recorder)

    def _of_factory(self, context: ClassContext) -> WrittenInit | None:
        """The root's constructor where the author's factory makes the same with other numbers in its code."""
        entry, files = self.tree.entry, self._files_of(context)
        if not (self.tree.bare or _alone(context)) or not _only_makes(self.tree, files):
            return None
        if entry.dtype is not None:
            return None
        depths = dict(self._depths)
        defaults = {n: p.default for n, p in inspect.signature(entry.factory).parameters.items()}
        given = {n: v for n, v in {**defaults, **entry.kwargs}.items() if is_plain(v)}
        with loading_nothing():
            found = self._solved(context, [given], entry.factory)
        if found is None:
            self._depths = depths
            return None
        numbers, (new,) = found
        if self._of_headers(context) & self._changed(numbers).keys():
            self._depths = depths
            return None
        self.arguments = {n: v for n, v in new.items() if v != defaults[n]}
        self.numbers.update({k: v for k, v in numbers.items() if isinstance(k, Written)})
        self.factory = True
        return init_as_written(context.author, self._changed(numbers), self.uses)

    def _written(self, context: ClassContext, recorder: Recorder) -> WrittenInit | None:
        given = [_without_usual_options(context, a) for a in _given(context)]
        found = self._solved(context, given)
        if found is None:
            return None
        numbers, new = found
        if self._untrue(context, numbers) or self._of_headers(context) & self._changed(numbers).keys():
            return None
        changed = self._changed(numbers)
        text = ReplayedText(context, recorder, new, given, changed, self.old, numbers.keys(), self.uses)
        written = text.written()
        if written is not None:
            self.numbers.update({k: v for k, v in numbers.items() if isinstance(k, Written)})
            self.old.update({k: was for k, (was, _) in text.tables.items()})
            self.numbers.update({k: now for k, (_, now) in text.tables.items()})
        return written

    def _of_headers(self, context: ClassContext) -> set[Hashable]:
        """Numbers that are defaults of other modules' constructors: those are written, and stay. What only a parent
        has goes with the numbers (``parents``)."""
        headers = [h for cls, found in self._headers.items() if cls is not context.author.cls for h in found]
        return {k for k in self.old if isinstance(k, Written) and any(k.stands_in(*header) for header in headers)}

    @cached_property
    def _headers(self) -> dict[type, list[tuple[SourceFile, Span]]]:
        """By class, where the defaults of its constructor stand."""
        authors = [AuthorClass(cls, self.tree.sources) for cls in self.tree.instances if is_authored(cls)]
        return {a.cls: [(a.init_file, span_of(p.default)) for p in a.parameters.values() if p.default is not None]
                for a in authors}  # fmt: skip

    def _untrue(self, context: ClassContext, numbers: Mapping[Hashable, float]) -> bool:
        """Whether an attribute that only scripts read would say of a width what isn't so."""
        runs = self._runs[context.author.cls]
        torn = compensated([e for i, run in enumerate(runs) for e in sizes_made(context, i, run)], self.old, numbers)
        names = {n for r in context.records for n, s in r.items() if s.kind == PLAIN and context.may_follow(n)}
        return any(reads_of(vars(run.module).get(n)) & torn for run in runs for n in names)

    def _solved(self, context: ClassContext, given: Sequence[Arguments], factory: Any = None) -> Solution | None:
        """Numbers, and arguments, with which the constructor, or the ``factory``, makes the live modules."""
        return self._by_numbers(context, given, factory) or attempted(
            f"{context.author.cls.__name__}, place by place", lambda: self._by_places(context, given, factory)
        )

    def _by_places(self, context: ClassContext, given: Sequence[Arguments], factory: Any) -> Solution | None:
        """The same where names stand for several widths: some places in the constructor get a number of their own."""
        author, init, maker = context.author, context.author.init, factory or context.author.cls
        assert init is not None
        body = (init.body[0].lineno, 0, *span_of(init)[2:])
        before, times, index = dict[Reading, Any](), Counter[Any](), 0

        def use(site: Written, value: Any) -> Any:
            if type(value) not in (int, Traced) or site in self.uses or not site.stands_in(author.init_file, body):
                return self._used(site, value)
            reading = Reading(site, index, times[site, index])
            times[site, index] += 1
            before[reading], self.old[reading] = value, int(value)
            return traced(reading, int(value))

        runs = list[Run]()
        with with_numbers(self._files_of(context), self.tree.names, self._read, use):
            for index, arguments in enumerate(given):
                runs.append(self._made(maker, _tagged(arguments, (maker, index), self._read)))
        equations = [e for i, run in enumerate(runs) for e in equations_of(context, i, run, self._read)]
        wanted = solved(equations, {**self.old, **self._depths}, self.numbers)
        for numbers, uses in choices(before, wanted, self.old, len(given) > 1) if wanted is not None else ():
            inside = [(k, s) for k in self._changed(numbers) if isinstance(k, Written) for s in uses]
            if not uses or any(k.stands_in(author.init_file, s.span) for k, s in inside):
                continue
            held, self.uses = self.uses, {**self.uses, **uses}
            new = [_tagged(a, (maker, i), numbers.get) for i, a in enumerate(given)]
            with with_numbers(self._files_of(context), self.tree.names, numbers.get, self._used):
                made = [self._made(maker, a) for a in new]
            handed = {id(v) for arguments in new for v in arguments.values() if isinstance(v, nn.Module)}
            alike = all(type(run.module) is context.author.cls for run in made)
            if alike and all(Agreement(context, i, run, handed, numbers.get).holds() for i, run in enumerate(made)):
                return numbers, new
            self.uses = held
        return None

    def _used(self, site: Written, value: Any) -> Any:
        return self.uses[site].now(value) if site in self.uses else value

    def _by_numbers(self, context: ClassContext, given: Sequence[Arguments], factory: Any) -> Solution | None:
        maker = factory or context.author.cls
        runs = self._traced(context, given, maker)
        equations = [e for i, run in enumerate(runs) for e in equations_of(context, i, run, self._read)]
        equations += namesakes(context, runs, equations)
        numbers = solved(equations, {**self.old, **self._depths}, self.numbers)
        if numbers is None:
            return None
        numbers |= decided(self._asked[maker], self.old, numbers)
        read = {key for value, _ in equations for key in value.reads}
        numbers = {**{k: n for k, n in self._depths.items() if _is_of(k, maker) or k in read}, **numbers}
        for _ in range(2):
            new, made = self._with(context, maker, given, numbers)
            kind = nn.Sequential if factory is not None and context.tree.bare else context.author.cls
            if any(type(run.module) is not kind for run in made):
                return None
            handed = {id(v) for arguments in new for v in arguments.values() if isinstance(v, nn.Module)}
            if all(Agreement(context, i, run, handed, numbers.get).holds() for i, run in enumerate(made)):
                return numbers, new
            sizes = self._sizes_of_tensors(context, maker, made, numbers)
            if not sizes:
                return None
            numbers = {**numbers, **sizes}
        return None

    def _with(
        self, context: ClassContext, maker: Any, given: Sequence[Arguments], numbers: Mapping[Hashable, float]
    ) -> tuple[list[dict[str, Any]], list[Run]]:
        """What is given with other numbers in it, and what is made of it. Of what is as it was the last time the same
        is made: then, and of the same arguments, once."""
        new: list[dict[str, Any]] = [_tagged(a, (maker, i), numbers.get) for i, a in enumerate(given)]
        keys = [tuple((n, object() if is_options(v) else _sameness(v)) for n, v in a.items()) for a in new]
        known, made = self._made_last.get(maker, (None, {}))
        if known != (numbers, self.uses) or not made.keys() >= set(keys):
            with with_numbers(self._files_of(context), self.tree.names, numbers.get, self._used):
                self._give_options(context, maker, new)
                made = {k: self._made(maker, a) for k, a in dict(zip(keys, new, strict=True)).items()}
            self._made_last[maker] = ({**numbers}, {**self.uses}), made
        return new, [made[key] for key in keys]

    def _sizes_of_tensors(
        self, context: ClassContext, maker: Any, made: Sequence[Run], numbers: Mapping[Hashable, float]
    ) -> dict[Hashable, float]:
        """For numbers in a constructor, or given to it, that no layer got, ``torch.ones(64)``, what tensors of this
        size have now."""
        author, init = context.author, context.author.init
        assert init is not None
        whole = [k for k, value in self.old.items() if type(value) is int]
        found, sizes = dict[Hashable, float](), dict[float, set[int]]()
        for index, (live, run) in enumerate(zip(context.live, made, strict=True)):
            theirs = {**dict(run.module.named_parameters()), **dict(run.module.named_buffers())}
            mine: dict[float, set[int]] = {}
            for name, tensor in (*live.named_parameters(), *live.named_buffers()):
                if name in theirs and theirs[name].ndim == tensor.ndim:
                    for size, now in zip(theirs[name].shape, tensor.shape, strict=True):
                        mine.setdefault(size, set()).update({now} - {size})
                        sizes.setdefault(size, set()).update({now} - {size})
            given = [k for k in whole if isinstance(k, tuple) and k[:2] == (maker, index) and k not in numbers]
            found |= {k: min(mine[self.old[k]]) for k in given if len(mine.get(self.old[k], ())) == 1}
        body = (init.body[0].lineno, 0, *span_of(init)[2:])
        free = [k for k in whole if isinstance(k, Written) and k not in numbers and k.stands_in(author.init_file, body)]
        return found | {k: min(sizes[self.old[k]]) for k in free if len(sizes.get(self.old[k], ())) == 1}

    def runs_apart(self, context: ClassContext) -> list[Run]:
        """What the constructors make, each instance with numbers of its own in the records that it is given."""
        cls, given = context.author.cls, _given(context)
        same = self._depths or not any(is_record(v) for arguments in given for v in arguments.values())
        if same and cls in self._runs:
            return self._runs[cls]
        if cls not in self._once:
            self._once[cls] = self._run(context, given, cls, apart=True)[0]
        return self._once[cls]

    def _changed(self, numbers: Mapping[Hashable, float]) -> Mapping[Hashable, float]:
        return {k: v for k, v in numbers.items() if self.old[k] != v}

    def edits(self) -> Iterator[tuple[str, tuple[int, int, int, int], str]]:
        """Numbers that change: file, place and text."""
        for key, value in self.numbers.items():
            if isinstance(key, Written) and self.old[key] != value:
                yield key.file, key.span, literal(value)

    def _traced(self, context: ClassContext, given: Sequence[Arguments], maker: Any) -> list[Run]:
        if maker not in self._runs:
            runs, read = self._run(context, given, maker)
            while (list_ := _longer(context, runs)) is not None:
                found = self._shortened(context, given, maker, read, *list_)
                if found is None:
                    break
                runs, read = found
            self._runs[maker] = runs
        return self._runs[maker]

    def _run(
        self, context: ClassContext, given: Sequence[Arguments], maker: Any, apart: bool = False
    ) -> tuple[list[Run], set[Hashable]]:
        """What the constructor, or another ``maker``, makes, and the numbers that it reads. ``apart``: each instance
        with numbers of its own in the records that it is given."""
        found = set[Hashable]()

        def read(site: Hashable, value: float) -> Any:
            found.add(site)
            return self._read(site, value)

        with with_numbers(self._files_of(context), self.tree.names, read, self._used) as self._asked[maker]:
            tagged = [_tagged(a, (maker, i), read, DEPTH if apart else 0) for i, a in enumerate(given)]
            if not apart:
                self._give_options(context, maker, tagged)
            return [self._made(maker, a) for a in tagged], found

    def _made(self, maker: Any, arguments: Arguments) -> Run:
        return Run(*constructed(maker, arguments, {type(m) for m in self.tree.live.values()}))

    def _read(self, site: Hashable, value: float) -> Any:
        self.old[site] = value
        return traced(site, self._depths.get(site, value))

    def _give_options(self, context: ClassContext, maker: Any, arguments: Sequence[dict[str, Any]]) -> None:
        """Puts the options that the author's network hands to these instances in place of those they were given."""
        entry = self.tree.entry
        names = {n for a in arguments for n, v in a.items() if is_options(v)}
        if not names or maker is entry.factory or context.is_root:
            return
        made = self._made(entry.factory, entry.kwargs)
        twins = dict(made.module.named_modules(remove_duplicate=False))
        for path, mine in zip(context.paths, arguments, strict=True):
            got = made.got.get(id(twins.get(path)), {})
            mine.update({n: got[n] for n in names & mine.keys() & got.keys()})

    def _shortened(
        self, context: ClassContext, given: Sequence[Arguments], maker: Any, read: set[Hashable], made: int, live: int
    ) -> tuple[list[Run], set[Hashable]] | None:
        """The runs with another number that makes a list as short as the live one, and no other one shorter."""
        off = _too_many(context, self._run(context, given, maker)[0])
        for site in sorted(read, key=str):
            number = self._depths.get(site, self.old[site])
            if type(number) is not int or abs(number - made) > 1 or number - made + live < 0:
                continue
            before = dict(self._depths)
            self._depths[site] = number - made + live
            what = f"{context.author.cls.__name__}, {live} layers of {made}"
            found = attempted(what, lambda: self._run(context, given, maker))
            if found is not None and _too_many(context, found[0]) <= off - (made - live):
                return found
            self._depths = before
        return None

    def _files_of(self, context: ClassContext) -> list[SourceFile]:
        """The author's files in which the constructor of a class runs."""
        cls = context.author.cls
        if cls not in self._files:
            names = {context.author.init_file.name, context.author.file.name}
            for path, birth in self.tree.births.items():
                if any(path == p or path.startswith(f"{p}." if p else "") for p in context.paths):
                    names |= {f.file for f in birth.frames}
            found = [self.tree.sources.file(n) for n in sorted(names) if not n.startswith("<")]
            torchs = nn.__path__[0].removesuffix("nn")
            files = [f for f in found if f is not None and not f.name.startswith(torchs)]
            self._files[cls] = [*self._files_of_options(files), *files]
        return self._files[cls]


    def _files_of_options(self, files: Sequence[SourceFile]) -> list[SourceFile]:
        """The other files of the author's from which these have options, or their classes."""
        values = [v for f in files for v in namespace_of(f).values()]
        classes = [v if isinstance(v, type) else type(v) for v in values if isinstance(v, type) or is_options(v)]
        modules = {c.__module__ for c in classes if not issubclass(c, nn.Module) and own(c.__module__)}
        found = [file_of(m, self.tree.sources) for m in sorted(modules)]
        return [f for f in found if f is not None and f.name not in {g.name for g in files}]


def _only_makes(tree: Tree, files: Sequence[SourceFile]) -> bool:
    """Whether the author's own function that the user named makes the network, alone or with others of his files."""
    entry, factory = tree.entry, inspect.unwrap(tree.entry.factory)
    births = tree.births.values() if tree.bare else [b for b in [tree.birth("")] if b is not None]
    if not births or not isinstance(factory, types.FunctionType) or not own(factory.__module__):
        return False
    takes = inspect.signature(factory).parameters
    if factory.__name__ != entry.name or not all(n in takes and is_plain(v) for n, v in entry.kwargs.items()):
        return False
    tops = {(f.name, *key): f for f in files for key, node in f.functions.items() if node in f.tree.body}
    frames = {(f.file, f.function, f.first_line) for birth in births for f in birth.frames}
    code = factory.__code__
    return (code.co_filename, code.co_name, code.co_firstlineno) in frames & set(tops)


def _alone(context: ClassContext) -> bool:
    """Whether a class has a constructor that can stay by itself."""
    author, cls = context.author, context.author.cls
    if author.init is None or author.init.decorator_list or not _moves(author, author.init):
        return False
    return cls not in context.tree.circles and all(context.births)


def _moves(author: AuthorClass, init: FunctionNode) -> bool:
    """Whether its lines can stand further to the left or right: not where a statement is behind the header, nor where
    a string has several lines whose value somebody gets (short ones below each other may)."""
    nodes = [n for stmt in init.body for n in ast.walk(stmt)]
    notes = {id(n.value) for n in nodes if isinstance(n, ast.Expr)}
    texts = [n for n in nodes if isinstance(n, ast.Constant | ast.JoinedStr) and id(n) not in notes]
    long = [author.init_file.segment(n) for n in texts if n.lineno != n.end_lineno]
    first = init.body[0]
    behind = author.init_file.lines[first.lineno - 1][: first.col_offset].strip()
    return not behind and not any(_has_a_long_token(text) for text in long)


def _has_a_long_token(text: str) -> bool:
    tokens = tokenize.generate_tokens(io.StringIO(f"({text})").readline)
    return any(t.start[0] != t.end[0] for t in tokens)


def _given(context: ClassContext) -> list[Arguments]:
    """What the constructors got; in place of the author's modules and functions, copies of the live ones."""
    found: list[Arguments] = []
    for index, birth in enumerate(context.births):
        assert birth is not None
        given = {n: birth.arguments[n] for n in inspect.signature(context.author.cls).parameters}
        held = {n: context.held_as(index, n) for n in given}
        given |= {n: vars(context.live[index])[name] for n, name in held.items() if name is not None}
        live, modules = context.tree.live, {n: v for n, v in given.items() if isinstance(v, nn.Module)}
        found.append(given | {n: copy.deepcopy(live[path_of(context.tree, v)]) for n, v in modules.items()})
    return found


def _sameness(value: Any) -> Hashable:
    """Equal for arguments of which the same is made, as far as that is sure."""
    if is_plain(value):
        return repr(value)
    if type(value) in (list, tuple):
        return (type(value), *map(_sameness, value))
    if type(value) is partial:
        return partial, *map(_sameness, (value.func, value.args, *value.keywords.items()))
    return value if isinstance(value, type | types.FunctionType | types.BuiltinFunctionType) else object()


def _without_usual_options(context: ClassContext, arguments: Arguments) -> Arguments:
    """Without options of the outermost class that are its own defaults: those are made anew."""
    if not context.is_root:
        return arguments
    usual = {n: p.default for n, p in inspect.signature(context.author.cls).parameters.items()}
    return {n: v for n, v in arguments.items() if not (is_options(v) and usual[n] is v)}


def _lists(context: ClassContext, runs: Sequence[Run]) -> Iterator[tuple[int, int]]:
    """Of every list: how many layers were made for it, and how many it has in the live network."""
    for _, made, live, _ in (t for i, run in enumerate(runs) for t in twins(context, i, run)):
        if isinstance(made, nn.Sequential | nn.ModuleList) and type(live) is type(made):
            yield len(made), len(live)


def _longer(context: ClassContext, runs: Sequence[Run]) -> tuple[int, int] | None:
    return next(((made, live) for made, live in _lists(context, runs) if made > live), None)


def _too_many(context: ClassContext, runs: Sequence[Run]) -> int:
    return sum(abs(made - live) for made, live in _lists(context, runs))


def _is_of(key: Hashable, maker: Any) -> bool:
    return isinstance(key, Written) or (isinstance(key, tuple) and key[0] is maker)


def _tagged(value: Any, key: Key, read: Any, depth: int = 0) -> Any:
    """The same value with traced numbers in it, and in records to a ``depth``."""
    if type(value) in (int, float):
        return read(key, value)
    if depth and (fields := fields_of(value)):
        return with_fields(value, {k: _tagged(v, (*key, k), read, depth - 1) for k, v in fields.items()})
    if type(value) in (list, tuple):
        return type(value)(_tagged(v, (*key, n), read, depth) for n, v in enumerate(value))
    return {k: _tagged(v, (*key, k), read, depth) for k, v in value.items()} if type(value) is dict else value


def is_record(value: Any) -> bool:
    """Whether a value has names for what it holds, or is a list of such values."""
    listed = type(value) in (list, tuple) and any(map(is_record, value))
    return listed or type(value) is dict or fields_of(value) is not None
