"""Dependencies found and half of every width removed, in memory: Secateur and Torch-Pruning in turns, in one process.

    pip install torch-pruning==1.6.1
    python benchmarks/against_torch_pruning.py [--runs N] [NETWORK ...]

Secateur: trace, uniform plan at ratio 0.5, sliced copy that was run once and whose stale numbers are found.
Torch-Pruning: graph built, MagnitudePruner at ratio 0.5, one step. One thread, a fresh network for every run, the
two tools in turns. Medians of processor time, which other programs on the machine disturb least.

--whole N: instead whole programs, in turns, N times: `secateur prune` with source, verification and report, and a
script that prunes with Torch-Pruning and pickles.
"""

from __future__ import annotations

import argparse
import gc
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn

NETWORKS = ("resnet50", "densenet201", "convnext_tiny")


def secateur(model: nn.Module, image: torch.Tensor) -> None:
    from secateur.pruners.costs import Budget
    from secateur.pruners.search import SearchSettings, search
    from secateur.pruners.slicing import slice_model
    from secateur.pruners.trace.trace import trace

    graph = trace(model, image)
    found = search(model, graph, SearchSettings("uniform", budget=Budget("ratio", 0.5), metric="l2"))
    slice_model(model, graph, found.kept, image)


def torch_pruning(model: nn.Module, image: torch.Tensor) -> None:
    import torch_pruning as tp

    importance: Any = tp.importance.MagnitudeImportance(p=2)
    last = [m for m in model.modules() if isinstance(m, nn.Linear) and m.out_features == 1000]
    tp.pruner.MagnitudePruner(model, image, importance=importance, pruning_ratio=0.5, ignored_layers=last).step()


def seconds(tool: Callable[[nn.Module, torch.Tensor], None], name: str) -> float:
    """One run on a network of its own, which the clock doesn't see being built."""
    from torchvision import models

    model, image = models.get_model(name, weights=None).eval(), torch.randn(1, 3, 224, 224)
    gc.collect()
    start = time.process_time()
    tool(model, image)
    return time.process_time() - start


def publishing(name: str, folder: str) -> list[str]:
    """``prune --ratio 0.5``: source, weights, report, verified in another fresh process."""
    app = str(Path(__file__).parents[1] / "app.py")
    command = ["prune", "--model", f"torchvision.models:{name}", "--ratio", "0.5", "--input-shape", "3,224,224", "-q"]
    return [app, *command, "-o", f"{folder}/pruned"]


def pickling(name: str, folder: str) -> list[str]:
    """The same by a script that ends in a pickle."""
    return [__file__, "--pickle", name, folder]


def whole(name: str, command: Callable[[str, str], list[str]]) -> float:
    """Processor seconds of processes from start to end."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as folder:
        one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run([sys.executable, *command(name, folder)], check=True, stdout=subprocess.DEVNULL, env=one_thread)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def pickled(name: str, folder: str) -> None:
    """What such a script does."""
    from torchvision import models

    model = models.get_model(name, weights=None).eval()
    torch_pruning(model, torch.randn(1, 3, 224, 224))
    torch.save(model, f"{folder}/pruned.pt")


def compare_whole(networks: Sequence[str], runs: int) -> None:
    print("\n| network | secateur prune s | Torch-Pruning script s | ratio |\n|---|---|---|---|")
    for name in networks:
        taken = [[whole(name, tool) for tool in (publishing, pickling)] for _ in range(runs)]
        first, second = (median(times) for times in zip(*taken, strict=True))
        print(f"| {name} | {first:.1f} | {second:.1f} | {first / second:.2f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("networks", nargs="*", default=NETWORKS)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--whole", type=int, metavar="N")
    parser.add_argument("--pickle", nargs=2, help=argparse.SUPPRESS)  # the script of --whole
    asked = parser.parse_args()
    try:
        import torch_pruning as _  # noqa: F401
    except ModuleNotFoundError:
        sys.exit("Torch-Pruning is missing: pip install torch-pruning==1.6.1")
    warnings.simplefilter("ignore")
    if asked.pickle:
        pickled(*asked.pickle)
        return
    if asked.whole:
        compare_whole(asked.networks if asked.networks is not NETWORKS else NETWORKS[:1], asked.whole)
        return
    torch.set_num_threads(1)
    print("| network | Secateur s | Torch-Pruning s | ratio |\n|---|---|---|---|")
    for name in asked.networks:
        times: dict[str, list[float]] = {"ours": [], "theirs": []}
        for run in range(asked.runs + 1):
            ours, theirs = seconds(secateur, name), seconds(torch_pruning, name)
            if run:  # the first run imports and warms up
                times["ours"].append(ours)
                times["theirs"].append(theirs)
        first, second = median(times["ours"]), median(times["theirs"])
        print(f"| {name} | {first:.2f} | {second:.2f} | {first / second:.2f} |", flush=True)


if __name__ == "__main__":
    main()
