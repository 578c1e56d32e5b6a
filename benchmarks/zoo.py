"""All classification models of torchvision, and three for segmentation: trace, remove half of every width, write,
verify without torchvision.

    python benchmarks/zoo.py                  writes benchmarks/zoo.md, a row a model, each in a process of its own
    python benchmarks/zoo.py --only-missing   keeps the rows that are there and goes on where an earlier run stopped
    python benchmarks/zoo.py resnet18 vit_b_16       prints the rows of these

Prunable: share of the parameters that lie in a tensor with at least one prunable axis. Trace and write are single
runs on one thread, in processor time. The difference is the largest over all checks: in float64, for more than 200
million parameters in float32. Trains: a forward and a backward pass of the written network in training mode, auxiliary
heads included. Memory: the largest resident size of the process that prunes.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

TABLE = Path(__file__).with_name("zoo.md")
HEAD = (
    "| model | widths | groups | prunable | trace s | write s | lines | million parameters | max diff | precision "
    "| trains | GB |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n"
)
SEGMENTATION = {
    "fcn_resnet50": {},
    "fcn_resnet50+aux": {"aux_loss": True},
    "deeplabv3_resnet50": {},
    "deeplabv3_resnet50+aux": {"aux_loss": True},
    "lraspp_mobilenet_v3_large": {},
}


def network(name: str) -> tuple[Callable[..., Any], dict[str, Any], int]:
    """The factory, its arguments and the size of the image."""
    from torchvision import models

    if name in SEGMENTATION:
        factory = models.get_model_builder(name.removesuffix("+aux"))
        return factory, {"weights": None, "weights_backbone": None, **SEGMENTATION[name]}, 64
    quick = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    return models.get_model_builder(name), {"weights": None, **quick}, 299 if name == "inception_v3" else 224


def row(name: str) -> str:
    """Prune one model; its row of the table."""
    import resource

    import torch

    from secateur.pruners.base import BasicPruning
    from secateur.pruners.costs import Budget
    from secateur.pruners.search import SearchSettings, search
    from secateur.pruners.source import Entry

    torch.set_num_threads(1)
    factory, arguments, size = network(name)
    model, image = factory(**arguments), torch.randn(1, 3, size, size)
    entry = Entry(factory, arguments, factory.__name__, f"torchvision.models.{factory.__name__}()")
    pruner = BasicPruning(model, image, entry=entry)
    start = time.process_time()
    graph = pruner.graph
    traced = time.process_time() - start
    plan = pruner.plan(search(model, graph, SearchSettings("uniform", budget=Budget("ratio", 0.5))).kept)
    start = time.process_time()
    lines = len(pruner.source(plan).splitlines())
    written = time.process_time() - start
    used = {u.slot.parameter for w in graph.widths for u in w.uses}
    sizes = {n: p.numel() for n, p in model.named_parameters()}
    share = sum(n for k, n in sizes.items() if k in used) / sum(sizes.values())
    with tempfile.TemporaryDirectory() as folder:
        told = pruner.publish(plan, Path(folder) / "bundle").summary
    groups = sum(w.size for w in graph.widths)
    params = f"{told['params']['before'] / 1e6:.2f} -> {told['params']['after'] / 1e6:.2f}"
    numbers = f"{len(graph.widths)} | {groups} | {share:.3f} | {traced:.2f} | {written:.2f} | {lines}"
    checks = f"{told['max_abs_diff']:.0e} | {told['precision']} | {'yes' if told['trained'] else 'no'}"
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return f"| {name} | {numbers} | {params} | {checks} | {memory:.1f} |"


def row_of(name: str) -> str:
    """The row, made in a process of its own; where that fails, its last line."""
    done = subprocess.run([sys.executable, __file__, "--one", name], capture_output=True, text=True)
    if done.returncode == 0:
        return done.stdout.strip().splitlines()[-1]
    reason = (done.stderr.strip().splitlines() or [f"ended with code {done.returncode}"])[-1]
    return f"| {name} | not verified: {reason[:200]} |"


def everything() -> list[str]:
    """All names, small networks first."""
    from torchvision import models

    names = models.list_models(module=models)
    sizes = {n: models.get_model_weights(n).DEFAULT.meta["num_params"] for n in names}  # type: ignore[attr-defined]
    return [*SEGMENTATION, *sorted(names, key=lambda n: sizes[n])]


def verified() -> dict[str, str]:
    """The rows of an earlier run that need not be made again."""
    lines = TABLE.read_text("utf-8").splitlines() if TABLE.is_file() else []
    rows = {line.split("|")[1].strip(): line for line in lines if line.startswith("| ") and "not verified" not in line}
    return {name: line for name, line in rows.items() if line.count("|") == HEAD.splitlines()[0].count("|")}


def write(names: list[str], rows: dict[str, str]) -> None:
    told = "\n".join(rows[n] for n in sorted(names) if n in rows)
    count = sum("not verified" not in rows[n] for n in names if n in rows)
    title = f"# torchvision's models\n\n{count} of {len(names)} verified.\n\n{__doc__}\n"
    TABLE.write_text(f"{title}{HEAD}{told}\n", "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*")
    parser.add_argument("--only-missing", action="store_true")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        warnings.simplefilter("ignore")
        print(row(asked.names[0]))
        return
    names = asked.names or everything()
    rows = verified() if asked.only_missing else {}
    for number, name in enumerate(names, 1):
        if name in rows:
            continue
        start = time.perf_counter()
        rows[name] = row_of(name)
        progress = f"{number}/{len(names)}, {time.perf_counter() - start:.0f} s"
        print(rows[name] if asked.names else f"{progress}: {rows[name]}", flush=True)
        if not asked.names:
            write(names, rows)


if __name__ == "__main__":
    main()
