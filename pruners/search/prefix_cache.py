"""What candidates of a search have in common is computed once.

A search changes one width at a time. The layers before the first one that has other weights give the same for all its
candidates as for the network they are made from (the base). The base runs them once for every batch, and candidates are
handed what came out: whole modules, as large as they come, are skipped. Results are those of whole passes, bit for bit.
Two short passes of every width, skipping and whole, show whether that can be had; else whole passes are made.

The evaluation is a function of the caller's, which is not told: a candidate's calls are noticed by its ``forward``. A
batch is recognised by its values.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ..run import INTERNAL, copied, described, same_values, storage_of, tree_leaves, tree_map

log = logging.getLogger(__name__)
T = TypeVar("T")
LIMIT = 2 << 30  # bytes
_FEW = 2  # images of the passes that show whether modules can be skipped
_PLAIN = (bool, int, float, str, type(None))


@dataclass
class Speed:
    """``seconds`` that evaluations took, and those that the skipped modules took when they were recorded."""

    evaluations: int = 0
    seconds: float = 0.0
    spared: float = 0.0

    def as_dict(self, evaluations: int | None = None) -> dict[str, float]:
        """Evaluations per second, and how many there would have been had nothing been skipped. ``evaluations``: how
        many there are where some are told from an earlier run."""
        rate, whole = self._rates()
        number = evaluations or self.evaluations
        return {"evaluations": number, "per_second": round(rate, 3), "per_second_whole": round(whole, 3)}

    def tell(self, evaluations: int | None = None) -> str:
        rate, whole = self._rates()
        number = evaluations or self.evaluations
        return f"{number} evaluations, {rate:.3g} per second; {whole:.3g} without the cache" if rate else ""

    def _rates(self) -> tuple[float, float]:
        n, seconds = self.evaluations, self.seconds
        return (n / seconds, n / (seconds + self.spared)) if n else (0.0, 0.0)


class DiffersError(Exception):
    """The pass is not the recorded one."""


class Reached(BaseException):
    """A recording has come to its end. No error, so that a network that catches those doesn't take it for one."""


@dataclass(frozen=True)
class Call:
    """A module that was called before anything differs. ``skipped``: as a whole, what it gave is ``given``; of others
    only what they call."""

    path: str
    skipped: bool
    given: Any = None


@dataclass(frozen=True)
class _Batch:
    """How the base's pass begins with these inputs. ``until``: the modules whose first ended it. ``seconds``: what it
    took."""

    inputs: Any
    base: nn.Module
    until: frozenset[str]
    calls: Sequence[Call]
    seconds: float

    @property
    def bytes(self) -> int:
        tensors = tree_leaves((self.inputs, [c.given for c in self.calls]))
        return sum({storage_of(t): t.untyped_storage().nbytes() for t in tensors if isinstance(t, Tensor)}.values())


class PrefixCache:
    """``limit``: bytes that recorded results may take; batches beyond are evaluated whole. 0 turns caching off."""

    def __init__(self, limit: int = LIMIT) -> None:
        self.limit = limit
        self.speed = Speed()
        self._make: Callable[[], nn.Module] | None = None
        self._base: nn.Module | None = None
        self._batches: dict[int, _Batch] = {}  # by their place in an evaluation
        self._whole: set[tuple[str, int]] = set()  # batches that can't be recorded, or not any more
        self._fine: dict[str, bool] = {}  # widths: whether modules can be skipped
        self._skipped: dict[str, int] = {}

    def start_from(self, make: Callable[[], nn.Module] | None) -> None:
        """Candidates come from another network now, which ``make`` gives when it is needed; None if from none."""
        self._make, self._base = make, None
        self._whole.clear()
        self._fine.clear()
        self._skipped.clear()

    def evaluate(self, width: str, candidate: Callable[[], nn.Module], evaluate: Callable[[nn.Module], T]) -> T:
        """``evaluate(candidate())``. ``width``: what is said to set the candidate apart from the base, or "" if nothing
        is known. Where a pass turns out to be another one than the base's, the candidate is made and evaluated anew."""
        started = time.perf_counter()
        try:
            if self.limit and width and self._make is not None and self._fine.get(width, True):
                drawn, network = torch.get_rng_state(), candidate()
                run = _Run(self, width, network)
                try:
                    with run.watching():
                        result = evaluate(network)
                except Exception as error:  # the network's own comes again
                    if not run.skipped:
                        raise
                    log.info("a pass can't begin later and runs as a whole: %s", described(error))
                    run.failed = True
                if not run.failed:
                    self.speed.spared += run.spared
                    self._skipped[width] = run.skipped
                    return result
                torch.set_rng_state(drawn)
                self._fine[width] = False
            return evaluate(candidate())
        finally:
            self.speed.evaluations += 1
            self.speed.seconds += time.perf_counter() - started

    def clear(self) -> None:
        """Forget all networks and results."""
        self.start_from(None)
        self._batches.clear()

    def skipped(self, width: str) -> int:
        """How many modules the last candidate of a width skipped in a pass."""
        return self._skipped.get(width, 0) if self._batches and self._fine.get(width, True) else 0

    def differing(self, network: nn.Module) -> frozenset[str]:
        """Paths of the modules that hold something else than the base's; "" is the network itself."""
        if self._base is None:
            assert self._make is not None
            self._base = self._make().eval()
        self._base.to(next((t.device for t in network.parameters()), None))
        return _differing(network, self._base)

    def recorded(
        self, place: int, width: str, network: nn.Module, differing: frozenset[str], inputs: Any
    ) -> _Batch | None:
        """How the pass over this batch begins, recorded if need be; None where the pass must be whole."""
        assert self._base is not None
        if _hooks(network) != _hooks(self._base):  # the evaluation's own, which may be on what is skipped
            return None
        if width not in self._fine:
            self._fine[width] = False
            with suppress(Exception), torch.random.fork_rng(devices=[]):
                self._fine[width] = _can_skip(self._base, network, differing, tree_map(_few, inputs))
        if not self._fine[width] or (width, place) in self._whole:
            return None
        known = self._batches.pop(place, None)
        if known is not None and not _equal(known.inputs, inputs):
            known = None
        known = self._on_to(differing, known, tree_map(_copy, inputs) if known is None else known.inputs)
        if known is None or sum(b.bytes for b in self._batches.values()) + known.bytes > self.limit:
            self._whole.add((width, place))
            return None
        self._batches[place] = known
        return known

    def _on_to(self, differing: frozenset[str], known: _Batch | None, inputs: Any) -> _Batch | None:
        """The base's pass until the first of the modules that differ, from where the last recording ends if that still
        holds."""
        assert self._base is not None
        if known is not None and known.base is self._base and known.until == differing:
            return known
        if known is not None:
            changed = differing if known.base is self._base else differing | _differing(self._base, known.base)
            if any(c.path in changed or (c.skipped and _holds(c.path, changed)) for c in known.calls):
                known = None
        started = time.perf_counter()
        run = _Pass(self._base, known.calls if known else (), differing)
        try:
            with torch.random.fork_rng(devices=[]):
                run(*inputs[0], **inputs[1])
        except Exception as error:  # the network's own: then it comes again
            log.info("a pass can't be recorded and runs as a whole: %s", described(error))
            return None
        if run.differs:
            return None
        seconds = time.perf_counter() - started + (known.seconds if known else 0.0)
        return _Batch(inputs, self._base, differing, run.calls, seconds)


class _Pass:
    """Passes of a network that are handed the ``calls`` they begin with, and run on from there. ``until``: paths of
    modules; passes end before the first of them, and note what was called so far (``calls``)."""

    def __init__(self, network: nn.Module, calls: Sequence[Call], until: frozenset[str] | None = None) -> None:
        self.network, self.known, self.until = network, calls, until
        self.calls: list[Call] = []
        self.differs = False
        self._open = [""]
        self._ended = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with self.watching():
            return self.begin(self.network, *args, **kwargs)

    def begin(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self.calls, self._open, self._ended = [], [""], self.until is not None and "" in self.until
        try:
            return None if self._ended else call(*args, **kwargs)
        except Reached:
            return None

    def watching(self) -> AbstractContextManager[None]:
        inside = {module: path for path, module in self.network.named_modules() if path}
        return _instead({m: partial(self._called, path, m.forward) for m, path in inside.items()})

    def _called(self, path: str, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if self._ended:  # and the author's code took that for something else
            raise Reached
        at = len(self.calls)
        if at < len(self.known):
            if self.known[at].path != path:
                self.differs = True  # the author's code may catch this
                raise DiffersError(f"{path} is called where the base calls {self.known[at].path}")
            if self.known[at].skipped:
                self.calls.append(self.known[at])
                return tree_map(_copy, self.known[at].given)
        elif self.until is None:
            return forward(*args, **kwargs)
        if self.until is not None and path in self.until:
            self._end(at)
        self.calls.append(Call(path, skipped=False))
        self._open.append(path)
        out = forward(*args, **kwargs)
        self._open.pop()
        if self.until is not None:
            self._note(at, path, out)
        return out

    def _note(self, at: int, path: str, out: Any) -> None:
        """The module has come to its end: it can be skipped, unless it may have used what differs without calling it,
        as attention does."""
        assert self.until is not None
        if _holds(path, self.until) or not all(isinstance(leaf, (Tensor, *_PLAIN)) for leaf in tree_leaves(out)):
            self._end(at)
        if at and self._is_next(path, self.calls[at - 1]):
            self.calls[at - 1] = replace(self.calls[at - 1], given=None)  # nobody else sees it
        self.calls[at:] = [Call(path, skipped=True, given=tree_map(_copy, out))]

    def _is_next(self, path: str, before: Call) -> bool:
        """Whether an ``nn.Sequential`` at work gave the module what the one before it gave."""
        row, _, _ = path.rpartition(".")
        in_row = before.skipped and row == before.path.rpartition(".")[0] == self._open[-1]
        return in_row and type(self.network.get_submodule(row)).forward is nn.Sequential.forward

    def _end(self, at: int) -> None:
        del self.calls[at:]
        self._ended = True
        raise Reached


@dataclass
class _Run:
    """One evaluation of one candidate."""

    cache: PrefixCache
    width: str
    network: nn.Module
    failed: bool = False
    skipped: int = 0
    spared: float = 0.0
    _place: int = 0
    _differing: frozenset[str] = frozenset()

    def __deepcopy__(self, memo: Any) -> _Run:
        """A copy of the candidate, its ``forward`` and all, is not watched."""
        return _Run(self.cache, self.width, self.network, failed=True)

    def watching(self) -> AbstractContextManager[None]:
        self._differing = self.cache.differing(self.network)
        return _instead({self.network: partial(self._called, self.network.forward)})

    def _called(self, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        place, self._place = self._place, self._place + 1
        if self.failed or self.network.training or torch.is_grad_enabled():
            return forward(*args, **kwargs)
        if torch.jit.is_tracing() or torch.compiler.is_compiling():  # of what is written down nothing may be missing
            return forward(*args, **kwargs)
        batch = self.cache.recorded(place, self.width, self.network, self._differing, (args, kwargs))
        if batch is None or not any(c.skipped for c in batch.calls):
            return forward(*args, **kwargs)
        self.spared += batch.seconds
        self.skipped = sum(c.skipped for c in batch.calls)
        run = _Pass(self.network, batch.calls)
        with run.watching():
            out = run.begin(forward, *args, **kwargs)
        self.failed = run.differs or len(run.calls) < len(batch.calls)
        return out


@contextmanager
def _instead(calls: Mapping[nn.Module, Callable[..., Any]]) -> Iterator[None]:
    """Within this block these are called in the place of modules' own ``forward``."""
    own = {module: vars(module).get("forward") for module in calls}
    try:
        for module, call in calls.items():
            module.forward = call
        yield
    finally:
        for module, forward in own.items():
            vars(module).pop("forward", None)
            if forward is not None:
                module.forward = forward


def _can_skip(base: nn.Module, network: nn.Module, differing: frozenset[str], inputs: Any) -> bool:
    """Whether two passes that skip what they may do what two whole ones do: give the same, leave the same of the inputs
    and draw as many random numbers. Nor may whole ones leave anything behind on what is skipped."""
    torch.default_generator.manual_seed(1)
    recorded = _Pass(copied(base), (), differing)
    recorded(*inputs[0], **inputs[1])
    skipped = [c.path for c in recorded.calls if c.skipped]
    found = []
    for calls in (recorded.calls, ()):
        torch.default_generator.manual_seed(2)
        twin = copied(network)
        before = _held(twin, skipped)
        run = _Pass(twin, calls)
        given = [tree_map(_copy, inputs) for _ in range(2)]  # which code may write to
        outputs = [run(*args, **kwargs) for args, kwargs in given]
        found.append((outputs, given, torch.get_rng_state()))
    after = _held(twin, skipped)
    return _equal(*found) and before.keys() == after.keys() and all(v is after[k] for k, v in before.items())


def _held(network: nn.Module, paths: Sequence[str]) -> dict[tuple[int, str], Any]:
    """What the modules there, and those within, have beside what every module has."""
    inside = [m for path in paths for m in network.get_submodule(path).modules()]
    return {(id(m), name): value for m in inside for name, value in vars(m).items() if name not in INTERNAL}


def _differing(network: nn.Module, base: nn.Module) -> frozenset[str]:
    others = dict(base.named_modules())
    return frozenset(p for p, m in network.named_modules() if p not in others or not _equal(_own(m), _own(others[p])))


def _own(module: nn.Module) -> list[Any]:
    """What a module computes with, beside what is in its children."""
    own = [(name, value) for name, value in sorted(vars(module).items()) if name not in INTERNAL]
    plain = [(name, leaf) for name, value in own for leaf in tree_leaves(value) if isinstance(leaf, _PLAIN)]
    tensors = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
    return [type(module), id(vars(module).get("forward")), plain, tensors]


def _holds(path: str, others: frozenset[str]) -> bool:
    return any(other == path or other.startswith(f"{path}.") for other in others)


def _hooks(network: nn.Module) -> int:
    kinds = [n for n in INTERNAL if n.startswith("_forward_") and "hooks" in n]
    return sum(len(vars(m)[kind]) for m in network.modules() if m is not network for kind in kinds)


def _few(leaf: Any) -> Any:
    return leaf[:_FEW].clone() if isinstance(leaf, Tensor) and leaf.ndim else leaf


def _copy(leaf: Any) -> Any:
    return leaf.detach().clone() if isinstance(leaf, Tensor) else leaf


def _equal(one: Any, other: Any) -> bool:
    a, b = tree_leaves(one), tree_leaves(other)
    return len(a) == len(b) and all(map(_alike, a, b))


def _alike(a: Any, b: Any) -> bool:
    """Of tensors same type, place, layout and values; NaN is like nothing."""
    if not isinstance(a, Tensor) or not isinstance(b, Tensor):
        return type(a) is type(b) and bool(a == b)
    form = (a.dtype, a.device, a.shape, a.layout) == (b.dtype, b.device, b.shape, b.layout)
    return form and (a.layout != torch.strided or a.stride() == b.stride()) and same_values(a, b)
