"""Candidates judged in several processes at once: of this machine, through joblib, or of a cluster.

Every process makes its own evaluator, once, from a small recipe; what travels then is which channels a candidate keeps,
and what was found. Results come in the order of the candidates. A process that dies is replaced, and what it had begun
is begun again.
"""

from __future__ import annotations

import functools
import logging
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from torch import nn

from ..clusters import LOCAL, SECONDS
from ..errors import ModelFileError, OptionError, OutOfMemory, SecateurError, UnsuitedError
from ..run import copied, described
from ..scratch import scratch
from .bench import Bench, Candidate, Evaluator, Found
from .prefix_cache import Speed

log = logging.getLogger(__name__)

Recipe = Callable[[], Evaluator]
"""Makes an evaluator in another process; pickled, so that it should hold names and paths rather than tensors."""
DEATHS = 3  # in a row, without a result in between

_here: dict[str, Any] = {}  # of a worker process: what it has made
_turn = threading.Lock()  # a cluster's worker may have several threads


@dataclass(frozen=True)
class Order:
    """What a worker process needs to know: the ``recipe``, pickled, and where Python finds its modules; ``weights``: a
    file with other ones of the whole network, or "". ``run`` tells this search from others."""

    run: str
    recipe: bytes
    path: tuple[str, ...]
    threads: int
    weights: str = ""


def work(order: Order, candidate: Candidate) -> Found:
    """In a worker process: what is asked of a candidate."""
    with _turn:
        torch.set_num_threads(order.threads)
        if _here.get("run") != order.run:
            _here.clear()
            _stay()
            _here.update(run=order.run, evaluator=_made(order), weights="")
        evaluator: Evaluator = _here["evaluator"]
        if _here["weights"] != order.weights:
            other = copied(evaluator.model)  # the evaluator may hold candidates against its own
            other.load_state_dict(torch.load(order.weights, weights_only=True))
            evaluator.use(other)
            _here["weights"] = order.weights
        started = time.perf_counter()
        value = evaluator(candidate)
        return Found(value, time.perf_counter() - started)


def _made(order: Order) -> Evaluator:
    import cloudpickle

    sys.path += [p for p in order.path if p not in sys.path]
    try:
        recipe: Recipe = cloudpickle.loads(order.recipe)
    except (AttributeError, ImportError) as error:
        raise ModelFileError(f"--jobs: another process can't import what the network is made of ({error})") from error
    return recipe()


def _stay() -> None:
    """Ctrl-C is for the process that searches, in one that took the place of another, too. loky ends one that has grown
    by 300 MB since its first result, but what is kept for later is no leak."""
    from joblib.externals.loky import process_executor

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(process_executor, "_MAX_MEMORY_LEAK_SIZE"):
        process_executor._MAX_MEMORY_LEAK_SIZE = sys.maxsize


class Workers(Bench):
    """``jobs`` processes of this machine (``loky``), or of the ``ray`` or ``dask`` at an address; without one they run
    here. ``folder``: for files that all of them can read; by default one that goes away in the end. ``speed`` is told
    how fast it goes.

    Raises UsageError where the cluster can't be reached, OutOfMemory where processes die again and again.
    """

    def __init__(
        self, recipe: Recipe, jobs: int, *, backend: str = LOCAL, address: str | None = None,
        folder: Path | None = None, speed: Speed | None = None,
    ) -> None:  # fmt: skip
        self.jobs, self.backend, self.address = jobs, backend, address
        self._recipe = _pickled(recipe, jobs)
        self.speed = speed or Speed()
        self.threads = max(1, torch.get_num_threads() // jobs)
        self._folder, self._version = folder, 0
        self._known: list[tuple[Candidate, Found]] = []
        self._waiting: list[Candidate] = []  # at work or about to be, in order
        self._running: Iterator[Found] = iter(())

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            made = stack.enter_context(scratch())
            self._order = Order(str(made), self._recipe, tuple(sys.path), self.threads)
            self._folder = self._folder or made
            self._run_all, self._deaths = stack.enter_context(_CLUSTERS[self.backend](self.jobs, self.address))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # joblib's, of what is still being judged when a search is broken off
            self._waiting, self._running = [], iter(())
            self._stack.__exit__(kind, error, tb)

    def use(self, model: nn.Module) -> None:
        assert self._folder is not None
        before, self._version = self._order.weights, self._version + 1
        path = self._folder / f".search-{self._version}.draft"
        torch.save(model.state_dict(), path)
        self._known, self._waiting, self._running = [], [], iter(())
        self._order = replace(self._order, weights=str(path))
        if before:
            Path(before).unlink()

    def ahead(self, candidates: Sequence[Candidate]) -> None:
        known = [candidate for candidate, _ in self._known]
        if not candidates or candidates[0] in self._waiting or candidates[0] in known:
            return
        for found in self._running:  # all that was begun: it may be asked for later
            self._note(found)
        self._waiting = [c for c in candidates if c not in known]
        self._running = self._results(tuple(self._waiting))

    def result(self, candidate: Candidate) -> Found:
        started = time.perf_counter()
        self.ahead([candidate])
        while self._waiting and candidate in self._waiting:
            self._note(next(self._running))
        self.speed.evaluations += 1
        self.speed.seconds += time.perf_counter() - started
        return next(found for known, found in self._known if known == candidate)

    def _note(self, found: Found) -> None:
        self._known.append((self._waiting.pop(0), found))

    def _results(self, candidates: Sequence[Candidate]) -> Iterator[Found]:
        """In order; after a death those that are left are begun anew."""
        done = deaths = 0
        while done < len(candidates):
            given = [(self._order, c) for c in candidates[done:]]
            try:
                for found in self._run_all(given):
                    done, deaths = done + 1, 0
                    yield found
            except SecateurError as error:  # Ray's have the place in the other process in their words
                raise getattr(error, "cause", error) from None
            except self._deaths as error:
                deaths += 1
                if deaths == DEATHS:
                    raise OutOfMemory(
                        f"--jobs {self.jobs}: processes that judge candidates were killed {deaths} times in a row, "
                        "perhaps for want of memory; take fewer, and --resume"
                    ) from error
                log.warning("a process that judged candidates was killed; what it had begun is begun again")


def _pickled(recipe: Recipe, jobs: int) -> bytes:
    import cloudpickle

    try:
        found: bytes = cloudpickle.dumps(recipe)
    except Exception as error:  # whatever the author's objects say
        raise UnsuitedError(f"--jobs {jobs}: what judges candidates can't be pickled: {described(error)}") from error
    return found


@dataclass(frozen=True)
class _Kept:
    """A large recipe, in a file."""

    file: Path

    def __call__(self) -> Evaluator:
        import cloudpickle

        recipe: Recipe = cloudpickle.loads(self.file.read_bytes())
        return recipe()


@contextmanager
def workers_with(recipe: Recipe, jobs: int, **where: Any) -> Iterator[Workers | None]:
    """So many processes for a recipe that holds networks and data; None for one. Raises UsageError where it can't be
    pickled."""
    if jobs == 1:
        yield None
        return
    with scratch() as folder:
        file = folder / "recipe.pkl"
        file.write_bytes(_pickled(recipe, jobs))
        yield Workers(_Kept(file), jobs, folder=folder, **where)


# -- where they run: what is there while a search goes on. Given is what calls ``work`` with each of the arguments, and
# gives the results in order, and what is raised there when a process dies

Cluster = tuple[Callable[[Sequence[tuple[Any, ...]]], Iterator[Found]], tuple[type[Exception], ...]]


def _through_joblib(jobs: int, given: Sequence[tuple[Any, ...]]) -> Iterator[Found]:
    import joblib

    pool = joblib.Parallel(jobs, backend=LOCAL, batch_size=1, pre_dispatch=2 * jobs, return_as="generator")
    with _deaf_children():
        found: Iterator[Found] = pool(joblib.delayed(work)(*one) for one in given)
    return found


@contextmanager
def _deaf_children() -> Iterator[None]:
    """Processes that are begun within this block never hear of Ctrl-C, which a terminal sends to all: what is ignored
    when a process begins stays so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _through_futures(
    jobs: int, submit: Callable[..., Any], wait: Callable[[Any], Found], given: Sequence[tuple[Any, ...]]
) -> Iterator[Found]:
    """joblib's own way to Ray begins new processes for every few candidates, and gives all results or none."""
    running = [submit(*one) for one in given[:jobs]]
    for one in [*given[jobs:], *[None] * len(running)]:
        yield wait(running.pop(0))
        if one is not None:
            running.append(submit(*one))


@contextmanager
def _on_this_machine(jobs: int, address: str | None) -> Iterator[Cluster]:
    from joblib.externals.loky import get_reusable_executor
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    try:
        yield functools.partial(_through_joblib, jobs), (TerminatedWorkerError,)
    finally:  # processes that wait for work would hold memory, and slow down what is timed next
        get_reusable_executor().shutdown(wait=True, kill_workers=True)


@contextmanager
def _ray(jobs: int, address: str | None) -> Iterator[Cluster]:
    import ray

    call = ray.remote(num_cpus=1, max_retries=0)(work)
    try:
        where = {"num_cpus": jobs} if address is None else {"address": address}
        ray.init(**where, log_to_driver=False, include_dashboard=False if address is None else None)
    except Exception as error:
        raise OptionError(f"--backend ray: it can't be reached: {described(error)}") from error
    try:
        killed = ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError
        yield functools.partial(_through_futures, jobs, call.remote, ray.get), killed
    finally:
        ray.shutdown()


@contextmanager
def _dask(jobs: int, address: str | None) -> Iterator[Cluster]:
    import distributed

    with ExitStack() as stack:
        try:
            if address is None:
                local = distributed.LocalCluster(n_workers=jobs, threads_per_worker=1, dashboard_address=None)
                address = stack.enter_context(local)
            client = stack.enter_context(distributed.Client(address, timeout=SECONDS))
        except (OSError, ValueError, RuntimeError) as error:
            raise OptionError(f"--backend dask: it can't be reached: {described(error)}") from error
        submit = functools.partial(client.submit, work, pure=False)
        wait = distributed.Future.result
        yield functools.partial(_through_futures, jobs, submit, wait), (distributed.KilledWorker,)


_CLUSTERS = {LOCAL: _on_this_machine, "ray": _ray, "dask": _dask}
