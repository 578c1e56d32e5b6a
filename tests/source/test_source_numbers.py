"""Numbers that know where they come from: what can't be solved, then what is read, computed and put back."""

from __future__ import annotations

import importlib
import math
import operator
import sys
from collections.abc import Hashable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from secateur.pruners.source.author import (
    Traced,
    Written,
    again,
    decided,
    reads_of,
    settled,
    solved,
    traced,
    with_numbers,
)
from secateur.pruners.source.text import SourceFile, Sources

OLD: dict[Hashable, int] = {"a": 8, "b": 16, "two": 2, "eight": 8}


def number(key: str) -> Traced:
    return traced(key, OLD[key])


def test_one_number_can_not_be_two() -> None:
    assert solved([(number("a"), 4), (number("a"), 6)], OLD, {}) is None


def test_a_number_that_is_settled_is_not_changed_again() -> None:
    assert solved([(number("a"), 4)], OLD, {"a": 6}) is None
    assert solved([(number("a"), 6)], OLD, {"a": 6}) == {"a": 6}


@pytest.mark.parametrize("wanted", [0, -2], ids=["nothing", "less_than_nothing"])
def test_no_number_below_one_is_found(wanted: int) -> None:
    assert solved([(number("a"), wanted)], OLD, {}) is None


def test_what_no_multiple_gives_has_no_solution() -> None:
    assert solved([(number("a"), 8), (2 * number("a"), 7)], OLD, {}) is None


def test_numbers_that_would_have_to_be_several_are_torn_and_others_are_not() -> None:
    numbers, torn = settled([(number("a"), 4), (number("a"), 3), (number("b"), 5)], OLD)
    assert (numbers, torn) == ({"b": 5}, {"a"})


def test_a_torn_number_that_is_one_size_wherever_it_stands_by_itself_has_it() -> None:
    numbers, torn = settled([(number("a"), 4), (number("a") * 2, 6), (number("b"), 5)], OLD)
    assert (numbers, torn) == ({"a": 4, "b": 5}, {"a"})


def test_a_factor_that_is_another_one_now_tells_nothing_of_other_products() -> None:
    _, torn = settled([(number("a"), 4), (number("two") * number("a"), 16)], OLD)
    assert torn == {"two", "a"}


def test_a_factor_that_stays_tears_nothing() -> None:
    _, torn = settled([(number("a"), 4), (number("two") * number("a"), 8), (number("two") * number("b"), 16)], OLD)
    assert torn == set()


def test_terms_of_a_sum_shrink_alike() -> None:
    assert solved([(number("a") + number("b"), 12)], OLD, {}) == {"a": 4, "b": 8}
    assert solved([(number("a") + number("b") + number("two"), 13)], OLD, {}) == {"a": 4, "b": 8, "two": 1}


@pytest.mark.parametrize(("value", "wanted", "found"), [
    pytest.param(number("a") * number("b"), 64, {"a": 8, "b": 8}, id="a product"),
    pytest.param(number("b") // number("two"), 4, {"b": 8, "two": 2}, id="a quotient"),
    pytest.param(number("a") * number("b") // number("two"), 32, {"two": 2, "a": 8, "b": 8}, id="both"),
    pytest.param(number("b") * number("two") ** 0, 8, {"two": 2, "b": 8}, id="a power that says nothing"),
])
def test_of_what_is_no_sum_one_number_changes(value: Any, wanted: int, found: dict[Hashable, int]) -> None:
    assert solved([(value, wanted)], OLD, {}) == found


def test_of_factors_that_stay_the_largest_divisor_is_taken_where_nothing_else_fits() -> None:
    def rounded(width: str) -> Any:
        return (number(width) + number("eight") // 2) // number("eight") * number("eight")

    assert solved([(rounded("b"), 8)], OLD, {}) == {"eight": 8, "b": 8}
    assert solved([(rounded("b"), 8), (rounded("a"), 12)], OLD, {}) == {"eight": 4, "b": 8, "a": 12}
    assert solved([(rounded("a"), 12)], OLD, {"eight": 8}) is None


@pytest.mark.parametrize(("width", "limit"), [(4, 16), (8, 32), (3, 12)])
def test_a_number_that_only_comparisons_read_follows_what_it_is_compared_with(width: int, limit: int) -> None:
    known = {"a": 8, "limit": 32}
    a, most = traced("a", 8), traced("limit", 32)
    asked = [(operator.le, a * 2**n, most) for n in range(4)]
    assert [f(int(x), int(y)) for f, x, y in asked] == [True, True, True, False]
    assert decided(asked, known, {"a": width}) == ({} if limit == 32 else {"limit": limit})
    assert decided(asked, known, {"a": width, "limit": 32}) == {}


def test_widths_are_found_through_arithmetic_and_factors_stay() -> None:
    quarter = int(round(number("b") / 4) + 1)
    assert quarter == 5 and type(quarter) is int
    values = [(number("a"), 6), (number("two") * number("b"), 20), (number("a") + number("b"), 16)]
    assert solved(values, OLD, {}) == {"a": 6, "b": 10, "two": 2}


@pytest.mark.parametrize(
    ("made", "then"),
    [
        (lambda a: a // 3, 2),
        (lambda a: 20 - a, 13),
        (lambda a: -a + 16, 9),
        (lambda a: a**2 % 10, 9),
        (lambda a: math.ceil(a / 2), 4),
        (lambda a: math.floor(a * 0.5), 3),
        (lambda a: round(a * 1.24), 9),
        (lambda a: abs(a - 10), 3),
        (lambda a: max(a, 4), 7),
        (lambda a: sum([a, a]), 14),
    ],
    ids=["divided", "taken_off", "negated", "a_power", "rounded_up", "rounded_down", "rounded", "without_sign",
         "the_largest", "a_sum"],
)  # fmt: skip
def test_what_is_computed_from_a_number_is_computed_again(made: Any, then: int) -> None:
    value = made(number("a"))
    assert value == made(8) and reads_of(value) == {"a"}
    assert again(value, {"a": 7}) == then == made(7)


def test_lists_and_dicts_are_computed_again_with_all_that_they_hold() -> None:
    a, b = number("a"), number("b")
    value = {"widths": [a, (b, "x", 3)], a: None}
    assert reads_of(value) == {"a", "b"}
    assert again(value, {"a": 4}) == {"widths": [4, (16, "x", 3)], 4: None}
    assert reads_of([1, "8", None]) == frozenset() and again("8", {}) == "8"


TEXT = '''
TABLE = [8, "M", (16, 16)]
NAMED = {"small": [8], "large": {"width": 32}}
SWITCH, LATER = True, 7


class Net:
    expansion = 4

    @staticmethod
    def twice(x):
        return 2 * x

    @property
    def size(self):
        return 12

    def widths(self, x=1):
        flag = True
        found = [w for w in TABLE if w != "M"]
        return [int(self.twice(64) * 0.5), found, self.expansion, self.size, flag, x]


def build():
    match "M":
        case "M":
            n: int = 5
    return n + NAMED["large"]["width"]


def fails():
    raise ValueError(9)
'''


@pytest.fixture
def module(tmp_path: Path) -> Iterator[ModuleType]:
    (tmp_path / "author_numbers.py").write_text(TEXT)
    sys.path.insert(0, str(tmp_path))
    yield importlib.import_module("author_numbers")
    sys.path.remove(str(tmp_path))
    del sys.modules["author_numbers"]


def file_of(module: ModuleType) -> SourceFile:
    found = Sources().file(str(module.__file__))
    assert found is not None
    return found


def plus(number: int) -> Any:
    return lambda _, value: value + number


def test_everything_is_as_it_was_when_the_authors_code_raises(module: ModuleType) -> None:
    before, code = module.Net().widths(), module.build.__code__
    with pytest.raises(ValueError, match="10"), with_numbers([file_of(module)], [module.Net], plus(1)):
        module.fails()
    assert module.Net().widths() == before and module.build.__code__ is code
    assert (module.TABLE, module.NAMED["large"], module.Net.expansion) == ([8, "M", (16, 16)], {"width": 32}, 4)


def test_numbers_in_functions_tables_and_classes_are_others_while_it_lasts(module: ModuleType) -> None:
    net = module.Net()
    with with_numbers([file_of(module)], [module.Net], plus(1)):
        assert net.widths() == [292, [9, (17, 17)], 5, 13, True, 2]  # int(3 * 65 * 1.5)
        assert module.build() == 6 + 33
        assert module.SWITCH is True
    assert net.widths() == [64, [8, (16, 16)], 4, 12, True, 1]


def test_a_class_that_is_no_module_is_made_once_more_and_itself_keeps_its_attributes(module: ModuleType) -> None:
    kept = module.Net
    with with_numbers([file_of(module)], [], plus(1)):
        assert kept.expansion == 4 and module.Net.expansion == 5
    assert module.Net is kept


def test_each_number_tells_its_place(module: ModuleType) -> None:
    places: dict[Written, int] = {}

    def read(place: Written, value: int) -> int:
        return places.setdefault(place, value)

    file = file_of(module)
    with with_numbers([file], [module.Net], read):
        module.Net().widths()
    assert {file.span(*place.span): value for place, value in places.items()}.items() >= {
        "64": 64, "2": 2, "8": 8, "16": 16, "4": 4, "12": 12, "32": 32,
    }.items()  # fmt: skip
    assert all(place.file == file.name for place in places)


def test_a_table_that_another_file_imports_is_another_one_there_too(module: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "author_imports.py").write_text("from author_numbers import NAMED, TABLE as KINDS\n")
    other = importlib.import_module("author_imports")
    try:
        with with_numbers([file_of(module), file_of(other)], [], plus(1)):
            assert (other.KINDS, other.NAMED["small"]) == ([9, "M", (17, 17)], [9])
        assert other.KINDS is module.TABLE and other.NAMED is module.NAMED
    finally:
        del sys.modules["author_imports"]
