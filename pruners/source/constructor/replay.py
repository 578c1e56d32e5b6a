"""The author's own constructor, where it makes the live modules once its numbers are other ones: loops, helpers and
tables stay."""

from __future__ import annotations

import ast
import copy
import inspect
import io
import logging
import tokenize
import types
from collections.abc import Hashable, Iterator, Mapping, Sequence, Set
from functools import partial
from typing import Any

from torch import nn

from ...run import described
from ..author import (
    Asked,
    AuthorClass,
    Equation,
    Read,
    Traced,
    TracedFloat,
    Written,
    again,
    alone,
    compensated,
    decided,
    fields_of,
    file_of,
    is_options,
    meant,
    namespace_of,
    numbers_by_place,
    own,
    reads_of,
    renewed,
    settled,
    solved,
    traced,
    with_fields,
    with_numbers,
)
from ..live import (
    AXES,
    CHILD,
    PLAIN,
    Box,
    Call,
    Closure,
    Display,
    Lit,
    Recorder,
    Term,
    Tree,
    constructed,
    is_authored,
    is_plain,
    is_torch,
    literal,
    loading_nothing,
    span_of,
)
from ..text import FunctionNode, SourceFile
from .agreement import Agreement, Arguments, Run, one_by_one
from .context import ClassContext
from .parameters import WrittenInit
from .replayed_text import ReplayedText, indented_text, parameter_as_written, path_of, text_lines

log = logging.getLogger(__name__)
DEPTH = 4  # of records in records
Key = tuple[Any, ...]  # class, instance, parameter, places in what was given for it


class Replays:
    """Constructors that stay. ``numbers``: those in the author's files that these constructors settle."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.numbers: dict[Hashable, float] = {}
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
        self.expected: dict[str, dict[str, Any]] = {}  # by module and attribute, what constructors would give now
        self.constants: set[Written] = set()  # numbers in the author's files that count other channels now
        self.doubts: set[tuple[str, str, str]] = set()  # numbers of several widths: module, attribute, words for it

    def write(self, context: ClassContext, recorder: Recorder) -> WrittenInit | None:
        """The constructor of a class as the author wrote it but for numbers; None where it wouldn't make the same."""
        found = self._tried(context, recorder)
        (self.gone if found is None else self.kept).add(context.author.cls)
        return found

    def parents(self) -> dict[type, WrittenInit]:
        """Constructors of author's parents that those which stay call. Where a child's can't stay, none of the others
        of that parent may."""
        found: dict[type, WrittenInit] = {}
        for parent in dict.fromkeys(p for cls in self.tree.instances if cls in self.kept for p in _making(cls)):
            children = [c for c in self.tree.instances if issubclass(c, parent)]
            self.gone |= set() if self.kept.issuperset(children) else self.kept.intersection(children)
            if parent in self.tree.instances:
                continue  # it has a text already
            author = AuthorClass(parent, self.tree.sources)
            lines = indented_text(author, text_lines(author, self._changed(self.numbers)))
            parameters = [parameter_as_written(p, n) for n, p in enumerate(author.parameters.values())]
            found[parent] = WrittenInit(lines, parameters, {}, {})
        return found

    def _tried(self, context: ClassContext, recorder: Recorder) -> WrittenInit | None:
        try:
            if context.is_root and (found := self._of_factory(context, recorder)) is not None:
                return found
            if context.author.cls in self.gone or not _alone(context):
                return None
            return self._written(context, recorder)
        except Exception as error:  # the author's code meets numbers that it wasn't written for
            log.info("%s can't stay as it is: %s", context.author.cls.__name__, described(error))
            return None

    def _of_factory(self, context: ClassContext, recorder: Recorder) -> WrittenInit | None:
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
        author = context.author
        parameters = [parameter_as_written(p, n) for n, p in enumerate(author.parameters.values())]
        mine = author.home is author.cls
        lines = indented_text(author, text_lines(author, self._changed(numbers))) if mine else []
        self.numbers.update({k: v for k, v in numbers.items() if isinstance(k, Written)})
        self.factory = True
        return WrittenInit(lines, parameters, {}, {})

    def _written(self, context: ClassContext, recorder: Recorder) -> WrittenInit | None:
        given = [_without_usual_options(context, a) for a in _given(context)]
        found = self._solved(context, given)
        if found is None:
            return None
        numbers, new = found
        if self._untrue(context, numbers) or self._of_headers(context) & self._changed(numbers).keys():
            return None
        changed = self._changed(numbers)
        text = ReplayedText(context, recorder, new, given, changed, self.old, numbers.keys())
        written = text.written()
        if written is not None:
            self.numbers.update({k: v for k, v in numbers.items() if isinstance(k, Written)})
            self.old.update({k: was for k, (was, _) in text.tables.items()})
            self.numbers.update({k: now for k, (_, now) in text.tables.items()})
        return written

    def _of_headers(self, context: ClassContext) -> set[Hashable]:
        """Numbers that are defaults of other modules' constructors: those are written, and stay. What only a parent
        has goes with the numbers (``parents``)."""
        classes = {cls for cls in self.tree.instances if is_authored(cls)} - {context.author.cls}
        authors = [AuthorClass(cls, self.tree.sources) for cls in classes]
        headers = [(a.init_file.name, span_of(p.default)) for a in authors if a.init is not None
                   for p in a.parameters.values() if p.default is not None]  # fmt: skip
        return {k for k in self.old if isinstance(k, Written) for name, span in headers
                if k.file == name and span[:2] <= k.span[:2] and k.span[2:] <= span[2:]}  # fmt: skip

    def _untrue(self, context: ClassContext, numbers: Mapping[Hashable, float]) -> bool:
        """Whether an attribute that only scripts read would say of a width what isn't so."""
        pairs = list(zip(context.live, self._runs[context.author.cls], strict=True))
        torn = compensated([e for live, run in pairs for e in _sizes(live, run)], self.old, numbers)
        names = {n for r in context.records for n, s in r.items() if s.kind == PLAIN and context.may_follow(n)}
        return any(reads_of(vars(run.module).get(n)) & torn for _, run in pairs for n in names)

    def _solved(
        self, context: ClassContext, given: Sequence[Arguments], factory: Any = None
    ) -> tuple[dict[Hashable, float], list[Arguments]] | None:
        """Numbers, and arguments, with which the constructor, or the ``factory``, makes the live modules."""
        maker = factory or context.author.cls
        runs = self._traced(context, given, maker)
        equations = [e for i, run in enumerate(runs) for e in _equations(context, i, run, self._read)]
        equations += _namesakes(context, runs, equations)
        numbers = solved(equations, {**self.old, **self._depths}, self.numbers)
        if numbers is None:
            return None
        numbers |= decided(self._asked[maker], self.old, numbers)
        read = {key for value, _ in equations for key in value.reads}
        numbers = {**{k: n for k, n in self._depths.items() if _of(k, maker) or k in read}, **numbers}
        for _ in range(2):
            new = [_with(a, (maker, i), numbers) for i, a in enumerate(given)]
            read_now = partial(_known, numbers)
            with with_numbers(self._files_of(context), self.tree.names, read_now):
                self._give_options(context, maker, new)
                made = [Run(*constructed(maker, a)) for a in new]
            kind = nn.Sequential if factory is not None and context.tree.bare else context.author.cls
            if any(type(run.module) is not kind for run in made):
                return None
            handed = {id(v) for arguments in new for v in arguments.values() if isinstance(v, nn.Module)}
            if all(Agreement(context, i, run, handed, read_now).holds() for i, run in enumerate(made)):
                return numbers, new
            sizes = self._sizes_of_tensors(context, maker, made, numbers)
            if not sizes:
                return None
            numbers = {**numbers, **sizes}
        return None

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
        free = [k for k in whole if isinstance(k, Written) and k not in numbers and k.file == author.init_file.name
                and init.body[0].lineno <= k.span[0] <= (init.end_lineno or 0)]  # fmt: skip
        return found | {k: min(sizes[self.old[k]]) for k in free if len(sizes.get(self.old[k], ())) == 1}

    def values(self, context: ClassContext) -> Mapping[str, tuple[Any, ...] | None]:
        """Attributes that only scripts read, with the numbers that the layers have now, in every instance; None where
        one number stands for several widths."""
        if context.author.init is None or any(b is None or b.module is None for b in context.births):
            return {}
        held = {n for r in context.records for n, s in r.items() if s.kind == PLAIN}
        names = {n for n in held if context.may_follow(n) or any(map(_is_record, _held(context, n)))}
        names |= held - context.reads_here if context.whole else set()
        try:
            return self._values(context, names) if names or context.is_root else {}
        except Exception as error:  # as in _tried
            log.info("%s can't be made once more: %s", context.author.cls.__name__, described(error))
            return {}

    def _values(self, context: ClassContext, names: Set[str]) -> Mapping[str, tuple[Any, ...] | None]:
        cls = context.author.cls
        given = _given(context)
        same = self._depths or not any(_is_record(v) for arguments in given for v in arguments.values())
        if cls not in self._once and not (same and cls in self._runs):
            self._once[cls] = self._run(context, given, cls, apart=True)[0]
        runs = self._runs[cls] if same and cls in self._runs else self._once[cls]
        pairs = list(zip(context.live, runs, strict=True))
        equations = [e for live, run in pairs for e in _sizes(live, run)]
        equations += [e for i, run in enumerate(runs) for e in _changed_numbers(context, i, run)]
        numbers, torn = settled([*equations, *_namesakes(context, runs, equations)], self.old)
        known = frozenset[Hashable]().union(*(value.reads for value, _ in equations))
        if context.is_root:
            changed = {k for k in known if k in torn or numbers.get(k, self.old[k]) != self.old[k]}
            self.constants = {k for k in changed if isinstance(k, Written)}
            self._put_on_layers(context, runs[0], numbers, torn, known)
        found: dict[str, tuple[Any, ...] | None] = {}
        for name in names:
            values = [vars(run.module).get(name) for run in runs]
            if any(map(_is_record, values)):
                now = tuple(self._record(context, i, name, v, numbers, torn, known) for i, v in enumerate(values))
                before = _held(context, name)
                if context.may_follow(name):
                    found[name] = now
                elif [dict(numbers_by_place(v)) for v in now] != [dict(numbers_by_place(v)) for v in before]:
                    found[name] = now if all(map(partial(context.may_change, name), before, now)) else tuple(before)
            elif reads := reads_of(values):
                if context.may_follow(name):
                    found[name] = None if reads & torn else tuple(again(values, numbers))
                if reads <= known - torn:
                    self._expect(context, name, again(values, numbers))
        return found

    def _record(
        self, context: ClassContext, index: int, name: str, value: Any, numbers: Mapping[Hashable, float],
        torn: Set[Hashable], known: Set[Hashable],
    ) -> Any:  # fmt: skip
        """A record with the numbers that layers have now; those of several widths stay and are told."""

        def in_doubt(number: Any) -> bool:
            written_twice = not reads_of(number) & known and int(number) in context.cut[index]
            return self._is_several(number, numbers, torn) or (isinstance(number, Traced) and written_twice)

        path, place = context.paths[index], f"{context.author.cls.__qualname__}.{name}"
        self.doubts |= {(path, name, p) for p, n in numbers_by_place(value, place) if in_doubt(n)}
        new = self._now(value, numbers, torn)
        self.expected.setdefault(path, {})[name] = new
        return new

    def _now(self, value: Any, numbers: Mapping[Hashable, float], torn: Set[Hashable]) -> Any:
        """A value with the numbers that are known."""
        return renewed(value, lambda n: numbers.get(alone(n), n.again({})) if n.reads & torn else n.again(numbers))

    def _is_several(self, value: Any, numbers: Mapping[Hashable, float], torn: Set[Hashable]) -> bool:
        """Whether it was computed from a number that would have to be several."""
        return bool(reads_of(value) & torn) and alone(value) not in numbers

    def _put_on_layers(
        self, context: ClassContext, run: Run, numbers: Mapping[Hashable, float], torn: Set[Hashable],
        known: Set[Hashable],
    ) -> None:  # fmt: skip
        """What the outermost class puts on layers and only scripts read: numbers of channels, or of parameters."""
        birth, live = context.births[0], dict(context.live[0].named_modules())
        first = dict(birth.module.named_modules()) if birth is not None and birth.module is not None else {}
        for path, made in run.module.named_modules():
            if not path or path not in live or path not in first:
                continue
            counts = {_parameters(first[path])} - {_parameters(live[path]), 0}
            found = {n: v for n, v in vars(made).items() if reads_of(v) & known or (type(v) is int and v in counts)}
            for name in found.keys() & context.from_outside(live[path]) - context.running if found else ():
                value, reads, mine = found[name], reads_of(found[name]), self.expected.setdefault(path, {})
                if self._is_several(value, numbers, torn):
                    self.doubts.add((path, name, f"{type(made).__qualname__}.{name}"))
                else:
                    mine.setdefault(name, self._now(value, numbers, torn) if reads else _parameters(live[path]))

    def _expect(self, context: ClassContext, name: str, values: Sequence[Any]) -> None:
        for path, value in zip(context.paths, values, strict=True):
            self.expected.setdefault(path, {})[name] = value

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

        with with_numbers(self._files_of(context), self.tree.names, read) as self._asked[maker]:
            tagged = [_tagged(a, (maker, i), read, DEPTH if apart else 0) for i, a in enumerate(given)]
            if not apart:
                self._give_options(context, maker, tagged)
            return [Run(*constructed(maker, a)) for a in tagged], found

    def _read(self, site: Hashable, value: float) -> Any:
        self.old[site] = value
        return traced(site, self._depths.get(site, value))

    def _give_options(self, context: ClassContext, maker: Any, arguments: Sequence[dict[str, Any]]) -> None:
        """Puts the options that the author's network hands to these instances in place of those they were given."""
        entry = self.tree.entry
        names = {n for a in arguments for n, v in a.items() if is_options(v)}
        if not names or maker is entry.factory or context.is_root:
            return
        made = Run(*constructed(entry.factory, entry.kwargs))
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
            try:
                runs, now = self._run(context, given, maker)
                if _too_many(context, runs) <= off - (made - live):
                    return runs, now
            except Exception as error:  # as in _tried
                log.info("%s, %s layers of %s: %s", context.author.cls.__name__, live, made, described(error))
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
            files = [f for f in found if f is not None and not _is_torchs(f)]
            self._files[cls] = [*self._files_of_options(files), *files]
        return self._files[cls]


    def _files_of_options(self, files: Sequence[SourceFile]) -> list[SourceFile]:
        """The other files of the author's from which these have options, or their classes."""
        values = [v for f in files for v in namespace_of(f).values()]
        classes = [v if isinstance(v, type) else type(v) for v in values if isinstance(v, type) or is_options(v)]
        modules = {c.__module__ for c in classes if not issubclass(c, nn.Module) and own(c.__module__)}
        found = [file_of(m, self.tree.sources) for m in sorted(modules)]
        return [f for f in found if f is not None and f.name not in {g.name for g in files}]


def _known(numbers: Mapping[Hashable, float], site: Hashable, value: float) -> float:
    return numbers.get(site, value)


def _is_torchs(file: SourceFile) -> bool:
    return file.name.startswith(nn.__path__[0].removesuffix("nn"))


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


def _making(cls: type) -> list[type]:
    """An author's parents that have constructors."""
    return [c for c in cls.__mro__[1:] if "__init__" in vars(c) and issubclass(c, nn.Module) and is_authored(c)]


def _alone(context: ClassContext) -> bool:
    """Whether a class has a constructor that can stay by itself."""
    author, cls = context.author, context.author.cls
    if author.init is None or author.init.decorator_list or not _moves(author, author.init):
        return False
    if cls in context.tree.circles:
        return False
    return all(b is not None and b.module is not None and b.arguments is not None for b in context.births)


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
    return [_arguments(context, i) for i in range(len(context.paths))]


def _arguments(context: ClassContext, index: int) -> Arguments:
    """What the constructor got; in place of the author's modules and functions, copies of the live ones."""
    birth = context.births[index]
    assert birth is not None
    found = {n: birth.arguments[n] for n in inspect.signature(context.author.cls).parameters}
    held = {n: context.held_as(index, n) for n in found}
    found |= {n: vars(context.live[index])[name] for n, name in held.items() if name is not None}
    return {n: _live(context.tree, v) if isinstance(v, nn.Module) else v for n, v in found.items()}


def _without_usual_options(context: ClassContext, arguments: Arguments) -> Arguments:
    """Without options of the outermost class that are its own defaults: those are made anew."""
    if not context.is_root:
        return arguments
    usual = {n: p.default for n, p in inspect.signature(context.author.cls).parameters.items()}
    return {n: v for n, v in arguments.items() if not (is_options(v) and usual[n] is v)}


def _live(tree: Tree, module: nn.Module) -> nn.Module:
    return copy.deepcopy(tree.live[path_of(tree, module)])


def _lists(context: ClassContext, runs: Sequence[Run]) -> Iterator[tuple[int, int]]:
    """Of every list: how many layers were made for it, and how many it has in the live network."""
    for live, run in zip(context.live, runs, strict=True):
        twins = dict(live.named_modules())
        for path, module in run.module.named_modules():
            if isinstance(module, nn.Sequential | nn.ModuleList) and type(twins.get(path)) is type(module):
                yield len(module), len(twins[path])  # type: ignore[arg-type]


def _longer(context: ClassContext, runs: Sequence[Run]) -> tuple[int, int] | None:
    return next(((made, live) for made, live in _lists(context, runs) if made > live), None)


def _too_many(context: ClassContext, runs: Sequence[Run]) -> int:
    return sum(abs(made - live) for made, live in _lists(context, runs))


def _of(key: Hashable, maker: Any) -> bool:
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


def _is_record(value: Any) -> bool:
    """Whether a value has names for what it holds, or is a list of such values."""
    listed = type(value) in (list, tuple) and any(map(_is_record, value))
    return listed or type(value) is dict or fields_of(value) is not None


def _parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _held(context: ClassContext, name: str) -> list[Any]:
    return [vars(live).get(name) for live in context.live]


def _changed_numbers(context: ClassContext, index: int, run: Run) -> Iterator[Equation]:
    """What attributes that count channels where the network runs have to be."""
    birth, live = context.births[index], dict(context.live[index].named_modules())
    if birth is None or birth.module is None:
        return
    first = dict(birth.module.named_modules())
    for path, made in run.module.named_modules():
        for name, value in vars(made).items() if path in live and path in first and is_authored(type(made)) else ():
            was, now = (vars(m[path]).get(name) for m in (first, live))
            if isinstance(value, Traced) and type(was) is int and type(now) is int and was != now:
                yield value, now


def _with(value: Any, key: Key, numbers: Mapping[Hashable, float]) -> Any:
    return _tagged(value, key, lambda place, number: numbers.get(place, number))


def _equations(context: ClassContext, index: int, run: Run, read: Read) -> Iterator[Equation]:
    """What each number has to be that a layer, a block or an attribute got, or that a function holds."""
    idle = context.idle_counts(context.paths[index])
    for name, slot in context.records[index].items():
        if slot.kind == CHILD and slot.term is not None:
            yield from _in_module(slot.term, run.module._modules.get(name), run, read)
        elif slot.kind == PLAIN and name in context.running - idle and slot.term is not None:
            yield from _in_value(slot.term, vars(run.module).get(name), read)
    base = context.bases[index]
    if isinstance(base, Box):
        yield from _in_module(base, run.module, run, read)
    elif base is not None:  # what a torch layer got it has as attributes
        for arg in base.args:
            yield from _in_value(arg.value, vars(run.module).get(arg.name), read, axes=True)


def _sizes(live: nn.Module, run: Run) -> Iterator[Equation]:
    """What each number that a layer of torch's got has to be."""
    twins = dict(live.named_modules())
    for path, made in run.module.named_modules():
        twin = twins.get(path)
        for name, value in run.got.get(id(made), {}).items() if type(twin) is type(made) else ():
            wanted = vars(twin).get(name)
            wanted = wanted[0] if name == "normalized_shape" and isinstance(wanted, tuple) else wanted
            if isinstance(value, Traced) and type(wanted) is int and is_torch(type(made)):
                yield value, wanted


def _namesakes(context: ClassContext, runs: Sequence[Run], known: Sequence[Equation]) -> list[Equation]:
    """Of attributes that only scripts read and that are written as a number of their own, ``self.out_channels = 64``:
    what layers have now that had this number under this name."""
    read = frozenset[Hashable]().union(*(value.reads for value, _ in known))
    found: list[Equation] = []
    for birth, live, run in zip(context.births, context.live, runs, strict=True):
        for name, value in vars(run.module).items():
            alone = isinstance(value, Traced) and len(value.reads) == 1 and not value.reads & read
            if alone and context.may_follow(name) and all(isinstance(k, Written) for k in value.reads):
                now = dict(live.named_modules())
                layers = birth.module.named_modules() if birth is not None and birth.module is not None else ()
                sizes = {vars(now[p]).get(name) for p, m in layers if is_torch(type(m)) and p in now
                         and vars(m).get(name) == int(value)}  # fmt: skip
                found += [(value, s) for s in sizes if len(sizes) == 1 and type(s) is int]
    return found


def _in_module(term: Term, made: nn.Module | None, run: Run, read: Read) -> Iterator[Equation]:
    if isinstance(term, Box) and made is not None:
        for item in term.items:
            yield from _in_module(item.value, made._modules.get(item.name), run, read)
    elif isinstance(term, Call) and made is not None:
        got = one_by_one(term.fn, run.got.get(id(made), {}))
        for arg in term.args:
            value = got.get(arg.name)
            if isinstance(value, nn.Module):
                yield from _in_module(arg.value, value, run, read)
            elif not arg.free:
                yield from _in_value(arg.value, value, read, arg.name in AXES)


def _in_value(term: Term, value: Any, read: Read, axes: bool = False) -> Iterator[Equation]:
    wanted: Any = term.value if isinstance(term, Lit) else None
    whole, ratio = isinstance(value, Traced), isinstance(value, TracedFloat)
    if (whole and type(wanted) is int) or (ratio and type(wanted) is float):
        yield value, wanted
    elif type(value) in (list, tuple) and type(wanted) in (list, tuple) and len(value) == len(wanted):
        for inner, one in zip(value, wanted, strict=True):
            yield from _in_value(Lit(one), inner, read)
    elif type(value) in (list, tuple) and type(wanted) is int and axes:
        for inner in value:
            yield from _in_value(term, inner, read)
    elif isinstance(term, Display) and type(value) in (list, tuple) and len(value) == len(term.items):
        for item, inner in zip(term.items, value, strict=True):
            yield from _in_value(item, inner, read)
    elif isinstance(term, Call) and term.fn is partial and isinstance(value, partial):
        for arg, inner in zip(term.args, (value.func, *value.args, *value.keywords.values()), strict=False):
            yield from _in_value(arg.value, inner, read)
    elif isinstance(term, Closure) and isinstance(value, types.FunctionType):
        for expr, arg, template in zip(term.exprs, term.args, term.templates, strict=True):
            if template:
                yield from _in_value(arg.value, meant(expr, term.file, value, read), read)
