"""What candidates of a search have in common is computed once.

A search changes one width at a time. The operations before the first one that reads a tensor of this width are the same
for all its candidates and for the network they are made from (the base). They are run on the base once for every batch
and then skipped (``replaying``): every candidate starts where it begins to differ. Results are those of whole passes,
bit for bit; where that can't be had, whole passes are made.

The evaluation is a function of the caller's, which is not told: hooks on the candidate notice its calls. A batch is
recognised by its values.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ...run import copied, described, tree_leaves, tree_map
from .outline import Outline, outline_of
from .replay import Origins, ReachedError, Recording, Replay, alike, state_of

log = logging.getLogger(__name__)
T = TypeVar("T")
LIMIT = 2 << 30  # bytes
_FEW = 2  # images of the pass that shows where networks differ


@dataclass
class Speed:
    """``seconds`` that evaluations took, and those that the skipped operations took when they were recorded."""

    evaluations: int = 0
    seconds: float = 0.0
    spared: float = 0.0

    def as_dict(self, evaluations: int | None = None) -> dict[str, float]:
        """Evaluations per second, and how many there would have been had nothing been skipped. ``evaluations``: how
        many there are where some are told from an earlier run."""
        rate, whole = self._rates()
        number = evaluations or self.evaluations
        return {"evaluations": number, "per_second": round(rate, 3), "per_second_whole": round(whole, 3)}

    @property
    def told(self) -> str:
        return self.tell()

    def tell(self, evaluations: int | None = None) -> str:
        rate, whole = self._rates()
        number = evaluations or self.evaluations
        return f"{number} evaluations, {rate:.3g} per second; {whole:.3g} without the cache" if rate else ""

    def _rates(self) -> tuple[float, float]:
        n, seconds = self.evaluations, self.seconds
        return (n / seconds, n / (seconds + self.spared)) if n else (0.0, 0.0)


@dataclass
class _Batch:
    inputs: Any
    recording: Recording
    base: nn.Module

    @property
    def bytes(self) -> int:
        kept = sum(t.nbytes for t in tree_leaves(self.inputs) if isinstance(t, Tensor))
        return kept + self.recording.bytes


class PrefixCache:
    """``limit``: bytes that recorded results may take; batches beyond are evaluated whole. 0 turns caching off."""

    def __init__(self, limit: int = LIMIT) -> None:
        self.limit = limit
        self.speed = Speed()
        self._make: Callable[[], nn.Module] | None = None
        self._base: nn.Module | None = None
        self._outline: Outline | None = None
        self._cuts: dict[str, int] = {}
        self._batches: dict[int, _Batch] = {}  # by their place in an evaluation
        self._whole: set[tuple[str, int]] = set()  # batches that can't be recorded, or not any more

    def start_from(self, make: Callable[[], nn.Module] | None) -> None:
        """Candidates come from another network now, which ``make`` gives when it is needed; None if from none."""
        self._make, self._base, self._outline = make, None, None
        self._cuts.clear()
        self._whole.clear()

    def evaluate(self, width: str, candidate: Callable[[], nn.Module], evaluate: Callable[[nn.Module], T]) -> T:
        """``evaluate(candidate())``. ``width``: what is said to set the candidate apart from the base, or "" if nothing
        is known. Where the candidate differs earlier than others did, it is made and evaluated once more."""
        started = time.perf_counter()
        try:
            while self.limit and width and self._make is not None and self._cuts.get(width) != 0:
                drawn, network = torch.get_rng_state(), candidate()
                run = _Run(self, width, network)
                try:
                    with run.watching():
                        result = evaluate(network)
                except Exception as error:  # the network's own comes again
                    if not run.replayed:
                        raise
                    log.info("a pass can't begin later and runs as a whole: %s", described(error))
                    run.failed = -1 if run.failed is None else run.failed
                if run.failed is None:
                    self.speed.spared += run.spared
                    return result
                torch.set_rng_state(drawn)
                self._cuts[width] = min(max(run.failed, 0), self._cuts[width] - 1)
            return evaluate(candidate())
        finally:
            self.speed.evaluations += 1
            self.speed.seconds += time.perf_counter() - started

    def clear(self) -> None:
        """Forget all networks and results."""
        self.start_from(None)
        self._batches.clear()

    def skipped(self, width: str) -> int:
        """How many operations of a pass the candidates of a width begin after."""
        return self._cuts.get(width, 0) if self._batches else 0

    # -- what a run asks for

    def recording(self, place: int, width: str, network: nn.Module, args: Any, kwargs: Any) -> Recording | None:
        """The beginning of the pass over this batch, recorded if need be; None where the pass must be whole."""
        cut = self._cut(width, network, args, kwargs)
        if not cut or (width, place) in self._whole:
            return None
        known = self._batches.get(place)
        if known is not None and not _equal(known.inputs, (args, kwargs)):
            known = None
        if known is None or known.recording.cut != cut or known.base is not self._base:
            self._batches.pop(place, None)
            known = self._recorded(cut, known, args, kwargs)
            if known is None or sum(b.bytes for b in self._batches.values()) + known.bytes > self.limit:
                self._whole.add((width, place))
                return None
            self._batches[place] = known
        return known.recording

    def changed(self, network: nn.Module) -> frozenset[str]:
        """The names of what the network stores otherwise than the base."""
        assert self._base is not None
        return _changed(network, self._base)

    def _cut(self, width: str, network: nn.Module, args: Any, kwargs: Any) -> int:
        if self._base is None:
            assert self._make is not None
            self._base = self._make().eval()
        device = next((t.device for _, t in state_of(network)), None)
        self._base.to(device)
        if width not in self._cuts:
            self._cuts[width] = 0
            few_args, few_kwargs = tree_map(_few, (args, kwargs))
            with suppress(Exception), torch.random.fork_rng(devices=[]):  # no cut, then
                if self._outline is None:
                    self._outline = outline_of(self._base, few_args, few_kwargs)
                twin = copied(network)
                self._cuts[width] = self._outline.cut(outline_of(twin, few_args, few_kwargs, self.changed(network)))
        return self._cuts[width]

    def _recorded(self, cut: int, known: _Batch | None, args: Any, kwargs: Any) -> _Batch | None:
        """Record anew, from where the last recording ends if that still holds."""
        assert self._base is not None
        inputs = known.inputs if known is not None else tree_map(_copied, (args, kwargs))
        recording = None
        if known is not None and known.recording.cut <= cut:
            recording = self._record(cut, inputs, known.recording, _changed(self._base, known.base))
        recording = recording or self._record(cut, inputs)
        return None if recording is None else _Batch(inputs, recording, self._base)

    def _record(
        self, cut: int, inputs: Any, earlier: Recording | None = None, changed: frozenset[str] = frozenset()
    ) -> Recording | None:
        assert self._base is not None and self._outline is not None
        wanted = self._outline.live(cut)
        started = time.perf_counter()
        mode = Replay(Origins(self._base, inputs, changed), earlier, cut, wanted)
        try:
            with torch.random.fork_rng(devices=[]), mode:
                self._base(*inputs[0], **inputs[1])
        except ReachedError:  # where the pass ends
            pass
        except Exception as error:  # of what was skipped, or the network's own: then it comes again
            log.info("a pass can't be recorded and runs as a whole: %s", described(error))
        expected = [o.asked[0] for o in self._outline.calls[:cut]]
        if mode.failed is not None or [o.asked[0] for o in mode.calls] != expected or mode.live.keys() != wanted:
            return None
        seconds = time.perf_counter() - started + (earlier.seconds if earlier else 0.0)
        return Recording(mode.calls, mode.live, self._outline.rewritten(cut), seconds)


class _Run:
    """One evaluation of one candidate."""

    def __init__(self, cache: PrefixCache, width: str, network: nn.Module) -> None:
        self._cache, self._width, self._network = cache, width, network
        self._changed: frozenset[str] | None = None
        self._modes: list[Replay] = []
        self._place = 0
        self.failed: int | None = None
        self.replayed = False
        self.spared = 0.0

    def __deepcopy__(self, memo: Any) -> _Run:
        """A copy of the candidate, hooks and all, is not watched."""
        unaware = _Run(self._cache, self._width, self._network)
        unaware.failed = 0
        return unaware

    @contextmanager
    def watching(self) -> Iterator[None]:
        network = self._network
        hooks = [
            network.register_forward_pre_hook(self._enter, with_kwargs=True, prepend=True),
            network.register_forward_hook(self._leave, always_call=True),
        ]
        try:
            yield
        finally:
            while self._modes:
                self._leave()
            for hook in hooks:
                hook.remove()

    def _enter(self, network: nn.Module, args: Any, kwargs: Any) -> None:
        place, self._place = self._place, self._place + 1
        if self.failed is not None or network.training or torch.is_grad_enabled():
            return
        if torch.jit.is_tracing() or torch.compiler.is_compiling():  # of what is written down nothing may be missing
            return
        recording = self._cache.recording(place, self._width, network, args, kwargs)
        if recording is not None:
            if self._changed is None:
                self._changed = self._cache.changed(network)
            mode = Replay(Origins(network, (args, kwargs), self._changed), recording)
            self._modes.append(mode)
            self.spared += recording.seconds
            self.replayed = True
            mode.__enter__()

    def _leave(self, *_: Any) -> None:
        if self._modes:
            mode = self._modes.pop()
            mode.__exit__(None, None, None)
            if mode.failed is not None:
                self.failed = mode.failed


def _changed(network: nn.Module, base: nn.Module) -> frozenset[str]:
    of_base = dict(state_of(base))
    return frozenset(n for n, tensor in state_of(network) if n not in of_base or not alike(tensor, of_base[n]))


def _few(leaf: Any) -> Any:
    return leaf[:_FEW].clone() if isinstance(leaf, Tensor) and leaf.ndim else leaf


def _copied(leaf: Any) -> Any:
    return leaf.detach().clone() if isinstance(leaf, Tensor) else leaf


def _equal(known: Any, now: Any) -> bool:
    a, b = tree_leaves(known), tree_leaves(now)
    if len(a) != len(b):
        return False
    return all(
        alike(x, y) if isinstance(x, Tensor) and isinstance(y, Tensor) else type(x) is type(y) and x == y
        for x, y in zip(a, b, strict=True)
    )
