"""Every bundled network at --ratio 0.5: what is found, how long it takes, what is written.

    python benchmarks/bundled.py            prints a Markdown table; one thread, random weights

Trace: label propagation, declared blocks compared, widths solved. Write: slicing and writing the source. Both are
the median of five runs in one process. The difference is the largest over all checks of the bundle's verification.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from secateur.models import registry
from secateur.pruners.base import BasicPruning
from secateur.pruners.costs import Budget
from secateur.pruners.search import SearchSettings, search
from secateur.pruners.source import Entry
from secateur.pruners.verify.process import many_verifications

RUNS = 5


def pruner_of(name: str) -> BasicPruning:
    factory = registry.load_factory(name)
    x = torch.randn(2, *registry.ARCHS[name].input_shape)
    return BasicPruning(registry.create(name), x, entry=Entry(factory, {}, factory.__name__, name))


def seconds(action: Callable[[], Any]) -> float:
    taken = []
    for _ in range(RUNS):
        start = time.perf_counter()
        action()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def row(name: str, folder: Path) -> str:
    pruner = pruner_of(name)
    settings = SearchSettings(strategy="uniform", budget=Budget("ratio", 0.5))
    plan = pruner.plan(search(pruner.model, pruner.graph, settings).kept)
    trace = seconds(lambda: pruner_of(name).graph)
    write = seconds(lambda: pruner.source(plan))
    bundle = pruner.publish(plan, folder / name)
    lines = len((bundle.path / "model.py").read_text().splitlines())
    s = bundle.summary
    params, macs = (f"{s[k]['before'] / 1e6:.2f} -> {s[k]['after'] / 1e6:.2f}" for k in ("params", "macs"))
    counts = f"{s['widths']} | {s['groups']}"
    return f"| {name} | {counts} | {trace:.2f} | {write:.2f} | {lines} | {params} | {macs} | {s['max_abs_diff']:.0e} |"


def main() -> None:
    torch.set_num_threads(1)
    print("| network | widths | groups | trace s | write s | lines | million parameters | million MACs | max diff |")
    print("|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder, many_verifications():
        for name in registry.ARCHS:
            print(row(name, Path(folder)), flush=True)


if __name__ == "__main__":
    main()
