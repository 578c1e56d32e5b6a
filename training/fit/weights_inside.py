"""The weights of a network in what a training script saved: under which name they lie, and what stands in front of
theirs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...pruners.errors import WeightsMismatchError

KNOWN = (
    "model", "state_dict", "model_state_dict", "model_state", "net", "network", "net_state_dict", "weights", "module",
    "params", "backbone", "encoder",
)  # fmt: skip
"""Names of what was trained itself; others may be averages of it, teachers or other networks."""
COUNT = "num_batches_tracked"
"""Old checkpoints have none; training alone looks at it."""

_OPTIMIZERS = ("optimizer", "optimizer_state_dict", "optimizer_state", "optim", "optim_state_dict", "opt")
_WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
_DEPTH = 3
State = dict[str, Tensor]


@dataclass(frozen=True)
class Inside:
    """``names``: under which the weights lie, and with which all of theirs begin. ``left``: tensors beside them."""

    state: State
    names: tuple[str, ...] = ()
    front: str = ""
    left: int = 0

    @property
    def told(self) -> str:
        """What is worth a line; nothing where weights lie as they usually do."""
        parts = [f"the weights are those under {'.'.join(map(repr, self.names))}"] * bool(self.names)
        parts += [f"the names are taken without {self.front!r}"] * bool(self.front)
        parts += [f"{self.left} other tensors are left out"] * bool(self.left)
        usual = self.names in ((), ("model",), ("state_dict",)) and self.front in ("", "module.") and not self.left
        return "" if usual else ", ".join(parts)

    @property
    def rank(self) -> tuple[int, ...]:
        """Lower is likelier to be what is meant."""
        names = [*self.names, *self.front.split(".")[:-1]]
        known = [KNOWN.index(n) for n in names if n in KNOWN]
        strange = [n for n in names if n not in (*KNOWN, *_WRAPPERS)]
        return (len(strange), *known)


def weights_inside(content: Mapping[Any, Any], expected: Mapping[str, Tensor], origin: object) -> Inside | None:
    """The weights that fit ``expected``, a network's state_dict; None if none do. Raises CheckpointError where several
    do and no name says which is meant."""
    found = sorted(_fitting(content, expected), key=lambda inside: inside.rank)
    if not found:
        return None
    rivals = [f for f in found[1:] if f.rank[0] == found[0].rank[0] > 0 and not _same(f.state, found[0].state)]
    if rivals:
        named = " and ".join(".".join((*f.names, f.front)).strip(".") for f in (found[0], rivals[0]))
        raise WeightsMismatchError(
            f"{origin} holds several weights that fit, {named}: save those you mean by themselves"
        )
    return found[0]


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


def _fitting(content: Mapping[Any, Any], expected: Mapping[str, Tensor]) -> Iterator[Inside]:
    for names, tensors in _tables(content):
        yield from (inside for inside in _readings(names, tensors) if fits(inside.state, expected))


def _tables(content: Mapping[Any, Any], names: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], State]]:
    """Every part that holds tensors by name, with the names it lies under."""
    tensors = {k: v for k, v in content.items() if isinstance(k, str) and isinstance(v, Tensor)}
    if tensors:
        yield names, tensors
    if len(names) < _DEPTH:
        for key, value in content.items():
            if isinstance(key, str) and isinstance(value, Mapping):
                yield from _tables(value, (*names, key))


def _readings(names: tuple[str, ...], tensors: State) -> Iterator[Inside]:
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
