"""Runs in a fresh process, as a script: a bundle's file alone, without the toolkit. Prints one line of JSON.

    python -I fresh.py model.py FACTORY weights.pth check.pt blocked,module,names   ("" for its own weights)
    python -I fresh.py --serve      (the same arguments as JSON lists, one a line)

``check.pt`` holds the inputs and the outputs they must give. This file imports torch and the standard library only.
"""

from __future__ import annotations

import copy
import ctypes
import gc
import importlib.util
import json
import math
import mmap
import os
import random
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_map

INTERNAL = frozenset(vars(nn.Module()))  # attributes that every module has from torch
_LARGE = 2**20
_MAP_FROM = -3  # mallopt: memory of this size and more goes back to the system as soon as it is free
_DROP = 4  # madvise: pages of a file are mapped anew when they are needed; the system may keep them meanwhile
_HOOKS = {name for name in INTERNAL if name.startswith("_forward_") and "hooks" in name}


class _Blocker:
    """Makes importing the named packages an error."""

    def __init__(self, names: list[str]) -> None:
        self._names = set(names)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name.partition(".")[0] in self._names:
            raise ImportError(f"the file needs the package {name}, which a standalone file must not")
        return None


@dataclass(frozen=True)
class Loop:
    """One index that a product runs over: its size, and the axes of operands or result that it runs along."""

    size: int
    along: tuple[tuple[Tensor, int], ...] = ()


_FIRST_OPERAND = {
    "mm": 0, "bmm": 0, "mv": 0, "dot": 0, "vdot": 0, "_scaled_mm": 0, "_int_mm": 0,
    "addmm": 1, "baddbmm": 1, "addbmm": 1, "addmv": 1, "_addmm_activation": 1,
}  # fmt: skip
_ATTENTION = (
    "_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_efficient_attention", "_scaled_dot_product_cudnn_attention",
    "_scaled_dot_product_fused_attention_overrideable", "_scaled_dot_product_attention_math",
)  # fmt: skip


def products(func: Any, args: tuple[Any, ...], out: Any) -> list[list[Loop]]:
    """The products of an operation of torch, each as the indices it runs over: one multiply-accumulate for each of
    their combinations. Empty for what multiplies no matrices."""
    if func.namespace != "aten":
        return []
    name = func.overloadpacket.__name__
    name = name[:-1] if name.endswith("_") else name  # in place
    if name in {"convolution", "_convolution"}:
        return [_convolution(args[0], args[1], bool(args[6]), out)]
    if name in _FIRST_OPERAND:
        return [_matrices(*args[_FIRST_OPERAND[name] :][:2])]
    if name in _ATTENTION:
        return _attention(*args[:3])
    return [_trilinear(args)] if name == "_trilinear" else []


def _convolution(x: Tensor, weight: Tensor, transposed: bool, out: Tensor) -> list[Loop]:
    """Each place of the output, or of the input where transposed, takes a product of each element of the weight."""
    n = weight.ndim - 2
    channels = x.ndim - n - 1
    places = x if transposed else out
    rows, columns = ((x, channels), (out, channels)) if transposed else ((out, channels), (x, channels))
    axes = [a for a in range(places.ndim) if a != channels]
    return [
        Loop(weight.shape[0], (rows,)),
        Loop(weight.shape[1], (columns,) if weight.shape[1] > 1 else ()),  # alone in its group: depth-wise
        *(Loop(size) for size in weight.shape[2:]),
        *(Loop(places.shape[a], ((places, a),)) for a in axes),
    ]


def _matrices(left: Tensor, right: Tensor) -> list[Loop]:
    """(batch, m, k) times (batch, k, n), with fewer axes where an operand is a matrix or a vector."""
    inner = Loop(left.shape[-1], ((left, left.ndim - 1), (right, max(right.ndim - 2, 0))))
    rows = [Loop(left.shape[a], ((left, a),)) for a in range(left.ndim - 1)]
    if left.ndim == 3 and right.ndim == 3:
        rows[0] = Loop(left.shape[0], ((left, 0), (right, 0)))
    return [inner, *rows, *([Loop(right.shape[-1], ((right, right.ndim - 1),))] if right.ndim > 1 else [])]


def _attention(query: Tensor, key: Tensor, value: Tensor) -> list[list[Loop]]:
    """Queries times keys, and what comes of it times values. What a mask leaves out is computed, too."""
    n = query.ndim
    rows = [Loop(query.shape[a], ((query, a),)) for a in range(n - 1)]
    keys = Loop(key.shape[-2], ((key, n - 2), (value, n - 2)))
    scores = [*rows, keys, Loop(query.shape[-1], ((query, n - 1), (key, n - 1)))]
    return [scores, [*rows, keys, Loop(value.shape[-1], ((value, n - 1),))]]


def _trilinear(args: tuple[Any, ...]) -> list[Loop]:
    """Three operands, each with axes of size 1 put in where the others have more."""
    places = []
    for operand, expanded in zip(args[:3], args[3:6], strict=True):
        own = iter((operand, axis) for axis in range(operand.ndim))
        places.append([None if a in expanded else next(own) for a in range(operand.ndim + len(expanded))])
    found = [[p for p in beside if p is not None] for beside in zip(*places, strict=True)]
    return [Loop(max(t.shape[a] for t, a in along), tuple(along)) for along in found]


def macs_of(loops: Sequence[Loop]) -> int:
    """The multiply-accumulates of one product."""
    return math.prod(loop.size for loop in loops)


class DispatchMode(TorchDispatchMode):
    """Torch wraps the hook of a mode so that its compiler keeps out, and the wrapper's first call imports that
    compiler, which takes seconds. Nothing here is compiled."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.__torch_dispatch__ = getattr(  # type: ignore[method-assign]
            cls.__torch_dispatch__, "__wrapped__", cls.__torch_dispatch__
        )

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return self.called(func, args, kwargs or {})

    def called(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What takes the place of an operation; gives what it gives."""
        raise NotImplementedError


class MacCounter(DispatchMode):
    """Counts the multiply-accumulates of all convolutions and matrix products, operation by operation."""

    macs = 0

    def called(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if torch.is_inference_mode_enabled():  # there composite operations come whole
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        out = func(*args, **kwargs)
        self.saw(func, (args, kwargs), out, sum(map(macs_of, products(func, args, out))))
        return out

    def saw(self, func: Any, operands: tuple[tuple[Any, ...], dict[str, Any]], out: Any, macs: int) -> None:
        """An operation has run."""
        self.macs += macs


def load(file: str, factory: str) -> nn.Module:
    """Import the file and call its factory."""
    spec = importlib.util.spec_from_file_location(Path(file).stem, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    model: nn.Module = getattr(module, factory)()
    return model


@contextmanager
def widely(double: bool) -> Iterator[None]:
    """In float64, what code makes without saying a type is float64, too, and attention is computed step by step:
    torch's fused kernels read a mask of another type as if it were of theirs."""
    usual = torch.get_default_dtype()
    with ExitStack() as stack:
        if double:
            torch.set_default_dtype(torch.float64)
            stack.callback(torch.set_default_dtype, usual)
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        yield


def as_double(inputs: Any) -> Any:
    return tree_map(lambda t: t.double() if isinstance(t, Tensor) and t.is_floating_point() else t, inputs)


def call(model: Any, inputs: Any) -> Any:
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, (tuple, list)) else model(inputs)


def tensors_in(value: Any) -> list[Tensor]:
    """All tensors of an output, in order: in tuples, lists, dicts, dataclasses and what is derived from them."""
    if isinstance(value, Tensor):
        return [value]
    if is_dataclass(value) and not isinstance(value, type):
        value = [getattr(value, f.name) for f in fields(value)]
    elif isinstance(value, Mapping):
        value = list(value.values())
    return [t for part in value for t in tensors_in(part)] if isinstance(value, (tuple, list)) else []


@contextmanager
def step_by_step(model: nn.Module) -> Iterator[None]:
    """Recurrent layers take their steps one by one, not in one opaque operation."""
    opaque = torch.backends.mkldnn.enabled and any(isinstance(m, nn.RNNBase) for m in model.modules())
    if opaque:
        torch.backends.mkldnn.enabled = False  # type: ignore[assignment]  # ``flags`` sets more, of which torch warns
    try:
        yield
    finally:
        if opaque:
            torch.backends.mkldnn.enabled = True  # type: ignore[assignment]


@contextmanager
def transparent(model: nn.Module) -> Iterator[None]:
    """Neither recurrent layers nor attention are one opaque operation, in which nothing can be counted."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with step_by_step(model):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


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


@contextmanager
def buffers_restored(model: nn.Module) -> Iterator[None]:
    """A pass in training mode changes buffers (running statistics) and parameters that no gradient trains (a codebook
    of moving averages): afterwards they are what they were."""
    held: list[tuple[Any, str, torch.Tensor]] = []
    for module in model.modules():
        held += [(module._buffers, n, b) for n, b in module._buffers.items() if b is not None]
        frozen = [(n, p) for n, p in module._parameters.items() if p is not None and not p.requires_grad]
        held += [(module._parameters, n, p) for n, p in frozen]
    before = [(store, n, t, t.clone()) for store, n, t in held]
    try:
        yield
    finally:
        for store, name, tensor, value in before:
            with torch.no_grad():
                store[name] = tensor.copy_(value)


@contextmanager
def without_traces(model: nn.Module) -> Iterator[None]:
    """Gives the plain attributes, buffers and hooks of every module back what they were and held, and parameters the
    tensor they had: running fills caches, for other widths than the next run may have, and installs hooks once."""
    stored = [(p, p.data, dict(vars(p))) for p in model.parameters() if not isinstance(p, Streamed)]
    put_back = undoing(model)
    try:
        yield
    finally:
        put_back()
        for parameter, values, attributes in stored:
            if parameter.data_ptr() != values.data_ptr():
                parameter.data = values
            vars(parameter).clear()
            vars(parameter).update(attributes)


def undoing(model: nn.Module) -> Callable[[], None]:
    """What puts back plain attributes, buffers and hooks as they are now, with what they hold."""
    held = INTERNAL - {"_buffers", "_non_persistent_buffers_set"} - _HOOKS
    before = [(m, {n: (v, _content(v)) for n, v in vars(m).items() if n not in held}) for m in model.modules()]

    def put_back() -> None:
        for module, attributes in before:
            for name in vars(module).keys() - attributes.keys() - INTERNAL:
                delattr(module, name)
            for name, (value, content) in attributes.items():
                if content is not None:
                    value.clear()
                    value.extend(content) if isinstance(value, list) else value.update(content)
                vars(module)[name] = value

    return put_back


def _content(value: Any) -> Any:
    """What a container holds that code can fill."""
    return copy.copy(value) if type(value) in (dict, list, set, OrderedDict) else None


class Streamed(nn.Parameter):
    """A parameter of a network that may be larger than the memory: it has its values only while a module that it
    belongs to runs, and is NaN otherwise. Copies of a network share it.

    ``values``: makes them, or reads them, each time anew.
    """

    values: Callable[[], Tensor]
    _users = 0

    def __deepcopy__(self, memo: Any) -> Streamed:
        return self

    def read(self) -> Tensor:
        """The values, in the parameter's shape and type. No mode sees how they come about."""
        with torch.no_grad(), torch._C.DisableTorchFunction(), _disable_current_modes():
            found = self.values()
        if found.shape != self.shape:
            raise ValueError(f"values of shape {tuple(found.shape)} for a parameter of {tuple(self.shape)}")
        return found

    def come(self) -> None:
        if not self._users:
            self._set(self.read())
        self._users += 1

    def go(self) -> None:
        self._users -= 1
        if not self._users:
            with torch._C.DisableTorchFunction(), _disable_current_modes():
                storage = self.data.untyped_storage()
            self._set(_nothing(self))
            _give_back(storage)

    def _set(self, values: Tensor) -> None:
        with torch._C.DisableTorchFunction(), _disable_current_modes():
            self.data = values


_spare: dict[int, torch.UntypedStorage] = {}  # by size; memory that is new costs more than what is read into it


def room(shape: Sequence[int]) -> Tensor:
    """Memory for numbers of float32, maybe what values had that went."""
    storage = _spare.pop(4 * math.prod(shape), None)
    return torch.empty(tuple(shape)) if storage is None else torch.empty(0).set_(storage).view(tuple(shape))


def _give_back(storage: torch.UntypedStorage) -> None:
    alone = storage.device.type == "cpu" and storage.resizable() and torch._C._storage_Use_Count(storage._cdata) == 1
    if alone and storage.nbytes() >= _LARGE:
        _spare[storage.nbytes()] = storage


def _nothing(like: Tensor) -> Tensor:
    """NaN everywhere, which takes no memory."""
    return torch.tensor(float("nan")).expand(like.shape)


def streamed(like: Tensor, values: Callable[[], Tensor]) -> Streamed:
    """A parameter in float32."""
    found = Streamed(_nothing(like))
    found.values = values
    return found


def values_in(tensor: Tensor) -> Tensor:
    """Its values, which may have to come first."""
    return tensor.read() if isinstance(tensor, Streamed) else tensor.detach()


def streams(model: nn.Module) -> bool:
    """Whether the weights of a network come and go."""
    return any(isinstance(p, Streamed) for p in model.parameters())


def stream(model: nn.Module, values: Callable[[str, Tensor], Callable[[], Tensor]]) -> None:
    """From here on let weights come and go. ``values``: a parameter's name, and it -> how its values are made."""
    if sys.platform == "linux":
        with suppress(AttributeError):  # another C library
            ctypes.CDLL(None).mallopt(_MAP_FROM, _LARGE)
    found = {id(p): streamed(p, values(n, p)) for n, p in model.named_parameters()}
    for module in model.modules():
        own = {n: found[id(p)] for n, p in module._parameters.items() if p is not None}
        module._parameters.update(own)
        if own:
            module.register_forward_pre_hook(_before)
            module.register_forward_hook(_after, always_call=True)


def state_of(model: nn.Module) -> Mapping[str, Any]:
    """The ``state_dict``, or where weights come and go, how each is made."""
    if not streams(model):
        return model.state_dict()
    named = model.named_parameters(remove_duplicate=False)
    return {name: p.values for name, p in named if isinstance(p, Streamed)}


def take(model: nn.Module, state: Mapping[str, Any]) -> None:
    """Let a network have what ``state_of`` gave, or files that hold it. Raises RuntimeError where it has others."""
    if not streams(model):
        model.load_state_dict(state, strict=True)
        return
    named = model.named_parameters(remove_duplicate=False)
    own = {name: p for name, p in named if isinstance(p, Streamed)}
    if own.keys() != state.keys():
        raise RuntimeError(f"{min(own.keys() ^ state.keys())} isn't in both")
    for name, parameter in own.items():
        made = state[name]
        parameter.values = partial(torch.load, made, weights_only=True) if isinstance(made, str) else made


def _before(module: nn.Module, args: Any) -> None:
    for parameter in module._parameters.values():
        if isinstance(parameter, Streamed):
            parameter.come()


def _after(module: nn.Module, args: Any, out: Any) -> None:
    for parameter in module._parameters.values():
        if isinstance(parameter, Streamed):
            parameter.go()


def from_files(model: nn.Module) -> None:
    """From here on let the weights come from the files that they lie in, as copies in float32."""
    files = _files_in_memory()
    stream(model, lambda name, tensor: partial(_from_file, tensor.detach(), files))


def _from_file(tensor: Tensor, files: Sequence[range]) -> Tensor:
    found = room(tensor.shape).copy_(tensor)
    if tensor.nbytes:
        first = tensor.data_ptr() // mmap.PAGESIZE * mmap.PAGESIZE
        last = tensor.data_ptr() + tensor.nbytes
        if any(first in file and last - 1 in file for file in files):
            ctypes.CDLL(None).madvise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), _DROP)
    return found


def _files_in_memory() -> list[range]:
    """Where files are mapped, of which nothing was changed since."""
    found: list[range] = []
    with suppress(OSError):
        for line in Path("/proc/self/smaps").read_text().splitlines():
            words = line.split()
            if "-" in words[0]:
                first, last = (int(end, 16) for end in words[0].split("-"))
                named = len(words) > 5 and words[5].startswith("/")
            elif words[0] == "Private_Dirty:" and words[1] == "0" and named:
                found.append(range(first, last))
    return found


def compare(out: Any, expected: list[Tensor]) -> tuple[float, float]:
    """Largest difference, and the scale of the expected values. Equal infinities, and NaN beside NaN, don't differ."""
    found = tensors_in(out)
    if [t.shape for t in found] != [t.shape for t in expected]:
        shapes = [[tuple(t.shape) for t in tensors] for tensors in (found, expected)]
        raise ValueError(f"outputs of shapes {shapes[0]}, not {shapes[1]}")
    worst, scale = 0.0, 0.0
    for got, want in zip(found, expected, strict=True):
        if got.is_complex():
            got, want = torch.view_as_real(got), torch.view_as_real(want)
        got, want = got.double(), want.double()
        differ = ~((got == want) | (got.isnan() & want.isnan()))
        if differ.any():
            off = float((got - want)[differ].abs().max())
            worst = max(worst, off if off == off else float("inf"))
        if want.isfinite().any():
            scale = max(scale, float(want[want.isfinite()].abs().max()))
    return worst, scale


def train_step(model: nn.Module, inputs: Any) -> str:
    """Forward and backward in training mode; the error, if there is one. Every gradient goes as soon as it is there."""
    model.train()
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(_forget)
    try:
        out = call(model, inputs)
        total = sum(t.float().sum() for t in tensors_in(out) if t.is_floating_point())
        total.backward()  # type: ignore[union-attr]
    except Exception as error:
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return ""


def _forget(parameter: Tensor) -> None:
    parameter.grad = None


def run_case(model: nn.Module, case: Mapping[str, Any], own: Mapping[str, Tensor]) -> dict[str, Any]:
    """Outputs of the model with the case's weights, beside what they must be; without ``outputs`` it has to run."""
    take(model, own if case["state"] is None else case["state"])
    if case["double"]:
        model.double()
    elif any(p.dtype in (torch.float16, torch.bfloat16) for p in model.parameters()):
        model.float()
    counter = MacCounter()
    even = EvenDraws() if case["even_draws"] else nullcontext()
    wide = widely(case["double"])
    around = (transparent(model.train(case["training"])), buffers_restored(model), seeded(), even, wide, counter)
    with torch.no_grad(), without_traces(model), ExitStack() as stack:
        for context in around:
            stack.enter_context(context)
        try:
            called = getattr(model, case["method"]) if case["method"] else model
            out = call(called, as_double(case["inputs"]) if case["double"] else case["inputs"])
        except Exception as error:
            error.add_note(f"({case['name']})")
            raise
    worst, scale = (0.0, 0.0) if case["outputs"] is None else compare(out, case["outputs"])
    return {"name": case["name"], "diff": worst, "scale": scale, "macs": counter.macs, "train": ""}


def main(file: str, factory: str, weights: str, check: str, blocked: str) -> dict[str, Any]:
    sys.meta_path.insert(0, _Blocker(blocked.split(",")))
    sys.dont_write_bytecode = True
    torch.set_num_threads(1)
    cases = torch.load(check, weights_only=True, map_location="cpu", mmap=True)
    model = load(file, factory)
    if any(case["streamed"] for case in cases):
        from_files(model)
        own = state_of(model)
    elif weights:
        own = torch.load(weights, weights_only=True, map_location="cpu", mmap=True)
    else:
        own = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    precisions = {p.dtype for p in model.parameters() if p.is_floating_point()}
    results = [run_case(model, case, own) for case in cases]
    params = sum(p.numel() for p in model.parameters())
    if trained_as_it_is := precisions <= {torch.float32}:
        model.float()
    for case, result in zip(cases, results, strict=True):
        if case["train_inputs"] is not None:
            double = case["double"] and not trained_as_it_is
            with widely(double):
                result["train"] = train_step(model, as_double(case["train_inputs"]) if double else case["train_inputs"])
    return {"cases": results, "params": params}


def report(arguments: list[str]) -> str:
    try:
        found = main(*arguments)
    except Exception as problem:
        found = {"error": " ".join([f"{type(problem).__name__}: {problem}", *getattr(problem, "__notes__", ())])}
    return json.dumps(found)


def serve() -> None:
    """One request a line, each answered by a forked child: a fresh process without the cost of importing torch."""
    torch.set_num_threads(1)
    with suppress(ModuleNotFoundError):
        importlib.import_module("numpy.random")  # it takes time, and seeding needs it
    gc.freeze()  # else the first collection of every child copies nearly all of its memory
    for line in sys.stdin:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(writing, report(json.loads(line)).encode())
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as answer:
            text = answer.read()
        os.waitpid(child, 0)
        print(text or json.dumps({"error": "the process died"}), flush=True)


if __name__ == "__main__":
    if sys.argv[1:] == ["--serve"]:
        serve()
    else:
        print(report(sys.argv[1:]), flush=True)
        os._exit(0)  # to take torch down takes half as long as to import it
