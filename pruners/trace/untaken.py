"""Ways that no run of the network takes: they are tried under labels, or what they could read must stay."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from ..graph import Pass, Untaken
from ..places import Site
from ..run import Left, Visit, Watch, Way, described, misfit, pieces, undoing, without_modes
from .labelling import Tracer, axes_of, line_key

Runs = list[tuple[Pass, Watch]]
_OTHERS = "ways through the code that give tensors of other channels"


def untaken(runs: Runs, unreached: frozenset[str]) -> dict[int, set[Way]]:
    """For each run, by its place in the list, the ways that it could take and that no run takes: each in the first run
    that comes by. ``unreached``: modules that no run reaches; a way that names one can be meant for other settings."""
    seen: dict[Way, tuple[int, Visit]] = {}
    taken: dict[Way, set[int]] = {}
    idle: dict[Way, frozenset[int]] = {}
    for number, (_, watch) in enumerate(runs):
        for place, visit in watch.visits.items():
            first, known = seen.setdefault(place, (number, visit))
            seen[place] = first, (visit if visit.open else known)
            taken.setdefault(place, set()).update(visit.taken)
            idle[place] = idle.get(place, visit.idle) & visit.idle
    found: dict[int, set[Way]] = {}
    for place, (number, visit) in seen.items():
        for side in {0, 1} - taken[place] - idle[place]:
            wanted = visit.open or visit.modules[side] & unreached
            if wanted:
                found.setdefault(number, set()).add(_side(place, side))
    return found


def _side(place: Way, side: int) -> Way:
    return Way(place.module, place.file, place.line, place.fork, place.visit, side, place.within)


class Attempts:
    """Runs ways under labels. ``failed``: those that couldn't be run; ``held``: places that read what stays, and why;
    ``done``: places that were run; ``known``: ways that some run takes, see ``Watch``."""

    def __init__(self, tracer: Tracer, runs: Runs) -> None:
        self._tracer = tracer
        self.known = {
            _side(replace(place, visit=0), side)
            for _, watch in runs for place, visit in watch.visits.items() for side in visit.taken
        }  # fmt: skip
        self.failed: set[Way] = set()
        self.held: dict[Site, str] = {}
        self.done: set[Site] = set()

    @property
    def places(self) -> tuple[Untaken, ...]:
        """What was tried, in the order of the code."""
        return tuple(Untaken(site, self.held.get(site, "")) for site in sorted(self.done | self.held.keys()))

    def attempt(self, way: Way, site: Site, call: Callable[[], Left], foreign: bool) -> Left | str | None:
        tracer = self._tracer
        calls, decided = len(tracer.site_calls), len(tracer.decided)
        outside, tracer.unread = tracer.unread, {}
        undo = undoing(tracer.modules.running[0])
        try:
            left = call()
        except Exception as error:
            undo()  # caches, that the way the network takes finds empty
            del tracer.site_calls[calls:], tracer.decided[decided:]
            self.failed.add(way)
            return None if foreign and misfit(error) else described(error)
        finally:
            self.settle()
            tracer.unread = outside
        self.done.add(site)
        return left

    def settle(self) -> None:
        """Channels of two ways that differ in number stay where no weights read them: both ways may be possible."""
        for tensors, site in (found for waiting in self._tracer.unread.values() for found in waiting):
            self._freeze(tensors, _OTHERS, site)
        self._tracer.unread = {}

    def join(self, first: Any, second: Any, site: Site) -> None:
        """Code behind the fork gets the one or the other: their channels go together, or all stay."""
        with without_modes():
            self._joined(first, second, site)

    def _joined(self, first: Any, second: Any, site: Site) -> None:
        one, other = pieces(first), pieces(second)
        if len(one) != len(other) and one and other:
            self._freeze([*one, *other], "ways through the code that give different tensors", site)
            return
        for a, b in zip(one, other, strict=False):
            self._join(a, b, site)

    def _join(self, a: Tensor, b: Tensor, site: Site) -> None:
        if a is b:
            return
        planes = [sorted(self._tracer.labels(t).planes, key=axes_of) for t in (a, b)]
        shapes = [[p.shape for p in found] for found in planes]
        common = [[p for p in found if p.shape in other] for found, other in zip(planes, shapes[::-1], strict=True)]
        alone = (p for found, both in zip(planes, common, strict=True) for p in found if not any(p is q for q in both))
        if a.ndim != b.ndim or not all(self._tracer.stays(p) for p in alone):  # as the windows that a mask counts
            self._differ(a, b, planes, site)
            return
        for p, q in zip(*common, strict=True):
            self._tracer.tie(p.reshape(-1), q.reshape(-1), "a way through the code that the example doesn't take", site)

    def _differ(self, a: Tensor, b: Tensor, planes: Sequence[Sequence[Tensor]], site: Site) -> None:
        """Where weights read the one the other can't follow: the network would end in an error. Else both stay."""
        axes = [[axes_of(p) for p in found] for found in planes]
        if a.ndim == b.ndim and axes[0] == axes[1] and len(axes[1]) == 1 and len(axes[1][0]) == 1:
            self._tracer.unread.setdefault(line_key(planes[1][0]), []).append(((a, b), site))
        else:
            self._freeze([a, b], _OTHERS, site)

    def hold(self, values: Any, site: Site, why: str) -> None:
        """All channels of these values stay. ``why``: why code that could read them can't be run, if so."""
        with without_modes():
            self._held(values, site, why)

    def _held(self, values: Any, site: Site, why: str) -> None:
        tensors = pieces(values)
        frozen = [t for t in tensors if self._tracer.labels(t).planes]
        if why:
            self.held.setdefault(site, why)
        reason = "an output of the network where the code takes another way than on the example"
        if why:
            reason = f"read where the code takes another way than on the example, and trying it fails: {why}"
        self._freeze(frozen, reason, site)

    def _freeze(self, tensors: Sequence[Tensor], reason: str, site: Site) -> None:
        for tensor in tensors:
            self._tracer.freeze(self._tracer.labels(tensor).planes, reason, site)
