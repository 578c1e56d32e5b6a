"""Which numbers of a configuration count which axes, on configurations of our own."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import pytest

from secateur.pruners.hub import changed, entries, in_proportion, number, numbers_in

CONFIG = {"hidden": 32, "inner": 48, "heads": 4, "layers": 2, "name": "net", "flag": True, "made_up": None,
          "text": {"hidden": 8}, "sizes": [3, 5], "_private": 7}  # fmt: skip


def shapes(values: Mapping[str, Any]) -> dict[str, tuple[int, ...]] | None:
    """A small transformer; ``made_up`` is four times ``hidden`` unless it is said."""
    hidden, heads = values["hidden"], values["heads"]
    if hidden % heads:
        return None
    found = {"embed": (100, hidden)}
    for layer in range(values["layers"]):
        found |= {f"{layer}.q": (hidden, hidden), f"{layer}.up": (values["inner"], hidden)}
        found |= {f"{layer}.extra": (values["made_up"] or 4 * hidden,)}
    return found


def named(path: str) -> Any:
    return next(e for e in entries(CONFIG, shapes) if e.name == path)


def test_a_number_of_which_other_tensors_come_is_none_of_them() -> None:
    assert "layers" not in {e.name for e in entries(CONFIG, shapes)}


def test_names_flags_and_private_entries_are_no_numbers() -> None:
    assert {".".join(map(str, p)) for p, _ in numbers_in(CONFIG)} == {
        "hidden", "inner", "heads", "layers", "made_up", "text.hidden", "sizes.0", "sizes.1",
    }  # fmt: skip


def test_a_number_counts_the_axes_that_change_with_it() -> None:
    assert named("inner").slopes == {("0.up", 0): 1, ("1.up", 0): 1}
    assert named("hidden").slopes[("0.extra", 0)] == 4


def test_a_number_that_only_divides_counts_nothing() -> None:
    assert named("heads").slopes == {}


def test_what_the_library_makes_up_is_found_by_the_size_it_has() -> None:
    found = {e.name: e for e in entries(CONFIG, shapes, sizes=[48, 128])}
    assert found["made_up"].value == 128 and found["made_up"].slopes == {("0.extra", 0): 1, ("1.extra", 0): 1}


def test_changing_a_number_leaves_the_configuration_as_it_was() -> None:
    other = changed(CONFIG, {("text", "hidden"): 4, ("sizes", 1): 6})
    assert (other["text"]["hidden"], other["sizes"]) == (4, [3, 6])
    assert (CONFIG["text"], CONFIG["sizes"]) == ({"hidden": 8}, [3, 5])


LOST = {("0.up", 0): {"up0": 1.0}, ("1.up", 0): {"up1": 1.0}, ("0.q", 0): {"q0": 8.0}, ("1.q", 0): {"q1": 8.0}}


def test_widths_that_one_number_counts_go_together() -> None:
    found = number([named("inner")], LOST, {"up0": (48, 1), "up1": (48, 1)})
    assert found is not None
    assert (found.shares, found.values(10)) == ({"up0": 1, "up1": 1}, {("inner",): 38})


def test_a_number_is_none_where_it_counts_an_axis_that_no_width_has() -> None:
    assert number([named("hidden")], LOST, {"q0": (4, 1), "q1": (4, 1)}) is None


def test_groups_of_several_positions_go_in_proportion() -> None:
    lost = {**LOST, ("embed", 1): {"all": 1.0}}
    lost |= {(f"{n}.{name}", 1): {"all": 1.0} for n in (0, 1) for name in ("q", "up")}
    lost |= {(f"{n}.extra", 0): {"all": 4.0} for n in (0, 1)}
    found = number([named("hidden")], lost, {"q0": (4, 1), "q1": (4, 1), "all": (32, 1)})
    assert found is not None and found.shares == {"all": 8, "q0": 1, "q1": 1}
    assert found.steps == {("hidden",): 8}


def test_an_entry_of_a_fraction_falls_by_fractions() -> None:
    def by_ratio(values: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        return {"up": (int(16 * values["ratio"]),)}

    [ratio] = entries({"ratio": 4.0}, by_ratio)
    found = number([ratio], {("up", 0): {"up": 1.0}}, {"up": (64, 1)})
    assert found is not None and found.values(32) == {("ratio",): 2.0}
    assert found.steps == {("ratio",): Fraction(1, 16)}


def test_numbers_that_are_multiplied_fall_by_the_same_part() -> None:
    lost = {("0.q", 0): {"q0": 8.0}, ("0.q", 1): {"all": 1.0}}
    found = in_proportion([named("hidden"), named("heads")], lost, {"q0": (4, 1), "all": (32, 1)})
    assert found is not None
    assert (found.shares, found.values(1)) == ({"all": 8, "q0": 1}, {("hidden",): 24, ("heads",): 3})


@pytest.mark.parametrize("chosen", [["hidden"], ["heads"]])
def test_one_number_alone_is_in_no_proportion(chosen: list[str]) -> None:
    assert in_proportion([named(n) for n in chosen], LOST, {"q0": (4, 1), "q1": (4, 1)}) is None
