"""Whole layers that can go: those in a list of several that add something to what they get (depth pruning, as in
Men et al., "ShortGPT", arXiv 2403.03853)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn

from .errors import BudgetError, NothingToPruneError, NotPrunableError, SecateurError
from .run import as_it_was, call_arguments, copied, described, hooked, isolated, run, tensors_in

Distance = Callable[[nn.Module], float]
"""How far a network's outputs are from what they were: 0 for the same."""

_LISTS = (nn.ModuleList, nn.Sequential)
_CLOSE = 1e-4
_TOGETHER = 2  # norms and activations on the way of what a layer adds to


@dataclass(frozen=True)
class ResidualLayer:
    """A layer in a list (``nn.ModuleList`` or ``nn.Sequential``). ``why``: why it stays; empty where it can go."""

    name: str
    why: str = ""

    @property
    def home(self) -> str:
        """The list that it is in."""
        return self.name.rpartition(".")[0]


@dataclass(frozen=True)
class _Call:
    """How a layer ran: what it got and gave, and how often."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    out: Any
    times: int = 1


class Depth:
    """Which whole layers of a network can go.

    ``shorter``: makes the network without some of its layers; by default a copy without them in their lists. It has to
    compute what the network does when these layers add nothing. Layers that aren't residual are not looked at, nor is
    what is in a residual one.
    """

    def __init__(
        self, model: nn.Module, example_input: Any, shorter: Callable[[Sequence[str]], nn.Module] | None = None
    ) -> None:
        self.model, self.inputs, self._shorter = model, example_input, shorter
        self._last: tuple[tuple[str, ...], nn.Module] | None = None

    @cached_property
    def layers(self) -> list[ResidualLayer]:
        """The residual layers in order: what they return is what they get and more, or the code around them adds up."""
        with self._quiet():
            return list(self._within("", self.model))

    def chosen(self, keep: float, distance: Distance | None = None) -> list[str]:
        """The layers to take out so that at most this share of them stays: one by one that which moves the outputs
        least, by ``distance`` (default: on the example). Something of each list stays. Raises BudgetError where so
        many can't go, NotPrunableError where there are none."""
        if not self.layers:
            raise NothingToPruneError(
                "--layers: no list of the network holds residual layers, which add to what they get"
            )
        order = [r.name for r in self.layers]
        count = len(order) - math.floor(keep * len(order) + 1e-9)
        distance = distance or distance_on(self.model, self.inputs)
        gone: list[str] = []
        stays = {r.name: r.why for r in self.layers if r.why}
        while len(gone) < count:
            left = [r for r in self.layers if r.name not in {*gone, *stays} and self._something_left(r, gone)]
            if not left:
                raise BudgetError(_too_few(len(order), keep, len(gone), stays))
            damages = {r.name: self._damage([*gone, r.name], distance) for r in left}
            best = min(damages, key=lambda name: damages[name])
            together = sorted([*gone, best], key=order.index)
            why = self._why_not(together) if self._shorter else ""
            gone, stays = (gone, {**stays, best: why}) if why else (together, stays)
        return gone

    def without(self, names: Sequence[str]) -> nn.Module:
        """The network without these layers. Raises NotPrunableError where it isn't what it is when they add nothing."""
        if self._last is not None and self._last[0] == tuple(names):
            return self._last[1]  # the choice has tried it
        with self._quiet():
            wanted = self._silenced(names)
        try:
            short = (self._shorter or partial(without_layers, self.model))(names)
            with as_it_was(short), torch.no_grad(), torch.random.fork_rng(devices=[]):
                got = _outputs(short.eval(), self.inputs)
        except SecateurError:
            raise
        except Exception as error:  # the author's code may count on the layers
            raise NothingToPruneError(f"--layers: {', '.join(names)}: needed: {described(error)}") from error
        if not _alike(wanted, got):
            raise NothingToPruneError(f"--layers: {', '.join(names)}: counted on elsewhere")
        self._last = tuple(names), short
        return short

    @contextmanager
    def _quiet(self) -> Iterator[None]:
        with as_it_was(self.model), torch.no_grad(), torch.random.fork_rng(devices=[]):
            self.model.eval()
            yield

    def _why_not(self, names: Sequence[str]) -> str:
        try:
            self.without(names)
        except NotPrunableError as error:
            return str(error).rpartition(": ")[2]
        return ""

    def _something_left(self, one: ResidualLayer, gone: Sequence[str]) -> bool:
        """Whether something stays in its list."""
        names = (_joined(one.home, n) for n in self.model.get_submodule(one.home)._modules)
        return any(name != one.name and name not in gone for name in names)

    def _damage(self, gone: Sequence[str], distance: Distance) -> float:
        with self._quiet(), _silent(self.model, gone, self._calls):
            return distance(self.model)

    def _within(self, path: str, module: nn.Module) -> Iterator[ResidualLayer]:
        """The residual layers inside a module. A list is no layer where it holds some."""
        for part, inner in module.named_children():
            name = _joined(path, part)
            found = list(self._within(name, inner)) if type(inner) in _LISTS else []
            if not found and isinstance(module, _LISTS) and _matrices(inner):
                why = self._kept(name, inner)
                found = [] if why is None else [ResidualLayer(name, why)]
            yield from found or ([] if type(inner) in _LISTS else self._within(name, inner))

    def _kept(self, name: str, layer: nn.Module) -> str | None:
        """Why a layer stays; empty where it can go, None where it is no residual layer."""
        call = self._calls.get(name)
        if call is not None:
            got, gave = _first(call.args, call.kwargs), _first((call.out,), {})
            if got is None or gave is None or got.shape != gave.shape or not _adds(layer, call, got):
                return None
            if call.times > 1:
                return "is run more than once"
        try:
            wanted = self._silenced([name])
        except Exception:  # without its weights a layer may compute anything
            return None
        if call is None and _alike(_outputs(self.model, self.inputs), wanted):
            return None  # it may not run at all
        why = self._why_not([name]) if self._changed(name, wanted) else ""
        return why if call is not None or not why else None

    def _changed(self, name: str, wanted: Sequence[Tensor]) -> bool:
        """Whether something else comes out without a layer in its list."""
        try:
            with _taken_out(self.model, [name]), as_it_was(self.model):
                return not _alike(wanted, _outputs(self.model, self.inputs))
        except Exception:  # the author's code may count on the layer
            return True

    def _silenced(self, names: Sequence[str]) -> list[Tensor]:
        with _silent(self.model, names, self._calls):
            return _outputs(self.model, self.inputs)

    @cached_property
    def _calls(self) -> dict[str, _Call]:
        """How the layers of lists ran."""
        calls: dict[str, _Call] = {}

        def note(name: str) -> Callable[..., None]:
            def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
                calls[name] = _Call(args, kwargs, out, calls[name].times + 1 if name in calls else 1)

            return hook

        listed = (
            (_joined(name, part), layer) for name, module in self.model.named_modules() if isinstance(module, _LISTS)
            for part, layer in module.named_children()
        )  # fmt: skip
        with self._quiet(), hooked(m.register_forward_hook(note(n), with_kwargs=True) for n, m in listed):
            run(self.model, *call_arguments(self.inputs))
        return calls


def _joined(path: str, part: str) -> str:
    return f"{path}.{part}" if path else part


def without_layers(model: nn.Module, names: Sequence[str]) -> nn.Module:
    """A copy without these layers; those after them in a list are numbered anew where they are
    numbered, as ``del layers[i]`` does."""
    found = copied(model)
    for home, left in _left(found, set(names)):
        home._modules = left
    return found


def distance_on(model: nn.Module, example_input: Any) -> Distance:
    """How far outputs move on an example: ``||y - y'|| / ||y||``."""

    def outputs(network: nn.Module) -> list[Tensor]:
        with as_it_was(network), torch.no_grad():
            return [t.double() for t in _outputs(network.eval(), example_input) if t.is_floating_point()]

    before = outputs(model)
    whole = sum(float(t.square().sum()) for t in before)

    def distance(other: nn.Module) -> float:
        off = sum(float((a - b).square().sum()) for a, b in zip(before, outputs(other), strict=True))
        return math.sqrt(off / whole) if whole else off

    return distance


def _too_few(layers: int, keep: float, gone: int, stays: Mapping[str, str]) -> str:
    shown = "; ".join(f"{name} {why}" for name, why in list(stays.items())[:2])
    least = math.ceil(100 * (layers - gone) / layers) / 100
    return (
        f"--layers {keep:g}: of {layers} residual layers {gone} can go, as something of each list stays"
        f"{f' ({shown})' if shown else ''}; {least:g} is the least"
    )


# -- lists


def _matrices(module: nn.Module) -> list[nn.Parameter]:
    return [p for p in module.parameters() if p.ndim > 1]


def _left(model: nn.Module, gone: Set[str]) -> Iterator[tuple[nn.Module, dict[str, nn.Module | None]]]:
    """Every list that loses layers, with those that stay under their new names."""
    homes = {name.rpartition(".")[0] for name in gone}
    for path in sorted(homes, key=len, reverse=True):
        home = model.get_submodule(path)
        stays = [(n, m) for n, m in home._modules.items() if _joined(path, n) not in gone]
        names = _numbered(list(home._modules)) or [n for n, _ in stays]
        yield home, {n: m for n, (_, m) in zip(names, stays, strict=False)}


def _numbered(names: Sequence[str]) -> list[str]:
    """The names if they count, as ``block1, block2`` do; else none."""
    prefix = names[0].rstrip("0123456789")
    first = names[0].removeprefix(prefix)
    counted = [f"{prefix}{i}" for i in range(int(first), int(first) + len(names))] if first else []
    return counted if counted == list(names) else []


@contextmanager
def _taken_out(model: nn.Module, names: Sequence[str]) -> Iterator[None]:
    """The network itself without these layers."""
    changed = [(home, home._modules, left) for home, left in _left(model, set(names))]
    try:
        for home, _, left in changed:
            home._modules = left
        yield
    finally:
        for home, before, _ in changed:
            home._modules = before


# -- what a layer does


def _outputs(model: nn.Module, example_input: Any) -> list[Tensor]:
    with isolated.seeded():
        return tensors_in(run(model, *call_arguments(example_input)))


@contextmanager
def _silent(model: nn.Module, names: Sequence[str], calls: Mapping[str, _Call]) -> Iterator[None]:
    """Layers add nothing: those that ran give what they get, in others all weights are zero."""
    with ExitStack() as stack:
        for name in names:
            layer = model.get_submodule(name)
            stack.enter_context(_passes_on(layer) if name in calls else _zeroed(list(layer.parameters())))
        yield


def _first(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor | None:
    found = tensors_in([*args, *kwargs.values()])
    return found[0] if found and found[0].is_floating_point() else None


def _alike(ones: Sequence[Tensor], others: Sequence[Tensor]) -> bool:
    if [t.shape for t in ones] != [t.shape for t in others]:
        return False
    pairs = [(a, b) for a, b in zip(ones, others, strict=True) if a.is_floating_point() and a.numel()]
    return all(torch.allclose(a, b, rtol=_CLOSE, atol=_CLOSE * float(a.abs().max())) for a, b in pairs)


def _adds(layer: nn.Module, call: _Call, got: Tensor) -> bool:
    """Whether a layer gives what it gets once it has no weights, or none but those of norms: these may come after the
    sum. Its own norms and activations are allowed on the way."""
    return any(_passes(layer, call, got, zeros) for zeros in (list(layer.parameters()), _without_norms(layer)))


def _passes(layer: nn.Module, call: _Call, got: Tensor, zeros: Sequence[nn.Parameter]) -> bool:
    with _zeroed(zeros):
        try:
            gave = _first((layer(*call.args, **call.kwargs),), {})
        except Exception:  # as above
            return False
        if gave is None or not bool((gave != 0).any()):
            return False
        own = [m for m in layer.modules() if not list(m.children()) and not _matrices(m)]
        ways: list[Tensor] = [got, torch.relu(got)]
        for _ in range(_TOGETHER):
            if any(_alike([gave], [w]) for w in ways):
                return True
            ways = [out for w in ways for m in own if (out := _passed(m, w)) is not None]
        return any(_alike([gave], [w]) for w in ways)


def _without_norms(layer: nn.Module) -> list[nn.Parameter]:
    """Matrices, and the vectors beside them."""
    own = [list(m.parameters(recurse=False)) for m in layer.modules()]
    return [p for parameters in own if any(p.ndim > 1 for p in parameters) for p in parameters]


def _passed(module: nn.Module, value: Tensor) -> Tensor | None:
    try:
        out = module(value)
    except Exception:  # a norm of other channels
        return None
    return out if isinstance(out, Tensor) else None


@contextmanager
def _zeroed(parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    held = [p.detach().clone() for p in parameters]
    try:
        for p in parameters:
            p.zero_()
        yield
    finally:
        for p, values in zip(parameters, held, strict=True):
            p.copy_(values)


def _passes_on(layer: nn.Module) -> AbstractContextManager[None]:
    """The layer gives what it gets, in the place of its first tensor."""

    def instead(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Any:
        got = _first(args, kwargs)
        return got if isinstance(out, Tensor) else type(out)((got, *out[1:]))

    return hooked([layer.register_forward_hook(instead, with_kwargs=True)])
