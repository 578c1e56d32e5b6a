"""``pruners``, as the documents call it: the package ``secateur.pruners`` under its short name.

``from pruners.decorators import basic_block`` stands in model files that people have decorated. It means our package
only where nobody else has one of that name, and never makes a second copy of it.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

SHORT = "pruners"
WHOLE = f"{__package__}.{SHORT}"


class _Alias(MetaPathFinder, Loader):
    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        ours = name == SHORT or sys.modules.get(SHORT) is sys.modules.get(WHOLE)
        return ModuleSpec(name, self) if ours and name.startswith(self._prefix) else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(f"{__package__}.{spec.name}")
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__spec__ = module.__spec__.loader_state  # the import system has put the alias's in its place


def install() -> None:
    """Let ``pruners`` be found after everybody else's packages, and what is in it before the path is searched anew."""
    sys.meta_path.insert(0, _Alias(f"{SHORT}."))
    sys.meta_path.append(_Alias(SHORT))
