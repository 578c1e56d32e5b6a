"""Numbers that know where they come from: an author's code is run with them to see which of his numbers make what."""

from __future__ import annotations

import ast
import builtins
import math
import operator
import types
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, cast

from torch import nn

from ...places import Span
from ..live import cells
from ..text import SourceFile, encloses, function_of, span_of
from .bindings import namespace_of
from .marked import INT, NUMBER, USE, marked, marked_functions
from .options import defaults, fields_of, named_values, remade, with_fields

_TRIES = 24  # of other factors, in ``solved``
_DIGITS = 4096  # the largest number of which divisors are looked for
_PLACES = 3  # behind the point, in a ratio


@dataclass(frozen=True)
class Written:
    """A number in an author's file."""

    file: str
    span: Span

    def stands_in(self, file: SourceFile, span: Span) -> bool:
        """Whether it is part of what stands there."""
        return self.file == file.name and encloses(span, self.span)


Numbers = Mapping[Hashable, float]
Read = Callable[[Written, Any], Any]
Asked = tuple[Callable[[Any, Any], Any], Any, Any]  # a comparison
_ASKED: list[list[Asked]] = []


class _Origin:
    """``reads``: the numbers that a value was computed from; ``again``: computes it from other ones."""

    reads: frozenset[Hashable]
    again: Callable[[Numbers], Any]

    def __deepcopy__(self, _: object) -> _Origin:
        return self

    def _to(self, function: Callable[..., Any], *values: Any) -> Any:
        return _computed(function, values)


def _plain(value: Any) -> Any:
    return int(value) if isinstance(value, Traced) else float(value) if isinstance(value, TracedFloat) else value


def _computed(function: Callable[..., Any], values: Sequence[Any]) -> Any:
    plain = [_plain(v) for v in values]
    if not all(isinstance(v, int | float) for v in plain):
        return NotImplemented
    result = function(*plain)
    if type(result) not in (int, float):
        return result
    origins = [v if isinstance(v, _Origin) else None for v in values]
    made: Any = Traced(result) if type(result) is int else TracedFloat(result)
    made.reads = frozenset().union(*(o.reads for o in origins if o is not None))
    made.again = lambda numbers: function(*(
        v if o is None else o.again(numbers) for o, v in zip(origins, plain, strict=True)
    ))  # fmt: skip
    return made


def _operations(cls: Any) -> Any:
    for name in ("add", "sub", "mul", "floordiv", "truediv", "mod", "pow"):
        function = getattr(operator, name)
        setattr(cls, f"__{name}__", lambda a, b, f=function: a._to(f, a, b))
        setattr(cls, f"__r{name}__", lambda a, b, f=function: a._to(f, b, a))
    for name, one in {"neg": operator.neg, "pos": operator.pos, "abs": abs, "ceil": math.ceil}.items():
        setattr(cls, f"__{name}__", lambda a, f=one: a._to(f, a))
    for name, one in {"floor": math.floor, "trunc": math.trunc}.items():
        setattr(cls, f"__{name}__", lambda a, f=one: a._to(f, a))
    cls.__round__ = lambda a, digits=None: a._to(round, a) if digits is None else a._to(round, a, digits)
    for name, order in {"lt": operator.lt, "le": operator.le, "gt": operator.gt, "ge": operator.ge}.items():
        setattr(cls, f"__{name}__", lambda a, b, f=order: _asked(f, a, b))
    return cls


def _asked(function: Callable[[Any, Any], Any], first: Any, second: Any) -> Any:
    """The outcome of a comparison, which is noted."""
    plain = _plain(first), _plain(second)
    if not all(isinstance(v, int | float) for v in plain):
        return NotImplemented
    for noted in _ASKED[-1:]:
        noted.append((function, first, second))
    return function(*plain)


@_operations
class Traced(_Origin, int):
    """A whole number that knows what it was computed from."""


@_operations
class TracedFloat(_Origin, float):
    """The same with a fraction: a ratio in the author's file, or on the way from one whole number to another."""


def traced(key: Hashable, value: float) -> Any:
    made: Any = Traced(value) if type(value) is int else TracedFloat(value)
    made.reads, made.again = frozenset([key]), lambda numbers: numbers.get(key, value)
    return made


def _whole(keys: Iterable[Hashable], old: Numbers) -> set[Hashable]:
    return {k for k in keys if type(old[k]) is int}


def _int(*args: Any) -> Any:
    return args[0]._to(int, args[0]) if len(args) == 1 and isinstance(args[0], _Origin) else int(*args)


@contextmanager
def with_numbers(
    files: Iterable[SourceFile], classes: Iterable[type], read: Read, use: Read = lambda _, value: value
) -> Iterator[list[Asked]]:
    """Within this block the functions, tables and class attributes of these files have the numbers that ``read``
    gives, and calls in constructors get what ``use`` makes of what they are given. Gives the comparisons in which
    traced numbers stood."""
    files = list(files)
    namespaces = {file.name: cast(dict[str, Any], namespace_of(file)) for file in files}
    with ExitStack() as undo:
        vars(builtins).update({NUMBER: lambda site: read(Written(site[0], site[1:5]), site[5]), INT: _int})
        vars(builtins)[USE] = lambda site, value: use(Written(site[0], site[1:5]), value)
        undo.callback(lambda: [vars(builtins).pop(name) for name in (NUMBER, INT, USE)])
        _ASKED.append([])
        undo.callback(_ASKED.pop)
        functions = [(f, file, new) for file in files for f, new in _functions(file, namespaces[file.name])]
        for function, _, new in functions:
            undo.callback(setattr, function, "__code__", function.__code__)
            function.__code__ = new
        tables = [t for file in files for t in _all_tables(file, namespaces[file.name], classes, read)]
        moved = [*tables, *_imported(namespaces.values(), tables)]
        for put, owner, name, value, before in moved:
            undo.callback(put, owner, name, before)
            put(owner, name, value)
        again = {f: {n for _, owner, n, _, _ in moved if owner is namespace} for f, namespace in namespaces.items()}
        _make_options(files, namespaces, again, undo)
        if moved or any(again.values()):  # else the names mean what they meant
            functions += [(f, file, new) for file in files for f, new in _functions(file, namespaces[file.name])]
        for function, file in {id(f): (f, file) for f, file, _ in functions}.values():
            _give_defaults(function, file, namespaces[file.name], again[file.name], undo)
        yield _ASKED[-1]


def _functions(
    file: SourceFile, namespace: Mapping[str, Any]
) -> Iterator[tuple[types.FunctionType, types.CodeType]]:
    """The functions and methods of a file, and their code with other numbers."""
    held = [v for c in namespace.values() if isinstance(c, type) for v in vars(c).values()]
    for value in (*namespace.values(), *held):
        function = function_of(value)
        if function is not None and (code := function.__code__).co_filename == file.name:
            new = marked_functions(file).get((code.co_qualname, code.co_firstlineno))
            if new is not None and new.co_freevars == code.co_freevars:
                yield function, new


def _all_tables(file: SourceFile, namespace: Any, classes: Iterable[type], read: Read) -> Iterator[tuple[Any, ...]]:
    """Those at the top of a file, and in its classes."""
    yield from _tables(file.tree.body, file, namespace, dict.__setitem__, read)
    for cls in classes:
        if cls.__name__ in file.classes and namespace.get("__name__") == cls.__module__:
            yield from _of_class(file.classes[cls.__name__], cls, file, read)


def _of_class(node: ast.ClassDef, cls: type, file: SourceFile, read: Read) -> Iterator[tuple[Any, ...]]:
    """Those of a class, and of the classes in it."""
    yield from _tables(node.body, file, vars(cls), setattr, read, cls)
    for inner in (n for n in node.body if isinstance(n, ast.ClassDef)):
        held = vars(cls).get(inner.name)
        if type(held) is type and not issubclass(held, nn.Module):
            yield from _of_class(inner, held, file, read)


def _make_options(
    files: Sequence[SourceFile], namespaces: Mapping[str, dict[str, Any]], again: Mapping[str, set[str]],
    undo: ExitStack,
) -> None:  # fmt: skip
    """Makes options anew, in all files that know them. ``again``: by file, the names that mean something new."""

    def put(file: str, name: str, value: Any, before: Any) -> None:
        undo.callback(namespaces[file].__setitem__, name, before)
        namespaces[file][name] = value
        again[file].add(name)

    for file in files:
        for name, before in remade(file, namespaces[file.name], again[file.name]):
            put(file.name, name, namespaces[file.name][name], before)
            for other, namespace in namespaces.items():
                for alias in [n for n, v in namespace.items() if v is before and other != file.name]:
                    put(other, alias, namespaces[file.name][name], before)


def _give_defaults(
    function: types.FunctionType, file: SourceFile, namespace: dict[str, Any], again: Set[str], undo: ExitStack
) -> None:
    node = file.functions.get((function.__name__, function.__code__.co_firstlineno))
    if node is None:
        return
    found = defaults(function, node, file, namespace, again)
    for name, value in zip(("__defaults__", "__kwdefaults__"), found, strict=True):
        undo.callback(setattr, function, name, getattr(function, name))
        setattr(function, name, value)


def meant(expr: ast.expr, file: SourceFile, function: types.FunctionType, read: Read) -> Any:
    """What an expression in a function comes to, with the numbers that ``read`` gives in place of the written ones."""
    names = {**vars(builtins), **function.__globals__, **cells(function), INT: _int}
    names[NUMBER] = lambda site: read(Written(site[0], site[1:5]), site[5])
    return eval(marked(file, expr), names)


def _tables(
    body: Sequence[ast.stmt], file: SourceFile, namespace: Any, put: Any, read: Read, owner: Any = None
) -> Iterator[Any]:
    """Tables of numbers that statements gave a name, with other numbers in them."""
    for stmt in body:
        for name, value in named_values(stmt):
            new = _table(value, namespace[name], file, read) if name in namespace else None
            if name in namespace and new is not namespace[name]:
                yield put, namespace if owner is None else owner, name, new, namespace[name]


def _imported(namespaces: Iterable[Any], tables: Sequence[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """The same lists and dicts where other files imported them."""
    new = {id(value): now for _, _, _, now, value in tables if isinstance(value, list | dict | tuple)}
    known = {(id(owner), name) for _, owner, name, _, _ in tables}
    for namespace in namespaces:
        for name, value in namespace.items():
            if id(value) in new and (id(namespace), name) not in known:
                yield dict.__setitem__, namespace, name, new[id(value)], value


def _table(node: ast.expr, value: Any, file: SourceFile, read: Read) -> Any:
    """The value that an expression has, with other numbers where the expression says its numbers one by one."""
    if isinstance(node, ast.Constant) and type(node.value) is type(value) in (int, float) and node.value == value:
        return read(Written(file.name, span_of(node)), value)
    if isinstance(node, ast.List | ast.Tuple) and type(value) in (list, tuple) and len(node.elts) == len(value):
        items = [_table(n, v, file, read) for n, v in zip(node.elts, value, strict=True)]
        return value if all(a is b for a, b in zip(items, value, strict=True)) else type(value)(items)
    if isinstance(node, ast.Dict) and type(value) is dict and len(node.values) == len(value) and None not in node.keys:
        pairs = {k: _table(n, v, file, read) for n, (k, v) in zip(node.values, value.items(), strict=True)}
        return value if all(pairs[k] is value[k] for k in value) else pairs
    return value


Equation = tuple[Any, float]  # a traced number, and what it has to be
SMALLEST = 1


def solved(equations: Sequence[Equation], old: Numbers, known: Numbers) -> dict[Hashable, float] | None:
    """New numbers with which every traced value is what it has to be; None where there are none. ``known``: those
    that are settled already.

    Of the factors of a product the smaller ones stay, but where nothing fits, as widths that are to be divisible by 8
    may not be any more: then by their largest divisors, equal ones together. Ratios, ``int(dim * 4.0)``, stay too if
    they can.
    """
    read = {k for value, _ in equations for k in value.reads}
    ratios = {k: old[k] for k in read - _whole(read, old)}
    starts: list[dict[Hashable, float]] = [{**ratios, **known}, *([dict(known)] if ratios.keys() - known else [])]
    for start in starts:
        numbers, assumed = dict(start), set[Hashable]()
        failed = _propagated(equations, old, numbers, assumed)
        if failed is None:
            return numbers
        factors = [k for k in _whole(failed.reads & assumed, old) if k not in start]
        for value in sorted({old[k] for k in factors}, reverse=True):
            equal = [k for k in factors if old[k] == value]
            smaller = range(int(value) // 2, 0, -1) if value <= _DIGITS else ()
            found = [{**start, **dict.fromkeys(equal, d)} for d in smaller if int(value) % d == 0]
            starts += found[: _TRIES - len(starts)]
    return None


def _propagated(
    equations: Sequence[Equation], old: Numbers, numbers: dict[Hashable, float], assumed: set[Hashable]
) -> Traced | None:
    """Puts into ``numbers`` what follows from those there; gives a value that can't be what it has to be. ``assumed``:
    gets those that could be others as well."""
    rest = sorted(equations, key=lambda e: len(e[0].reads))
    while rest:
        before, later = len(numbers), list[Equation]()
        for value, wanted in rest:
            unknown = value.reads - set(numbers)
            if len(unknown) > 1:
                later.append((value, wanted))
                continue
            for key in unknown:
                numbers[key] = _number(value, wanted, key, old[key], numbers)
            if value.again(numbers) != wanted:
                return value
        if later and len(numbers) == before:
            scaled = next(filter(None, (_scaled(value, wanted, old, numbers) for value, wanted in later)), None)
            if scaled is None:  # the factors stay, and what is multiplied changes
                first = min((key for value, _ in later for key in value.reads - set(numbers)), key=lambda k: old[k])
                scaled = {first: old[first]}
                assumed.add(first)
            numbers.update(scaled)
        rest = sorted(later, key=lambda e: len(e[0].reads - set(numbers)))
    return None


def decided(asked: Sequence[Asked], old: Numbers, numbers: Numbers) -> dict[Hashable, float]:
    """Numbers that only comparisons read, such as the largest width: in the ratio of what they are compared with, where
    a comparison would turn out otherwise."""
    found: dict[Hashable, float] = {}
    for function, first, second in asked:
        free = _whole(reads_of(first) | reads_of(second), old) - set(numbers)
        sides = sorted((first, second), key=lambda side: len(reads_of(side) & free))
        new = [again(side, {**numbers, **found}) for side in (first, second)]
        if len(free) != 1 or reads_of(sides[0]) & free or function(*new) == function(*map(_plain, (first, second))):
            continue
        (key,), (other, bound) = free, sides
        wanted = _plain(bound) * again(other, numbers) // (_plain(other) or 1)
        if isinstance(bound, Traced) and int(wanted) >= SMALLEST:
            found[key] = _number(bound, int(wanted), key, old[key], numbers)
    return found


def _scaled(value: Traced, wanted: float, old: Numbers, numbers: Numbers) -> dict[Hashable, float]:
    """The terms of a sum that shrink alike, ``32 + 64`` to ``16 + 32``; nothing where they don't."""
    unknown = value.reads - set(numbers)
    whole = type(wanted) is int and unknown == _whole(unknown, old)
    if not value or not whole or any(old[k] * wanted % int(value) for k in unknown):
        return {}
    try:
        terms = [value.again({**numbers, **dict.fromkeys(unknown, 0), k: old[k]}) for k in unknown]
    except (ArithmeticError, ValueError):
        return {}
    if not all(terms) or sum(terms) != value.again({**numbers, **{k: old[k] for k in unknown}}):
        return {}  # no sum of them
    new = {k: old[k] * wanted // int(value) for k in unknown}
    return new if min(new.values()) >= SMALLEST and value.again({**numbers, **new}) == wanted else {}


def settled(equations: Sequence[Equation], old: Numbers) -> tuple[dict[Hashable, float], set[Hashable]]:
    """New numbers as ``solved`` finds them, with the ratios as they were, and those that would have to be several at
    once: nothing is known of what is computed from them. They have a number where they are one size wherever they stand
    by themselves."""
    groups: list[tuple[set[Hashable], list[Equation]]] = []
    for value, wanted in equations:
        reads = _whole(value.reads, old)
        joined = [g for g in groups if g[0] & reads]
        groups = [g for g in groups if not g[0] & reads]
        keys = reads.union(*(g[0] for g in joined))
        groups.append((keys, [(value, wanted), *(e for g in joined for e in g[1])]))
    numbers, torn = dict[Hashable, float](), set[Hashable]()
    ratios = {k: v for k, v in old.items() if type(v) is float}
    for keys, together in groups:
        found = solved(together, old, ratios)
        torn |= keys if found is None else set()
        numbers.update(_as_they_stand(together) if found is None else found)
    return numbers, torn | set().union(*(value.reads for value, _ in _weighed(equations, old, numbers)))


def _as_they_stand(equations: Sequence[Equation]) -> dict[Hashable, float]:
    """The numbers that are one size wherever they are one by themselves."""
    wanted: dict[Hashable, set[float]] = {}
    for value, size in equations:
        if (key := alone(value)) is not None:
            wanted.setdefault(key, set()).add(size)
    return {key: min(sizes) for key, sizes in wanted.items() if len(sizes) == 1}


def compensated(equations: Sequence[Equation], old: Numbers, numbers: Numbers) -> set[Hashable]:
    """What stands in products with a number in the author's file that is another one now: ``2 * width`` says nothing of
    other things that are twice as much."""
    found = _weighed(equations, old, numbers)
    return set().union(*(value.reads for value, others in found if any(isinstance(k, Written) for k in others)))


def _weighed(
    equations: Sequence[Equation], old: Numbers, numbers: Numbers
) -> Iterator[tuple[Traced, set[Hashable]]]:
    """Values of numbers that are widths by themselves, and of others that had to change with them."""
    moved = {k for k, n in numbers.items() if n != old.get(k)}
    reads = [(value, _whole(value.reads, old) | value.reads & moved) for value, _ in equations]
    alone = {key for _, keys in reads if len(keys) == 1 for key in keys}
    for value, keys in reads:
        if keys & alone and keys & moved - alone:
            yield value, keys & moved - alone


def reads_of(value: Any) -> frozenset[Hashable]:
    """The numbers that a value, or what a list or dict holds, was computed from."""
    if isinstance(value, list | tuple | dict):
        inside = (*value, *value.values()) if isinstance(value, dict) else value
        return frozenset[Hashable]().union(*map(reads_of, inside))
    return value.reads if isinstance(value, _Origin) else frozenset()


def renewed(value: Any, now: Callable[[Any], Any], depth: int = 4) -> Any:
    """A value, also one of records, with what ``now`` gives for each number in it that knows where it comes from."""
    fields = fields_of(value) if depth else None
    if isinstance(value, _Origin):
        return now(value)
    if fields is not None:
        new = {k: renewed(v, now, depth - 1) for k, v in fields.items()}
        return value if all(new[k] is v for k, v in fields.items()) else with_fields(value, new)
    if depth and type(value) in (list, tuple):
        return type(value)(renewed(v, now, depth - 1) for v in value)
    return {k: renewed(v, now, depth - 1) for k, v in value.items()} if depth and type(value) is dict else value


def alone(value: Any) -> Hashable | None:
    """The number that a traced value is, if it is one as it stands."""
    key = next(iter(value.reads)) if isinstance(value, Traced) and len(value.reads) == 1 else None
    return key if key is not None and all(value.again({key: n}) == n for n in (5, 12)) else None


def again(value: Any, numbers: Numbers) -> Any:
    """The value computed from other numbers."""
    if isinstance(value, list | tuple) and type(value) in (list, tuple):
        return type(value)(again(v, numbers) for v in value)
    if type(value) is dict:
        return {again(k, numbers): again(v, numbers) for k, v in value.items()}
    return value.again(numbers) if isinstance(value, _Origin) else value


def implied(value: Any, wanted: float, key: Hashable, old: Numbers) -> float | None:
    """What a number would be if it alone changed so that a value is what it has to be."""
    number = _number(value, wanted, key, old[key], old)
    return number if value.again({**old, key: number}) == wanted else None


def _number(value: Any, wanted: float, key: Hashable, old: float, numbers: Numbers) -> float:
    """The number that makes the value what it has to be: the old one if it does."""
    if type(old) is not int or type(wanted) is not int:
        return _ratio(value, wanted, key, old, numbers) if type(old) is not int else old
    scaled = old * wanted // int(value) if int(value) else wanted
    added = old + wanted - value.again({**numbers, key: old})  # in a sum of several widths
    for number in (old, scaled, wanted, *(scaled + d for d in (1, -1, 2, -2)), added):
        if (number >= SMALLEST or number == old) and value.again({**numbers, key: number}) == wanted:
            return number
    number = value.again({**numbers, key: 1}) // max(wanted, 1)  # a divisor, as in width // group_width, shrinks too
    return number if number >= SMALLEST and value.again({**numbers, key: number}) == wanted else old


def _ratio(value: Any, wanted: float, key: Hashable, old: float, numbers: Numbers) -> float:
    """The same for a ratio, with as few digits as do."""
    exact = [old * wanted / float(value), old * float(value) / wanted] if value and wanted else []
    for number in (old, *(round(e, digits) for e in exact for digits in range(1, _PLACES + 1))):
        if (number > 0 or number == old) and value.again({**numbers, key: number}) == wanted:
            return number
    return old
