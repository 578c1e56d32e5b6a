"""Whole experts of mixtures: those that the router chooses least go, with their rows of the router (Lu et al., "Not All
Experts are Equal", arXiv 2402.14800, remove whole experts; here by how often they are chosen)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .errors import BudgetError, NothingToPruneError
from .hub import Entry as ConfigEntry
from .hub import Shapes, changed, entries, made, shapes_of, values_of
from .run import FunctionMode, as_it_was, call_arguments, described, hooked, isolated, run, state_of, tensors_in
from .verify import measured

_CLOSE = 1e-4


@dataclass(frozen=True)
class Mixture:
    """``experts``: the module whose tensors hold all experts, one in each slice; ``tensors``: all with a slice, or a
    row, for each, also those of the router, whose logits ``router`` gives; ``chosen``: how many a token goes to."""

    experts: str
    tensors: tuple[str, ...]
    router: str
    size: int
    chosen: int

    def name(self, expert: int) -> str:
        return f"{self.experts}.{expert}"


class Mixtures:
    """The mixtures of a model that its configuration counts the experts of. Raises NothingToPruneError where there are
    none."""

    def __init__(self, model: nn.Module, example_input: Any) -> None:
        self.model, self.inputs = model, example_input
        self._values = values_of(model)
        found = next(self._found(), None)
        if found is None:
            raise NothingToPruneError(
                "--experts: no number of the configuration counts experts that one tensor holds, and rows of a router"
            )
        self._entry, self.mixtures = found

    def _found(self) -> Iterator[tuple[ConfigEntry, list[Mixture]]]:
        shapes = shapes_of(self.model, self._values)
        assert shapes is not None
        for entry in entries(self._values, partial(shapes_of, self.model)):
            if entry.slopes and all(dim == 0 and slope == 1 for (_, dim), slope in entry.slopes.items()):
                mixtures = list(self._of(entry, shapes))
                if mixtures and {t for m in mixtures for t in m.tensors} == {name for name, _ in entry.slopes}:
                    yield entry, mixtures

    def _of(self, entry: ConfigEntry, shapes: Shapes) -> Iterator[Mixture]:
        names = [name for name, _ in entry.slopes if shapes[name][0] == entry.value]
        homes = dict.fromkeys(name.rpartition(".")[0] for name in names if len(shapes[name]) == 3)
        chosen = _chosen(self.model, list(homes), [self.inputs], int(entry.value))
        for home in homes:
            around = f"{home.rpartition('.')[0]}."
            mine = tuple(n for n in names if n.startswith(around))
            routers = [n for n in mine if len(shapes[n]) == 2 and not n.startswith(f"{home}.")]
            if len(routers) == 1 and home in chosen:
                yield Mixture(home, mine, routers[0], int(entry.value), chosen[home].shape[1])

    def least_used(self, keep: float, batches: Iterable[Any] | None) -> list[str]:
        """The experts to take out so that at most this share of each mixture stays: those that fewest tokens of the
        batches go to, or without any those whose weights are smallest. Raises BudgetError where a token would go to
        more than are left."""
        size, least = self.mixtures[0].size, max(m.chosen for m in self.mixtures)
        left = math.floor(keep * size + 1e-9)
        if left < least:
            raise BudgetError(
                f"--experts {keep:g}: of {size} experts {left} would stay, and every token goes to {least}: "
                + (f"{math.ceil(100 * least / size) / 100:g} is the least" if least < size else "all have to stay")
            )
        homes = [m.experts for m in self.mixtures]
        used = {} if batches is None else _chosen(self.model, homes, batches, size)
        found = []
        for mixture in self.mixtures:
            chosen = used.get(mixture.experts)
            values = self._sizes(mixture) if chosen is None else torch.bincount(chosen.flatten(), minlength=size)
            order = values[:size].argsort(stable=True).tolist()
            found += [mixture.name(i) for i in sorted(order[: size - left])]
        return found

    def _sizes(self, mixture: Mixture) -> Tensor:
        """The mean absolute weight of each expert."""
        held = [t for n, t in state_of(self.model).items() if n.startswith(f"{mixture.experts}.")]
        return torch.stack([t.float().abs().flatten(1).mean(1) for t in held]).mean(0)

    def without(self, names: Sequence[str]) -> nn.Module:
        """The model without these experts. Raises NothingToPruneError where it isn't what it is when its routers never
        choose them."""
        kept = {m: [i for i in range(m.size) if m.name(i) not in names] for m in self.mixtures}
        count = len(kept[self.mixtures[0]])
        try:
            network = made(self.model, changed(self._values, {self._entry.path: count}))
            state = dict(state_of(self.model))
            for mixture, left in kept.items():
                state |= {name: state[name][left] for name in mixture.tensors}
            network.load_state_dict(state)
            got = measured(network.eval(), self.inputs, False)[0]
        except Exception as error:  # the library's code may count on so many
            raise NothingToPruneError(
                f"--experts: with {count} of {self.mixtures[0].size} the model can't be made or run: {described(error)}"
            ) from error
        gone = {m.router: [i for i in range(m.size) if i not in left] for m, left in kept.items()}
        with as_it_was(self.model):
            wanted = measured(self.model.eval(), self.inputs, False, partial(_never, gone=gone))[0]
        off, scale = isolated.compare(got, list(wanted))
        if not off <= _CLOSE * scale:
            raise NothingToPruneError(
                "--experts: without some the model computes something else than when its routers never choose them"
            )
        return network.train(self.model.training)


def _chosen(model: nn.Module, homes: Sequence[str], batches: Iterable[Any], size: int) -> dict[str, Tensor]:
    """Which experts each token goes to, a row each: what modules that hold experts are called with."""
    found: dict[str, list[Tensor]] = {}

    def noted(home: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
            for given in tensors_in([*args, *kwargs.values()]):
                if given.dtype in (torch.int64, torch.int32) and given.ndim == 2 and int(given.max()) < size:
                    found.setdefault(home, []).append(given.detach())

        return hook

    modules = {home: model.get_submodule(home) for home in homes}
    hooks = (m.register_forward_pre_hook(noted(home), with_kwargs=True) for home, m in modules.items())
    with as_it_was(model), torch.no_grad(), hooked(hooks):
        model.eval()
        for batch in batches:
            run(model, *call_arguments(batch))
    return {home: torch.cat(rows) for home, rows in found.items()}


class _Never(FunctionMode):
    """Rows of some matrices give minus infinity."""

    def __init__(self, rows: Sequence[tuple[Tensor, list[int]]]) -> None:
        super().__init__()
        self._rows = rows

    def called(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        out = func(*args, **kwargs)
        if func is nn.functional.linear:
            for weight, rows in self._rows:
                if args[1] is weight:
                    out[..., rows] = -math.inf
        return out


@contextmanager
def _never(model: nn.Module, gone: Mapping[str, list[int]]) -> Iterator[None]:
    """Routers never choose these experts."""
    with _Never([(model.get_parameter(name), rows) for name, rows in gone.items()]):
        yield
