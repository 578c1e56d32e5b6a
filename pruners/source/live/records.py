"""What one instance of an author's class holds: a term for each child, parameter, buffer and plain attribute."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ...errors import SharedCodeError, SourceError, UnsavedError, ValueTextError
from ...places import LiteralSite
from ...run import INTERNAL, SMALL, is_blank, unsaved_buffers
from .closures import Renewal, holds
from .terms import Alias, Box, Call, Display, Item, Lit, Term, literal_tensor, parameter_call, tensor_call
from .torch_layers import call_of, is_torch
from .tree import Tree, author_init, is_box, joined, torch_base
from .values import term_of_value

CHILD, PARAMETER, BUFFER, PLAIN = "child", "parameter", "buffer", "plain"


@dataclass(frozen=True)
class Slot:
    """One attribute. ``why``: why there is no term for it (only an attribute that nothing reads may have none)."""

    kind: str
    term: Term | None
    why: str = ""


Record = dict[str, Slot]


class Recorder:
    """Makes records. ``calls`` holds the constructor call of each author's module that is already written."""

    def __init__(
        self, tree: Tree, added: Mapping[str, Mapping[str, object]], sites: Sequence[LiteralSite] = ()
    ) -> None:
        self.tree = tree
        self.added = added  # attributes that rewritten code needs, by module path
        self.sites = sites  # stale numbers in functions that modules hold
        self.calls: dict[str, Call] = {}

    def record(self, path: str) -> Record:
        """Attributes in the order in which the state_dict has them: parameters, buffers, children; then plain ones."""
        module = self.tree.live[path]
        inherited = _of_torch_base(type(module))
        record: Record = {}
        seen: dict[int, str] = {}
        for name, tensor in module._parameters.items():
            if name not in inherited:
                record[name] = Slot(PARAMETER, parameter_call(tensor, self.tree.dtype))
        for name, tensor in module._buffers.items():
            if name not in inherited:
                mine = None if tensor is None else self.tree.tensor(path, name)
                record[name] = Slot(BUFFER, self._buffer(module, name, mine))
        for name, child in module._modules.items():
            if name not in inherited and not self._waits(child):
                record[name] = Slot(CHILD, self._child(joined(path, name), child, seen, f"self.{name}"))
        for name, value in vars(module).items():
            if name not in INTERNAL and name not in inherited:
                record[name] = self._plain(path, name, value, seen)
        for name, value in self.added.get(path, {}).items():
            record[name] = Slot(PLAIN, Lit(value))
        return record

    def base_call(self, path: str) -> Call | Box | None:
        """What ``super().__init__`` is called with in subclasses of torch's layers and containers."""
        module, cls = self.tree.live[path], type(self.tree.live[path])
        base = torch_base(cls)
        if issubclass(base, nn.Sequential | nn.ModuleList):
            numbered = {n: c for n, c in module._modules.items() if n.isdecimal()}
            there = [(n, c) for n, c in numbered.items() if c is not None and not self._waits(c)]
            items = [Item(n, self.module(joined(path, n), c)) for n, c in there]
            return Box(base, tuple(items), (path,))
        return call_of(module, path, self.tree.dtype, base) if base not in (nn.Module, nn.ModuleDict) else None

    def module(self, path: str, module: nn.Module) -> Term:
        cls = type(module)
        first = self.tree.first_path[id(module)]
        made = self.calls.get(first) or self.tree.imported.get(cls, {}).get(path)
        if made is not None:
            return Call(made.fn, made.args, (path,))
        if is_box(cls):
            if cls is nn.Module and (module._parameters or module._buffers):
                raise ValueTextError(f"{path}: an nn.Module without a class of its own holds tensors; give it a class")
            found = [(n, c) for n, c in module._modules.items() if c is not None or not issubclass(cls, nn.Sequential)]
            items = [Item(n, Lit(None) if c is None else self.module(joined(path, n), c)) for n, c in found]
            return Box(cls, tuple(items), (path,))
        if is_torch(cls) or (author_init(cls) is None and torch_base(cls) is not nn.Module):
            return call_of(module, path, self.tree.dtype)
        if author_init(cls) is None:
            return Call(cls, (), (path,))
        raise SourceError(f"{path}: {cls.__qualname__} has no constructor call yet")

    def _child(self, path: str, child: nn.Module | None, seen: dict[int, str], name: str) -> Term:
        if child is None:
            return Lit(None)
        if id(child) in seen and not self._handed(path, child):
            return Alias(seen[id(child)])
        for inner, module in child.named_modules():
            seen.setdefault(
                id(module), name + "".join(f"[{p}]" if p.isdecimal() else f".{p}" for p in inner.split(".") if p)
            )
        return self.module(path, child)

    def _waits(self, child: nn.Module | None) -> bool:
        """Whether a child, or an element of a container, is of a class that contains itself and has no call yet."""
        if child is None or self.tree.first_path[id(child)] in self.calls:
            return False
        if is_box(type(child)):
            return any(self._waits(inner) for inner in child.children())
        return type(child) in self.tree.circles

    def _handed(self, path: str, child: nn.Module) -> bool:
        """Whether the constructor was given the module, as it may be given one activation for several places."""
        making = self.tree.making(path, (path.rpartition(".")[0],))
        outside = making is not None and making.depth is None
        return outside and "." in path and not child.state_dict()

    def _buffer(self, module: nn.Module, name: str, tensor: torch.Tensor | None) -> Term:
        if tensor is None:
            return Lit(None)
        if name in unsaved_buffers(module) and not (tensor.numel() > SMALL and is_blank(tensor)):
            return literal_tensor(tensor)
        return tensor_call(tensor, torch.ones if is_blank(tensor) and tensor.any() else torch.zeros, self.tree.dtype)

    def _plain(self, path: str, name: str, value: object, seen: Mapping[int, str]) -> Slot:
        if isinstance(value, nn.Module) and id(value) in seen:
            return Slot(PLAIN, Alias(seen[id(value)]))
        inside = list(layers_in(value)) if not isinstance(value, nn.Module) else []
        if inside:
            self._must_be_registered(path, name, inside)
            return self._holding(value, seen)
        try:
            return Slot(PLAIN, term_of_value(value, self.tree.sources, Renewal(self.sites, path, self.tree.first_path)))
        except LookupError as error:
            for site in self.sites:
                if isinstance(value, types.FunctionType) and holds(value, site):
                    reason = f"this number must follow the widths, but {error.args[0]}"
                    raise SharedCodeError(reason, site=site.site, help="make it an attribute") from error
            birth = self.tree.birth(path)
            made = vars(birth.module).get(name) if birth is not None else None
            if type(made) in (dict, list, set) and not made:
                return Slot(PLAIN, Lit(made))  # a cache that running filled
            return Slot(PLAIN, None, str(error.args[0]))

    def _must_be_registered(self, path: str, name: str, inside: Sequence[nn.Module]) -> None:
        """Refuses layers in lists and dicts whose weights no state_dict has."""
        for module in inside:
            if id(module) not in self.tree.first_path and module.state_dict():
                kind, cls = type(module).__name__, type(self.tree.live[path])
                file, node = self.tree.sources.of_class(cls)
                raise UnsavedError(
                    f"{cls.__name__}.{name} holds a {kind} that is not registered, so that no state_dict has its "
                    "weights", site=file.at(node), help="keep it in a ModuleList or ModuleDict",
                )  # fmt: skip

    def _holding(self, value: Any, seen: Mapping[int, str]) -> Slot:
        """A list, tuple or dict of layers that are registered as well. An object of its own kind has no term."""
        try:
            return Slot(PLAIN, self._with_aliases(value, seen))
        except LookupError as error:
            return Slot(PLAIN, None, str(error.args[0]))

    def _with_aliases(self, value: Any, seen: Mapping[int, str]) -> Term:
        if isinstance(value, nn.Module) and id(value) in seen:
            return Alias(seen[id(value)])
        if isinstance(value, nn.Module) and is_torch(type(value)) and id(value) not in self.tree.first_path:
            return call_of(value, "", self.tree.dtype)
        if type(value) in (list, tuple):
            return Display(type(value).__name__, tuple(self._with_aliases(v, seen) for v in value))
        if type(value) is dict:
            keys = tuple(term_of_value(k, self.tree.sources) for k in value)
            return Display("dict", tuple(self._with_aliases(v, seen) for v in value.values()), keys)
        return term_of_value(value, self.tree.sources)


def layers_in(value: Any) -> Iterator[nn.Module]:
    """Modules in a value: itself, or what a list, set or dict holds."""
    if isinstance(value, nn.Module):
        yield value
    elif isinstance(value, list | tuple | set | frozenset):
        for inner in value:
            yield from layers_in(inner)
    elif isinstance(value, dict):
        for inner in value.values():
            yield from layers_in(inner)


def holds_layers(term: Term | None) -> bool:
    """Whether it is a list, tuple or dict in which layers of the module stand."""
    items = term.items if isinstance(term, Display) else ()
    return any(isinstance(i, Alias) or holds_layers(i) for i in items)


def _of_torch_base(cls: type) -> Set[str]:
    """Attributes that the torch layer below an author's class makes itself."""
    base = torch_base(cls)
    if base in (nn.Module, nn.ModuleDict):
        return frozenset()
    if issubclass(base, nn.Sequential | nn.ModuleList):
        return _Numbers()
    return _names_made_by(base)


class _Numbers(frozenset[str]):
    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.isdecimal()


def _names_made_by(base: type) -> Set[str]:
    """Names that the constructors of the torch classes in the line assign, read from their annotations and code."""
    found: set[str] = set()
    for cls in base.__mro__:
        init = vars(cls).get("__init__")
        code = getattr(init, "__code__", None)
        found |= set(getattr(cls, "__annotations__", ())) | set(getattr(cls, "__constants__", ()))
        found |= set(code.co_names) if code is not None else set()
    return found
