"""What tells one run from another: only one that would come to the same result may go on with what another left."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import sys
from dataclasses import fields
from pathlib import Path, PurePath
from typing import Any

from torch import Tensor

from ...pruners.plan import sha256_of_file, sha256_of_state
from ...pruners.run import is_library_file, tree_leaves
from ...training.data import Data, contents
from ..cli import WITHOUT_EFFECT, PruneOptions

_VERSIONS = ("torch", "torchvision", "numpy", "scipy", "scikit-learn")
_OURS = (__name__.partition(".")[0], "__main__", "__mp_main__")
_NETWORKS = f"{_OURS[0]}.models."


def fingerprint(options: PruneOptions, images: Data | None, inputs: Any, **resolved: Any) -> dict[str, Any]:
    """Every option that decides something, and what else does, as JSON values. ``resolved``: what options that leave a
    choice came to."""
    given = {f.name: _plain(getattr(options, f.name)) for f in fields(options) if f.name not in WITHOUT_EFFECT}
    return {
        **given,
        **resolved,
        "images": None if images is None else contents(images),
        "inputs": _inputs(inputs),
        "source": own_source(),
        "versions": {name: importlib.metadata.version(name) for name in _VERSIONS},
    }


def own_source() -> dict[str, str]:
    """The hash of every Python file that was imported, but for Python's own, installed packages and this one (of which
    bundled networks count: they may have been edited)."""
    found = {}
    for name, module in sys.modules.items():
        text = str(getattr(module, "__file__", None) or "")
        ours = name.partition(".")[0] in _OURS and not name.startswith(_NETWORKS)
        if ours or is_library_file(text):  # nearly all of thousands
            continue
        file = Path(text)
        installed = {"site-packages", "dist-packages"} & {*file.parts}
        draft = any(part.startswith("secateur-") for part in file.parts)  # what this process wrote and imported again
        if file.suffix == ".py" and not installed and not draft and file.is_file():
            found[os.path.relpath(file)] = sha256_of_file(file)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, PurePath):
        return value.as_posix()
    return [_plain(v) for v in value] if isinstance(value, tuple) else value


def _inputs(inputs: Any) -> str:
    leaves = tree_leaves(inputs)
    state = {str(i): leaf for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor)}
    others = [str(leaf) for leaf in leaves if isinstance(leaf, (bool, int, float, str))]
    return hashlib.sha256(f"{sha256_of_state(state)} {others}".encode()).hexdigest()
