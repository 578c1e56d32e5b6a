"""Candidates judged in several processes at once, on this machine or on a cluster, through joblib.

Every process makes its own evaluator, once, from a small recipe; what travels then is which channels a candidate keeps,
and what was found. Results come in the order of the candidates. A process that dies is replaced, and what it had begun
is begun again.
"""

from __future__ import annotations

import functools
import logging
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from torch import nn

from ..clusters import LOCAL, SECONDS
from ..errors import OutOfMemory, SecateurError, UsageError
from ..run import copied, described
from .bench import Bench, Candidate, Evaluator, Found
from .prefix_cache import Speed

log = logging.getLogger(__name__)

Recipe = Callable[[], Evaluator]
"""Makes an evaluator in another process; pickled, so that it should hold names and paths rather than tensors."""
DEATHS = 3  # in a row, without a result in between

_here: dict[str, Any] = {}  # of a worker process: what it has made
_turn = threading.Lock()  # a cluster's worker may have several threads


def work(run: str, recipe: Recipe, threads: int, weights: str, candidate: Candidate) -> Found:
    """In a worker process: what is asked of a candidate. ``weights``: a file with other ones of the whole network."""
    with _turn:
        torch.set_num_threads(threads)
        if _here.get("run") != run:
            _here.clear()
            _stay()
            _here.update(run=run, evaluator=recipe(), weights="")
        evaluator: Evaluator = _here["evaluator"]
        if _here["weights"] != weights:
            other = copied(evaluator.model)  # the evaluator may hold candidates against its own
            other.load_state_dict(torch.load(weights, weights_only=True))
            evaluator.use(other)
            _here["weights"] = weights
        started = time.perf_counter()
        value = evaluator(candidate)
        return Found(value, time.perf_counter() - started)


def _stay() -> None:
    """Ctrl-C is for the process that searches. loky ends one that has grown by 300 MB since its first result, but what
    is kept for later is no leak."""
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
        self.recipe, self.jobs, self.backend, self.address = recipe, jobs, backend, address
        self.speed = speed or Speed()
        self.threads = max(1, torch.get_num_threads() // jobs)
        self._folder, self._weights, self._version = folder, "", 0
        self._known: list[tuple[Candidate, Found]] = []
        self._waiting: list[Candidate] = []  # at work or about to be, in order
        self._running: Iterator[Found] = iter(())
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._stack.__enter__()
        made = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="secateur-"))
        self._run = made  # no two have the same
        self._folder = self._folder or Path(made)
        self._run_all, self._deaths = self._stack.enter_context(_CLUSTERS[self.backend](self.jobs, self.address))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._waiting, self._running = [], iter(())
        self._stack.__exit__(kind, error, tb)

    def use(self, model: nn.Module) -> None:
        assert self._folder is not None
        before, self._version = self._weights, self._version + 1
        path = self._folder / f".search-{self._version}.draft"
        torch.save(model.state_dict(), path)
        self._known, self._waiting, self._running, self._weights = [], [], iter(()), str(path)
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
            given = [(self._run, self.recipe, self.threads, self._weights, c) for c in candidates[done:]]
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


# -- where they run: what is there while a search goes on. Given is what calls ``work`` with each of the arguments, and
# gives the results in order, and what is raised there when a process dies

Cluster = tuple[Callable[[Sequence[tuple[Any, ...]]], Iterator[Found]], tuple[type[Exception], ...]]


def _through_joblib(jobs: int, backend: str, given: Sequence[tuple[Any, ...]]) -> Iterator[Found]:
    import joblib

    pool = joblib.Parallel(jobs, backend=backend, batch_size=1, pre_dispatch=2 * jobs, return_as="generator")
    found: Iterator[Found] = pool(joblib.delayed(work)(*one) for one in given)
    return found


@contextmanager
def _on_this_machine(jobs: int, address: str | None) -> Iterator[Cluster]:
    from joblib.externals.loky import get_reusable_executor
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    try:
        yield functools.partial(_through_joblib, jobs, LOCAL), (TerminatedWorkerError,)
    finally:  # processes that wait for work would hold memory, and slow down what is timed next
        get_reusable_executor().shutdown(wait=True, kill_workers=True)


@contextmanager
def _ray(jobs: int, address: str | None) -> Iterator[Cluster]:
    """By itself, as through joblib it would begin new processes for every few candidates, and give all or nothing."""
    import ray

    call = ray.remote(num_cpus=1, max_retries=0)(work)

    def run(given: Sequence[tuple[Any, ...]]) -> Iterator[Found]:
        running = [call.remote(*one) for one in given[:jobs]]
        for number in range(len(given)):
            yield ray.get(running.pop(0))
            running += [call.remote(*one) for one in given[number + jobs : number + jobs + 1]]

    try:
        where = {"num_cpus": jobs} if address is None else {"address": address}
        ray.init(**where, log_to_driver=False, include_dashboard=False if address is None else None)
    except Exception as error:
        raise UsageError(f"--backend ray: it can't be reached: {described(error)}") from error
    try:
        yield run, (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError)
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
            stack.enter_context(distributed.Client(address, timeout=SECONDS))
        except (OSError, ValueError, RuntimeError) as error:
            raise UsageError(f"--backend dask: it can't be reached: {described(error)}") from error
        yield functools.partial(_through_joblib, jobs, "dask"), (distributed.KilledWorker,)


_CLUSTERS = {LOCAL: _on_this_machine, "ray": _ray, "dask": _dask}

@dataclass(frozen=True)
class _Pickled:
    """A recipe in a file, for one that holds networks and data."""

    file: Path

    def __call__(self) -> Evaluator:
        import cloudpickle

        try:
            recipe: Recipe = cloudpickle.loads(self.file.read_bytes())
        except (AttributeError, ImportError) as error:
            raise UsageError(f"--jobs: another process can't import what the network is made of ({error})") from error
        return recipe()


@contextmanager
def pickled_workers(recipe: Recipe, jobs: int, **where: Any) -> Iterator[Workers | None]:
    """So many processes that get the recipe pickled, with all it holds; None for one. Raises UsageError where it can't
    be."""
    if jobs == 1:
        yield None
        return
    import cloudpickle

    with tempfile.TemporaryDirectory(prefix="secateur-") as folder:
        file = Path(folder) / "recipe.pkl"
        try:
            file.write_bytes(cloudpickle.dumps(recipe))
        except Exception as error:  # whatever the author's objects say
            raise UsageError(f"--jobs {jobs}: what judges candidates can't be pickled: {described(error)}") from error
        yield Workers(_Pickled(file), jobs, folder=Path(folder), **where)
