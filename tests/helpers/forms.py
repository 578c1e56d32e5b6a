"""From an author's text to a verified bundle, for tests of forms that networks come in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from secateur.pruners.base import BasicPruning
from secateur.pruners.costs import Budget
from secateur.pruners.scratch import import_file
from secateur.pruners.search import SearchSettings, search
from secateur.pruners.source import Entry
from secateur.pruners.verify import oracle

HEAD = "import torch\nimport torch.nn.functional as F\nfrom torch import nn\n\n\n"


def written(folder: Path, source: str) -> Any:
    """The author's module."""
    (folder / "author.py").write_text(HEAD + source)
    return import_file(folder / "author.py")


def pruned(
    folder: Path, source: str, skip: Sequence[str] = (), example: Any = None
) -> tuple[BasicPruning, dict[str, int], str]:
    """Half of every width gone and the bundle verified: the pruner, the widths, the written text.

    ``source`` defines ``Net``. ``example``: the input, if it isn't seven tokens of five features.
    """
    module = written(folder, source)
    model = module.Net()
    oracle.randomise(model, 0)
    example = torch.randn(2, 7, 5) if example is None else example
    pruner = BasicPruning(model, example, entry=Entry(module.Net, {}, "Net", "it"), skip=skip)
    settings = SearchSettings(strategy="uniform", budget=Budget("ratio", 0.5))
    bundle = pruner.publish(pruner.plan(search(model, pruner.graph, settings).kept), folder / "out")
    return pruner, {w.name: w.size for w in pruner.graph.widths}, (bundle.path / "model.py").read_text()
