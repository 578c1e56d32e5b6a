"""How well ``--latency`` predicts: targets asked for, fractions predicted, fractions measured.

    OMP_NUM_THREADS=1 python benchmarks/latency.py [--table FILE] [NETWORK ...]

Networks are those of ``models`` at 32x32, or torchvision's at 224x224 as ``torchvision:resnet18``; random weights,
``--search uniform`` and ``global``. All versions of a network are timed in turns. A new table is measured unless one is
named. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import importlib
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from secateur.models.registry import create
from secateur.pruners.base import BasicPruning
from secateur.pruners.costs import Allowance, Budget, Limits
from secateur.pruners.latency import LatencyModel, Measuring, Run, Table, in_turns, machine
from secateur.pruners.search import SearchSettings, search

NETWORKS = ("resnet20", "vgg11", "mobilenetv2", "torchvision:resnet18")
TARGETS = (0.7, 0.5)
STRATEGIES = ("uniform", "global")
ROUNDS = 101
CPU = torch.device("cpu")


def built(name: str) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    module, _, factory = name.rpartition(":")
    if module:
        return getattr(importlib.import_module(f"{module}.models"), factory)().eval(), torch.rand(1, 3, 224, 224)
    return create(name).eval(), torch.rand(1, 3, 32, 32)


def plans(pruner: BasicPruning, timed: LatencyModel) -> list[tuple[str, float, dict[str, tuple[int, ...]]]]:
    found = []
    for strategy in STRATEGIES:
        for target in TARGETS:
            settings = SearchSettings(strategy, budget=Budget("latency", target))
            kept = search(pruner.model, pruner.graph, settings, latency=timed).kept
            found.append((strategy, target, dict(kept)))
    return found


def rows(name: str, table: Path) -> list[Sequence[str]]:
    model, image = built(name)
    pruner = BasicPruning(model, image)
    allowance = Allowance(pruner.graph, pruner.costs, Limits(), None)
    started = time.perf_counter()
    measuring = Measuring(Table(machine(CPU), table))
    timed = measuring.model(model, pruner.graph, image, allowance, lambda m, kept: pruner.realize(kept, m))
    seconds = time.perf_counter() - started
    chosen = plans(pruner, timed)
    versions = [model, *(pruner.realize(kept) for _, _, kept in chosen)]
    taken = in_turns([Run("", version.eval(), (image,)) for version in versions], ROUNDS, 60)
    found = []
    for (strategy, target, kept), after in zip(chosen, taken[1:], strict=True):
        predicted = timed.fraction({n: len(groups) for n, groups in kept.items()})
        measured = after / taken[0]
        macs = pruner.predict(kept).macs / pruner.predict({}).macs
        error = f"{100 * (predicted / measured - 1):+.0f} %"
        found.append((name, f"{seconds:.0f}", f"{1000 * taken[0]:.1f}", strategy, f"{target}", f"{predicted:.2f}",
                      f"{measured:.2f}", error, f"{macs:.2f}"))  # fmt: skip
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", default=NETWORKS)
    parser.add_argument("--table", type=Path)
    given = parser.parse_args()
    columns = ("network", "measuring s", "whole ms", "search", "target", "predicted", "measured", "error", "MACs")
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    with tempfile.TemporaryDirectory() as folder:
        for name in given.networks:
            for row in rows(name, given.table or Path(folder) / "latency.json"):
                print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
