"""All classification models of torchvision: trace, remove half of every width, write, verify without torchvision.

    python benchmarks/zoo.py                  writes benchmarks/zoo.md, a row a model, each in a process of its own
    python benchmarks/zoo.py resnet18 vit_b_16       prints the rows of these

Prunable: share of the parameters that lie in a tensor with at least one prunable axis. Trace and write are single
runs on one thread. The difference is the largest over all checks, in float64.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

TABLE = Path(__file__).with_name("zoo.md")
HEAD = (
    "| model | widths | groups | prunable | trace s | write s | lines | million parameters | max diff |\n"
    "|---|---|---|---|---|---|---|---|---|\n"
)


def row(name: str) -> str:
    """Prune one model; its row of the table."""
    import torch
    from torchvision import models

    from pruners.base import BasicPruning
    from pruners.search import Budget, SearchSettings, search
    from pruners.source import Entry

    torch.set_num_threads(1)
    factory = models.get_model_builder(name)
    quick = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    size = 299 if name == "inception_v3" else 224
    model, image = factory(weights=None, **quick), torch.randn(1, 3, size, size)
    entry = Entry(factory, {"weights": None, **quick}, name, f"torchvision.models.{name}()")
    pruner = BasicPruning(model, image, entry=entry)
    start = time.perf_counter()
    graph = pruner.graph
    traced = time.perf_counter() - start
    plan = pruner.plan(search(model, graph, SearchSettings("uniform", budget=Budget("ratio", 0.5))).kept)
    start = time.perf_counter()
    lines = len(pruner.source(plan).splitlines())
    written = time.perf_counter() - start
    used = {u.slot.parameter for w in graph.widths for u in w.uses}
    sizes = {n: p.numel() for n, p in model.named_parameters()}
    share = sum(n for k, n in sizes.items() if k in used) / sum(sizes.values())
    with tempfile.TemporaryDirectory() as folder:
        told = pruner.publish(plan, Path(folder) / name).summary
    groups = sum(w.size for w in graph.widths)
    params = f"{told['params']['before'] / 1e6:.2f} -> {told['params']['after'] / 1e6:.2f}"
    numbers = f"{len(graph.widths)} | {groups} | {share:.3f} | {traced:.2f} | {written:.2f} | {lines}"
    return f"| {name} | {numbers} | {params} | {told['max_abs_diff']:.0e} |"


def row_of(name: str) -> str:
    """The row, made in a process of its own; where that fails, its last line."""
    done = subprocess.run([sys.executable, __file__, "--one", name], capture_output=True, text=True)
    if done.returncode == 0:
        return done.stdout.strip().splitlines()[-1]
    reason = (done.stderr.strip().splitlines() or [f"ended with code {done.returncode}"])[-1]
    return f"| {name} | not verified: {reason[:200]} |"


def main(names: list[str]) -> None:
    if names[:1] == ["--one"]:
        warnings.simplefilter("ignore")
        print(row(names[1]))
        return
    from torchvision import models

    every = names or models.list_models(module=models)
    rows = []
    for name in every:
        rows.append(row_of(name))
        print(rows[-1], flush=True)
    if not names:
        text = [f"# torchvision's classification models\n\n{__doc__}\n{HEAD}", "\n".join(rows), "\n"]
        TABLE.write_text("".join(text), "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
