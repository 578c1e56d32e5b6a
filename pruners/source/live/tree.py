"""The live module tree: which modules are torch's, which are containers, which are instances of author's classes."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Set
from dataclasses import dataclass
from functools import cached_property

import networkx as nx
import torch
from torch import nn

from ...entry import Entry
from ...run import unsaved_buffers
from ..text import Sources, code_of, free
from .bare import with_class
from .construction import Birth, Births, observe
from .terms import Call
from .torch_layers import is_torch

BOXES = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


@dataclass(frozen=True)
class Making:
    """How a module came to be in the ``owner`` around it. ``depth``: of the owner's constructor in the frames of the
    ``birth``; None if the module was made elsewhere."""

    birth: Birth
    owner: Birth
    depth: int | None

    @property
    def given(self) -> list[str]:
        """The arguments under which the owner's constructor was handed the module."""
        return [n for n, v in self.owner.arguments.items() if v is self.birth.module]


class Tree:
    """A model, its modules by path, and how a new call of the factory makes them."""

    def __init__(self, model: nn.Module, entry: Entry, sources: Sources) -> None:
        self.model = with_class(model, entry, sources)
        self.bare = self.model is not model  # the factory then stands for the class of the network
        self.entry = entry
        self.sources = sources
        self.live = dict(self.model.named_modules(remove_duplicate=False))
        self.changing: set[str] = set()  # attributes that methods assign while the network runs
        self.circles: dict[type[nn.Module], list[type[nn.Module]]] = {}  # by class, all that contain one another
        self.imported: Mapping[type, Mapping[str, Call]] = {}  # libraries' classes that stay there, with their calls
        self.unsaid: dict[int, object] = {}  # by identity, what constructors got and no expression makes again
        self.first_path: dict[int, str] = {}
        for path, module in self.live.items():
            self.first_path.setdefault(id(module), path)

    @cached_property
    def births(self) -> Births:
        return observe(self.entry, self.model)

    @cached_property
    def dtype(self) -> torch.dtype:
        """The type of all floating parameters if they have but one, else torch's default."""
        found = {t.dtype for t in self.model.parameters() if t.is_floating_point()}
        return found.pop() if len(found) == 1 else torch.get_default_dtype()

    @cached_property
    def instances(self) -> dict[type[nn.Module], list[str]]:
        """Author's classes and where their instances are, children's classes first."""
        paths: dict[type[nn.Module], list[str]] = {}
        for path, module in self.live.items():
            own = is_authored(type(module)) and author_init(type(module)) is not None and not self.is_leaf(type(module))
            if own and self.first_path[id(module)] == path and not self.is_inside(path):
                paths.setdefault(type(module), []).append(path)
        return {cls: paths[cls] for cls in self._bottom_up(paths)}

    @property
    def written(self) -> dict[str, nn.Module]:
        """The modules that the file's own classes make, or hold by a call."""
        found = {p: m for p, m in self.live.items() if type(m) not in self.imported}
        return {p: m for p, m in found.items() if not any(self.is_leaf(type(self.live[a])) for a in ancestors(p))}

    def is_leaf(self, cls: type) -> bool:
        """Whether one call of a library's class makes the module and all that is in it."""
        return cls in self.imported and author_init(cls) is not None

    def is_inside(self, path: str) -> bool:
        """Whether a call of torch or of a library makes the module with the one around it."""
        above = (type(self.live[p]) for p in ancestors(path))
        return any(not is_composite(cls) or self.is_leaf(cls) for cls in above)

    def _bottom_up(self, paths: dict[type[nn.Module], list[str]]) -> list[type[nn.Module]]:
        needs = {cls: {type(m) for p in ps for m in self._below(self.live[p])} for cls, ps in paths.items()}
        order: list[type[nn.Module]] = []
        while len(order) < len(paths):
            rest = {cls: needs[cls] - set(order) for cls in paths if cls not in order}
            ready = [cls for cls, open_ in rest.items() if not open_] or self._circle(rest)
            order += ready
        return order

    def _circle(self, rest: Mapping[type[nn.Module], Set[type[nn.Module]]]) -> list[type[nn.Module]]:
        """Classes that contain themselves, or each other, and nothing else that isn't there yet."""
        graph = nx.DiGraph((cls, inner) for cls, needs in rest.items() for inner in needs)
        lowest = min(rest, key=lambda cls: len(nx.descendants(graph, cls)))
        circle = [cls for cls in rest if cls is lowest or cls in nx.descendants(graph, lowest)]
        self.circles.update(dict.fromkeys(circle, circle))
        return circle

    def _below(self, module: nn.Module) -> Iterator[nn.Module]:
        for child in module.children():
            if is_authored(type(child)) and author_init(type(child)) is not None and not self.is_leaf(type(child)):
                yield child
            if is_box(type(child)):
                yield from self._below(child)

    @cached_property
    def names(self) -> dict[type, str]:
        """Author's classes and what they are called in the generated file, the outermost first."""
        written = [type(m) for m in self.written.values()]
        found = [c for cls in written for c in cls.__mro__ if is_authored(c) and issubclass(c, nn.Module)]
        names: dict[type, str] = {}
        for cls in dict.fromkeys(found):
            names[cls] = free(cls.__name__, self.sources.of_class(cls)[0].name, set(names.values()))
        return names

    def tensor(self, path: str, name: str) -> torch.Tensor | None:
        """A parameter or buffer; of a buffer that running changes and that is not saved, what the constructor made."""
        module, birth = self.live[path], self.birth(path)
        kept = name in self.changing and name in unsaved_buffers(module)
        found: torch.Tensor | None = getattr(birth.module if kept and birth and birth.module else module, name)
        return found

    def birth(self, path: str) -> Birth | None:
        return self.births.get(path)

    def making(self, path: str | None, paths: Container[str]) -> Making | None:
        """How a module came to be in the first of ``paths`` that is around it; None where nothing is known."""
        owner = next((p for p in ancestors(path or "") if p in paths), None)
        birth, above = self.births.get(path or ""), self.births.get(owner) if owner is not None else None
        return Making(birth, above, birth.made_by(above.module)) if birth is not None and above is not None else None


def joined(path: str, name: str) -> str:
    """The path of what a module holds under a name."""
    return f"{path}.{name}" if path else name


def ancestors(path: str) -> Iterator[str]:
    """The paths above one: ``a.b.c`` gives ``a.b``, ``a`` and the root, an empty text."""
    while path:
        path = path.rpartition(".")[0]
        yield path


def is_box(cls: type) -> bool:
    """Containers, a plain ``nn.Module`` that only holds layers, and author's containers without a constructor."""
    return cls in (*BOXES, nn.Module) or (issubclass(cls, BOXES) and author_init(cls) is None)


def is_authored(cls: type) -> bool:
    """Whether a class is not torch's."""
    return not is_torch(cls)


def is_composite(cls: type) -> bool:
    """Whether the writer goes into modules of this class; torch's own composites are one call."""
    return is_box(cls) or (is_authored(cls) and (author_init(cls) is not None or torch_base(cls) is nn.Module))


def torch_base(cls: type) -> type[nn.Module]:
    """The first of torch's classes that the class derives from."""
    return next(c for c in cls.__mro__ if is_torch(c))  # a Module class at the latest


def author_init(cls: type) -> type | None:
    """The class whose ``__init__`` runs, if an author wrote it."""
    home = next((c for c in cls.__mro__ if "__init__" in vars(c)), None)
    return home if home is not None and not is_torch(home) and code_of(vars(home)["__init__"]) else None
