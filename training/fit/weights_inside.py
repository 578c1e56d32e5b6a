"""The weights of a network in what a training script saved: under which name they lie, and what stands in front of
theirs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ...pruners.errors import CheckpointError, WeightsMismatchError

KNOWN = (
    "model", "state_dict", "model_state_dict", "model_state", "net", "network", "net_state_dict", "weights", "module",
    "params", "backbone", "encoder",
)  # fmt: skip
"""Names of what was trained itself; others may be averages of it, teachers or other networks."""
COUNT = "num_batches_tracked"
"""Old checkpoints have none; training alone looks at it."""

_OPTIMIZERS = ("optimizer", "optimizer_state_dict", "optimizer_state", "optim", "optim_state_dict", "opt")
_WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
_AVERAGED = re.compile(r"(^|[_.])(ema|swa|shadow|averaged?)([_.]|$)", re.IGNORECASE)
"""In the names of moving averages of weights."""
_AVERAGES = "n_averaged"
"""What ``AveragedModel`` counts beside the weights."""
_DEPTH = 3
State = dict[str, Tensor]


@dataclass(frozen=True)
class Inside:
    """``names``: under which the weights lie, and with which all of theirs begin. ``left``: tensors beside them.
    ``averaged``: they are a moving average of weights (EMA). ``other``: where others lie, the average of these or
    those that it was taken of."""

    state: State
    names: tuple[str, ...] = ()
    front: str = ""
    left: int = 0
    averaged: bool = False
    other: str = ""

    @property
    def place(self) -> str:
        return ".".join(filter(None, (*self.names, self.front))).strip(".")

    @property
    def told(self) -> str:
        """What is worth a line; nothing where weights lie as they usually do."""
        parts = [f"the weights are those under {'.'.join(map(repr, self.names))}"] * bool(self.names)
        parts += [f"the names are taken without {self.front!r}"] * bool(self.front)
        parts += [f"{self.left} other tensor{'s are' if self.left > 1 else ' is'} left out"] * bool(self.left)
        usual = self.names in ((), ("model",), ("state_dict",)) and self.front in ("", "module.") and not self.left
        if self.averaged:
            parts += ["they are averaged ones (EMA)" + (f", not those under {self.other!r}" if self.other else "")]
        elif self.other:
            parts += [f"--ema takes the averaged ones under {self.other!r}"]
        return "" if usual and not self.averaged and not self.other else ", ".join(parts)

    @property
    def rank(self) -> tuple[int, ...]:
        """Lower is likelier to be what is meant."""
        names = [*self.names, *self.front.split(".")[:-1]]
        known = [KNOWN.index(n) for n in names if n in KNOWN]
        strange = [n for n in names if n not in (*KNOWN, *_WRAPPERS)]
        return (len(strange), *known)


def weights_inside(
    content: Mapping[Any, Any], expected: Mapping[str, Tensor], origin: object, averaged: bool = False
) -> Inside | None:
    """The weights that fit ``expected``, a network's state_dict; ``averaged``: the moving average of them. Where none
    do, those that come closest; None where nothing is like them. Raises CheckpointError where several do and no name
    says which is meant, and where there is no average."""
    readings = [inside for names, tensors in _tables(content) for inside in _readings(names, tensors, expected)]
    found = sorted((r for r in readings if fits(r.state, expected)), key=lambda inside: inside.rank)
    averages, trained = [f for f in found if f.averaged], [f for f in found if not f.averaged]
    if averaged and not averages:
        raise CheckpointError(f"{origin} holds no averaged weights (EMA) that fit this network: leave --ema out")
    if not found:
        return _closest(readings, expected)
    taken, others = (trained, averages) if trained and not averaged else (averages, trained)
    first, *more = taken
    rivals = [f for f in more if f.rank[0] == first.rank[0] > 0 and not _same(f.state, first.state)]
    if rivals:
        named = " and ".join(f.place for f in (first, rivals[0]))
        raise WeightsMismatchError(
            f"{origin} holds several weights that fit, {named}: save those you mean by themselves"
        )
    return replace(first, other=others[0].place if others else "")


def _closest(readings: list[Inside], expected: Mapping[str, Tensor]) -> Inside | None:
    """What has the most names of the network's, if these are half of them."""

    def alike(inside: Inside) -> int:
        return sum(key in expected for key in inside.state)

    best = max(sorted(readings, key=lambda inside: (*inside.rank[:1], inside.left)), key=alike, default=None)
    return best if best is not None and 2 * alike(best) >= len(expected) else None


def optimizer_inside(content: Mapping[Any, Any]) -> Mapping[str, Any] | None:
    """The state_dict of the only optimizer."""
    several = content.get("optimizer_states")
    if isinstance(several, list) and len(several) == 1 and isinstance(several[0], dict):
        return several[0]
    return next((content[key] for key in _OPTIMIZERS if isinstance(content.get(key), dict)), None)


def fits(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> bool:
    """Whether names and shapes are those of the network."""
    lacking = [k for k in expected if k not in state]
    return (
        len(state) == len(expected) - len(lacking)
        and all(k.endswith(COUNT) for k in lacking)
        and all(k in expected and v.shape == expected[k].shape for k, v in state.items())
    )


def _tables(content: Mapping[Any, Any], names: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], State]]:
    """Every part that holds tensors by name, with the names it lies under."""
    tensors = {k: v for k, v in content.items() if isinstance(k, str) and isinstance(v, Tensor)}
    if tensors:
        yield names, tensors
    if len(names) < _DEPTH:
        for key, value in content.items():
            if isinstance(key, str) and isinstance(value, Mapping):
                yield from _tables(value, (*names, key))


def _readings(names: tuple[str, ...], tensors: State, expected: Mapping[str, Tensor]) -> Iterator[Inside]:
    """In every way that they can be meant, with what names say of averages."""
    counted = _AVERAGES in tensors and _AVERAGES not in expected
    if counted:
        tensors = {k: v for k, v in tensors.items() if k != _AVERAGES}
    for inside in _fronts(names, tensors):
        yield replace(inside, averaged=counted or any(map(_AVERAGED.search, (*names, inside.front))))


def _fronts(names: tuple[str, ...], tensors: State) -> Iterator[Inside]:
    """As they are; without the names of wrappers; and those alone that begin with a name, without it."""
    yield Inside(tensors, names)
    plain = {_unwrapped(k): v for k, v in tensors.items()}
    if len(plain) != len(tensors):
        return
    if plain.keys() != tensors.keys():
        front = next(f"{w}." for k in tensors for w in k.split(".") if w in _WRAPPERS)
        yield Inside(plain, names, front)
    fronts = {tuple(k.split(".")[:depth]) for k in plain for depth in range(1, _DEPTH + 1) if k.count(".") >= depth}
    for front_parts in sorted(fronts):
        front = ".".join(front_parts) + "."
        state = {k.removeprefix(front): v for k, v in plain.items() if k.startswith(front)}
        yield Inside(state, names, front, len(plain) - len(state))


def _unwrapped(key: str) -> str:
    return ".".join(part for part in key.split(".") if part not in _WRAPPERS)


def _same(a: State, b: State) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
