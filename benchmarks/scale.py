"""How time and memory grow with a network: residual networks of 10, 100 and 1000 blocks, stage by stage.

    python benchmarks/scale.py [--blocks N ...]

Every size runs in a process of its own, on one thread. Seconds are processor time of a stage alone (publish: with the
fresh process that verifies). Memory: the largest resident size the process had by the end of the stage, less what it
had before the network was traced.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

NETWORK = '''"""A residual network with as many blocks as one likes."""

from torch import nn


class Block(nn.Module):
    def __init__(self, width, inner):
        super().__init__()
        self.conv1 = nn.Conv2d(width, inner, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(inner, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        return self.relu(x + self.bn2(self.conv2(out)))


class Net(nn.Module):
    def __init__(self, blocks, width=16, inner=8, num_classes=10):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = nn.Sequential(*[Block(width, inner) for _ in range(blocks)])
        self.fc = nn.Linear(width, num_classes)

    def forward(self, x):
        return self.fc(self.blocks(self.stem(x)).mean((2, 3)))


def net(blocks):
    return Net(blocks)
'''
STAGES = ("trace", "plan", "slice", "write", "publish")


def peak() -> float:
    """The largest resident size so far, in MB."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(blocks: int) -> dict[str, list[float]]:
    """Seconds and megabytes of every stage."""
    import torch

    from secateur.pruners.base import BasicPruning
    from secateur.pruners.costs import Budget
    from secateur.pruners.search import SearchSettings, search
    from secateur.pruners.source import Entry

    torch.set_num_threads(1)
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "network.py"
        file.write_text(NETWORK)
        spec = importlib.util.spec_from_file_location("network", file)
        assert spec is not None and spec.loader is not None
        module = sys.modules["network"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        model, image = module.net(blocks).eval(), torch.randn(1, 3, 8, 8)
        with torch.no_grad():
            model(image)
        pruner = BasicPruning(model, image, entry=Entry(module.net, {"blocks": blocks}, "net", "network.py:net"))
        before = peak()

        def stage(name: str, work: Callable[[], Any]) -> Any:
            start = sum(os.times()[:4])
            done = work()
            found[name] = [sum(os.times()[:4]) - start, peak() - before]
            return done

        stage("trace", lambda: pruner.graph)
        budget = SearchSettings("uniform", budget=Budget("ratio", 0.5))
        plan = stage("plan", lambda: pruner.plan(search(model, pruner.graph, budget).kept))
        stage("slice", lambda: pruner.slice(plan.kept))
        stage("write", lambda: pruner.source(plan))
        stage("publish", lambda: pruner.publish(plan, Path(folder) / "bundle"))
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--blocks", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(measure(asked.one)))
        return
    print(f"| blocks | {' | '.join(f'{s} s (MB)' for s in STAGES)} | all s |\n|{'---|' * (len(STAGES) + 2)}")
    for blocks in asked.blocks:
        begun = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-W", "ignore", __file__, "--one", str(blocks)], stdout=subprocess.PIPE, text=True
        )
        if done.returncode:
            sys.exit(f"{blocks} blocks: failed after {time.perf_counter() - begun:.0f} s")
        found = json.loads(done.stdout.splitlines()[-1])
        cells = " | ".join(f"{found[s][0]:.1f} ({found[s][1]:.0f})" for s in STAGES)
        print(f"| {blocks} | {cells} | {sum(found[s][0] for s in STAGES):.1f} |", flush=True)


if __name__ == "__main__":
    main()
