"""What a plan says of where it comes from. In a file that is read it may be anything, so all of it is checked."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from .errors import PlanError

_DEEPEST = 24
_MOST_NUMBERS = 2**31  # of one input


def check_provenance(facts: Mapping[str, Any], origin: str) -> None:
    """Raises PlanError where a known fact is not what it must be. Facts of other names may be anything."""
    for name, value in facts.items():
        wanted, fits = _FACTS.get(name, ("", _anything))
        if not fits(value):
            raise PlanError(f"{origin}: the plan's {name} is damaged, it must be {wanted}; make a new plan")


def check_values(data: Any, origin: str) -> None:
    """Raises PlanError where there is something that JSON shouldn't hold: texts that are no UTF-8, infinite numbers,
    lists within lists without end."""
    for depth, value in _values(data):
        if depth > _DEEPEST:
            raise PlanError(f"{origin}: the plan is damaged, it is nested more than {_DEEPEST} deep")
        if isinstance(value, str) and any("\ud800" <= c <= "\udfff" for c in value):
            raise PlanError(f"{origin}: the plan is damaged, {ascii(value)[:60]} is no UTF-8 text")
        if isinstance(value, float) and not math.isfinite(value):
            raise PlanError(f"{origin}: the plan is damaged, it holds a number that is not finite")


def _values(data: Any) -> Iterator[tuple[int, Any]]:
    """Every value with its depth, and every key; no deeper than is refused."""
    waiting = [(0, data)]
    while waiting:
        depth, value = waiting.pop()
        yield depth, value
        if isinstance(value, dict):
            waiting += [(depth + 1, v) for v in (*value, *value.values())]
        elif isinstance(value, list):
            waiting += [(depth + 1, v) for v in value]


def _anything(value: Any) -> bool:
    return True


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_whole(value: Any) -> bool:
    return type(value) is int and -(2**63) <= value < 2**63


def _is_count(value: Any) -> bool:
    return _is_whole(value) and value >= 0


def _is_number(value: Any) -> bool:
    return type(value) is float or _is_whole(value)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _are_numbers(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_number, value.values()))


def _is_shape(value: Any) -> bool:
    return (
        isinstance(value, list) and len(value) > 0 and all(_is_count(n) and n for n in value)
        and math.prod(value) <= _MOST_NUMBERS
    )  # fmt: skip


def _are_shapes(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_shape, value))


def _are_arguments(value: Any) -> bool:
    return isinstance(value, dict) and all(name.isidentifier() for name in value)


def _is_kind(value: Any) -> bool:
    names = {"kind", "options", "first_layer", "last_layer"}
    return (
        isinstance(value, dict) and value.keys() == names and _are_arguments(value["options"])
        and all(_is_text(value[n]) for n in names - {"options"})
    )  # fmt: skip


_Check = tuple[str, Callable[[Any], bool]]


def _each(names: str, wanted: str, fits: Callable[[Any], bool]) -> dict[str, _Check]:
    return dict.fromkeys(names.split(), (wanted, fits))


_FACTS: dict[str, _Check] = {
    **_each(
        "arch data device direction example factory init_from metric mode model origin per python search "
        "source_sha256 torch transfer weights weights_sha256",
        "a text", _is_text,
    ),
    **_each("model_seed seed", "a whole number of at most 64 bits", _is_whole),
    **_each("calibration final_epochs latency_batch retrain_epochs", "a whole number, 0 or more", _is_count),
    **_each("alpha beta distill heal latency layers macs params ratio temperature", "a number", _is_number),
    "arguments": ("an object with names of arguments", _are_arguments),
    "input_shapes": (f"a list of shapes, such as [[3, 32, 32]], of at most {_MOST_NUMBERS:,} numbers", _are_shapes),
    "network": ("an object with kind, options, first_layer and last_layer", _is_kind),
    "skip": ("a list of layers' names", _are_texts),
    "without": ("a list of layers' names", _are_texts),
    "ratios": ("an object with a number for each word", _are_numbers),
    **_each("ema tied", "true or false", lambda value: isinstance(value, bool)),
}  # fmt: skip
