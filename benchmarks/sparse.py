"""Sparse training against pruning first and retraining after, at equal epochs.

    OMP_NUM_THREADS=1 python benchmarks/sparse.py [--arch resnet20] [--epochs 20] [--seeds 3] [--macs 0.5 0.3]

Every row has seen ``--epochs`` epochs of scikit-learn's digits before and half as many after pruning: the usual way
trains as usual and retrains; ``bn`` and ``group`` train with ``--sparsify`` at its default strength, and retrain as the
usual way does. Weights are sliced, not fitted. Test accuracies in percent, mean and standard deviation over the seeds.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence

import torch
from torch import nn

from secateur.models.registry import arguments_for, create
from secateur.pruners.base import BasicPruning
from secateur.pruners.costs import Budget
from secateur.pruners.metrics import USUAL_SPARSITY, Sparsity
from secateur.pruners.search import SearchSettings, search
from secateur.training.data import Data, load_data, number_of_steps
from secateur.training.fit import evaluate, fit, regime_for

WAYS = {
    "usual, l1 uniform": (None, "l1", "uniform"),
    "usual, l1 sensitivity": (None, "l1", "sensitivity"),
    "usual, bn_scale global": (None, "bn_scale", "global"),
    "bn, bn_scale global": ("bn", "bn_scale", "global"),
    "group, l2 sensitivity": ("group", "l2", "sensitivity"),
}


def trained(kind: str | None, arch: str, data: Data, epochs: int, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    model = create(arch, **arguments_for(arch, data.input_shape, data.num_classes))
    regime = regime_for(arch, data.name, "train").lasting(epochs)
    penalty = None
    if kind is not None:
        steps = epochs * number_of_steps(len(data.train), regime.batch_size)
        graph = BasicPruning(model, torch.zeros(1, *data.input_shape)).graph
        penalty = Sparsity.of(model, graph, kind, USUAL_SPARSITY[kind] / steps)
    fit(model, data, regime, epochs, seed=seed, penalty=penalty)
    return model


def pruned(model: nn.Module, data: Data, metric: str, strategy: str, macs: float) -> nn.Module:
    pruner = BasicPruning(model, torch.zeros(1, *data.input_shape))
    settings = SearchSettings(strategy=strategy, metric=metric, budget=Budget("macs", macs))
    batches = [next(iter(data.train.batches(256)))]
    found = search(
        pruner.model, pruner.graph, settings, realize=lambda m, kept: pruner.realize(kept, m), batches=batches
    )
    return pruner.realize(found.kept)


def shown(values: Sequence[float]) -> str:
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{100 * statistics.mean(values):.1f} ± {100 * spread:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--arch", default="resnet20")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--macs", type=float, nargs="+", default=[0.5, 0.3])
    asked = parser.parse_args()
    data = load_data("digits")
    retraining = regime_for(asked.arch, data.name, "retrain").lasting(asked.epochs // 2)
    models = {
        (kind, seed): trained(kind, asked.arch, data, asked.epochs, seed)
        for kind in (None, "bn", "group") for seed in range(asked.seeds)
    }  # fmt: skip
    print("| trained, pruned by | MACs | whole | pruned | retrained |\n|---|---|---|---|---|")
    for macs in asked.macs:
        for name, (kind, metric, strategy) in WAYS.items():
            whole, cut, after = [], [], []
            for seed in range(asked.seeds):
                model = models[kind, seed]
                network = pruned(model, data, metric, strategy, macs)
                whole.append(evaluate(model, data.test).top1)
                cut.append(evaluate(network, data.test).top1)
                fit(network, data, retraining, asked.epochs // 2, seed=seed)
                after.append(evaluate(network, data.test).top1)
            print(f"| {name} | {macs:g} | {shown(whole)} | {shown(cut)} | {shown(after)} |", flush=True)


if __name__ == "__main__":
    main()
