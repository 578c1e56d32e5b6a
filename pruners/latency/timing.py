"""How long calls take: many of them in turns, so that whatever else the machine does meets all of them."""

from __future__ import annotations

import os
import platform
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..run import as_it_was

try:
    import resource
except ImportError:  # not a Unix
    resource = None  # type: ignore[assignment]

_WARM_UP = 2
_LONG = 0.02  # seconds; what takes longer finds nothing of an earlier run in the caches
LEAST_ROUNDS = 3


@dataclass(frozen=True)
class Run:
    """A forward pass to be timed; ``name`` says all that its time depends on but the machine."""

    name: str
    model: nn.Module
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self) -> Any:
        return self.model(*self.args, **self.kwargs)


def device_of(model: nn.Module) -> torch.device:
    """Where a network's parameters are; the CPU for one without any."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))


Measure = Callable[[Sequence[Run], int, float], list[float]]
"""(runs, rounds, seconds they may take in all) -> seconds of each."""


@dataclass(frozen=True)
class _Sample:
    seconds: float
    disturbed: bool


def in_turns(runs: Sequence[Run], rounds: int, seconds: float = float("inf")) -> list[float]:
    """The median of each over the rounds; fewer rounds, but at least LEAST_ROUNDS, when the time is up.

    Every round has another order, each sample of a short run follows another run of the same. Two rounds to warm up
    don't count, of which long runs take one. Samples during which the system gave the processor to others don't count
    either, unless too few are left. Modules run in eval mode and are left in the mode they were in.
    """
    taken: list[list[_Sample]] = [[] for _ in runs]
    root = nn.ModuleList({id(run.model): run.model for run in runs}.values())
    order, shuffle = list(range(len(runs))), random.Random(0).shuffle
    last = [0.0] * len(runs)
    started = time.perf_counter()
    with torch.no_grad(), as_it_was(root):
        root.eval()
        for number in range(_WARM_UP + rounds):
            if number >= _WARM_UP + LEAST_ROUNDS and time.perf_counter() - started > seconds:
                break
            shuffle(order)
            for place in order:
                long = last[place] > _LONG
                if 0 < number < _WARM_UP and long:
                    continue
                sample = _once(runs[place], again=long or not number)
                last[place] = sample.seconds
                taken[place] += [sample] if number >= _WARM_UP else []
    return [_typical(samples) for samples in taken]


def _typical(samples: Sequence[_Sample]) -> float:
    quiet = [s.seconds for s in samples if not s.disturbed]
    return statistics.median(quiet if len(quiet) >= LEAST_ROUNDS else [s.seconds for s in samples])


def _once(run: Run, again: bool) -> _Sample:
    if not again:
        run()  # what it reads is in the caches then, as in a network that has just made it
    device = device_of(run.model)
    if device.type == "cuda":  # kernels run beside Python, so the device keeps the time
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize(device)
        begin.record()
        run()
        end.record()
        end.synchronize()
        return _Sample(float(begin.elapsed_time(end)) / 1000, False)
    # on one thread: time on the processor, which is time on the clock unless others want the processor, too
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    switches, started = _switches(), clock()
    run()
    taken = clock() - started
    return _Sample(taken, clock is time.perf_counter and _switches() != switches)


def _switches() -> int:
    """How often the system has taken the processor away from this process."""
    return 0 if resource is None else resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def machine(device: torch.device) -> dict[str, Any]:
    """What times depend on besides the network."""
    facts = {"cpu": _processor(), "cores": os.cpu_count(), "threads": torch.get_num_threads(),
             "torch": torch.__version__, "device": device.type}  # fmt: skip
    if device.type == "cuda":
        facts["device"] = torch.cuda.get_device_name(device)
    return facts


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:  # not Linux
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
