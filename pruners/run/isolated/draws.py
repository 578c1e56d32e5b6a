"""Random numbers that repeat, and that are the same for networks of other widths."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from .counting import DispatchMode


class EvenDraws(DispatchMode):
    """Every draw of random numbers gives one value in all its elements, whatever their number: so networks of different
    widths draw the same. Each draw has a value of its own. ``drew``: how many there were."""

    def __init__(self) -> None:
        super().__init__()
        self.drew = 0

    def called(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        form = _DRAWS.get(func.overloadpacket.__name__)
        if form is None:
            return func(*args, **kwargs)
        self.drew += 1
        seed(self.drew)
        return form(func, args, {**kwargs, **({"generator": None} if "generator" in kwargs else {})})


def _filled(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """In place: what the operation draws for one element, everywhere."""
    return args[0].copy_(func(args[0].new_zeros(1), *args[1:], **kwargs))


def _made(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A new tensor: its one value is what the operation draws for one element."""
    whole = func(*args, **kwargs)
    seed(torch.initial_seed())
    if isinstance(args[0], Tensor):
        one = func(args[0].new_zeros(1), *args[1:], **kwargs)
    else:
        one = func(*([1] if isinstance(a, (list, tuple)) else a for a in args), **kwargs)
    return whole.copy_(one)


def _normal(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Around a mean, with a deviation: either may be a tensor."""
    mean, deviation = args[0], args[1] if len(args) > 1 else kwargs.get("std", 1.0)
    if not isinstance(mean, Tensor) and not isinstance(deviation, Tensor):
        return _made(func, args, kwargs)
    return mean + deviation * float(torch.randn(1))


def _kept(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Yes or no: yes, where that can be. So a dropout keeps everything and scales it."""
    in_place = func.overloadpacket.__name__ == "bernoulli_"
    chance = args[1] if len(args) > 1 else kwargs.get("p", 0.5 if in_place else args[0])
    yes = torch.as_tensor(chance) > 0  # before it may be written over
    return func(*args, **kwargs).copy_(yes)


def _dropout(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    out, mask = func(*args, **kwargs)
    return (args[0] / (1 - args[1]) if args[2] and args[1] < 1 else out), mask.fill_(True)


def _in_order(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    out = func(*args, **kwargs)
    return out.copy_(torch.arange(out.numel()))


def _slope(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A leaky rectifier with a random slope: the mean one."""
    lower, upper = (args[2], args[3]) if len(args) > 3 else (1 / 8, 1 / 3)
    return torch.nn.functional.leaky_relu(args[0], (float(lower) + float(upper)) / 2)


_DRAWS = {
    **dict.fromkeys(("normal_", "uniform_", "exponential_", "cauchy_", "log_normal_"), _filled),
    **dict.fromkeys(("geometric_", "random_"), _filled),
    **dict.fromkeys(("randn", "rand", "randint", "randn_like", "rand_like", "randint_like"), _made),
    **dict.fromkeys(("bernoulli", "bernoulli_"), _kept),
    "normal": _normal,
    "native_dropout": _dropout,
    "randperm": _in_order,
    "rrelu_with_noise": _slope,
}


def seed(number: int) -> None:
    """Torch's random numbers start anew. ``manual_seed`` writes down its whole call stack for devices that are not in
    use yet, which takes longer than a small network."""
    if torch.accelerator.is_available():
        torch.manual_seed(number)
    else:
        torch.default_generator.manual_seed(number)


@contextmanager
def seeded() -> Iterator[None]:
    """Random numbers start anew, and go on afterwards as if nothing had been drawn: torch's, Python's and numpy's."""
    numpy = sys.modules.get("numpy")
    theirs = numpy.random.get_state() if numpy else None
    own = random.getstate()
    try:
        with torch.random.fork_rng(devices=[]):
            seed(0)
            random.seed(0)
            if numpy:
                numpy.random.seed(0)
            yield
    finally:
        random.setstate(own)
        if numpy:
            numpy.random.set_state(theirs)
