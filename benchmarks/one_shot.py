"""Smaller networks without training: Secateur and Torch-Pruning on the same network, images and budgets.

    pip install torch-pruning==1.6.1
    python benchmarks/one_shot.py --arch resnet20 --data folder:DIR --weights FILE [--targets 0.5] [--epochs 1]

Both see the same calibration images of the training part; Torch-Pruning gets their labels too where an importance wants
them, and the best of all its settings is chosen with the test images, which no user could. "helped": residual channels
were left alone by hand; some networks run only so. ``bn``: batch norms re-estimated on the calibration images.
``--epochs`` retrains what is best of each for so many epochs.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn
from torch_pruning_side import Calibration, macs, prune, settings

from secateur.models.registry import arguments_for, create, find
from secateur.pruners.base import BasicPruning
from secateur.pruners.costs import Budget
from secateur.pruners.graph import Kept
from secateur.pruners.search import Evaluator, SearchSettings, search
from secateur.pruners.transfer import Transfer, TransferImages, TransferJob, transfer
from secateur.training.data import Data, calibration_images, load_data
from secateur.training.fit import evaluate, fit, load_checkpoint, load_weights, regime_for

GRADIENT_IMAGES = PROBED = 256
OURS = (("uniform", "l1"), ("uniform", "reconstruction"), ("sensitivity", "l1"), ("sensitivity", "reconstruction"))


@dataclass(frozen=True)
class Row:
    target: float
    tool: str
    setting: str
    accuracy: float | None
    macs: float
    params: float
    seconds: float
    note: str = ""

    def __str__(self) -> str:
        accuracy = "-" if self.accuracy is None else f"{100 * self.accuracy:.2f}"
        cells = [
            f"{self.target:g}", self.tool, self.setting, accuracy, f"{100 * self.macs:.1f}", f"{100 * self.params:.1f}",
            f"{self.seconds:.0f}", self.note,
        ]  # fmt: skip
        return f"| {' | '.join(cells)} |"


class Bench:
    def __init__(self, model: nn.Module, arch: str, data: Data, images: int, test_images: int) -> None:
        self.model, self.arch, self.data = model.eval(), arch, data
        self.images = calibration_images(data, images)
        labelled = next(iter(data.train.sample(GRADIENT_IMAGES).batches(GRADIENT_IMAGES)))
        self.calibration = Calibration(*labelled)
        self.test = data.test if not test_images else data.test.sample(test_images)
        self.pruner = BasicPruning(self.model, self.images[:1])
        self.whole = macs(self.model, self.images[:1]), sum(p.numel() for p in self.model.parameters())
        self.best: dict[tuple[float, str], tuple[float, nn.Module]] = {}

    def row(self, target: float, tool: str, setting: str, network: nn.Module, seconds: float, note: str = "") -> Row:
        accuracy = evaluate(network, self.test).top1
        if accuracy > self.best.get((target, tool), (-1.0, network))[0]:
            self.best[target, tool] = accuracy, copy.deepcopy(network)
        left = macs(network, self.images[:1]) / self.whole[0]
        params = sum(p.numel() for p in network.parameters()) / self.whole[1]
        return Row(target, tool, setting, accuracy, left, params, seconds, note)

    def ours(self, target: float, strategy: str, metric: str, transfers: Sequence[str]) -> Iterator[Row]:
        """One search, which fits candidates by least squares; seconds are those of the search and of the transfer."""
        began = time.perf_counter()
        probed = [(b, torch.zeros(len(b), dtype=torch.long)) for b in self.images[:PROBED].split(64)]
        graph, batches = self.pruner.graph, self.images.split(128)

        def realize(network: nn.Module, kept: Kept) -> nn.Module:
            return self.pruner.realize(kept, network)

        images = TransferImages(lambda: batches, lambda: self.images[PROBED : 2 * PROBED].split(128))
        job = TransferJob("lstsq", self.model, graph, realize, images)
        found = search(
            self.model, graph, SearchSettings(strategy, metric=metric, budget=Budget("macs", target)),
            Evaluator(self.model, realize=realize, batches=probed, finish=job.finish, probe=job.probe),
        )  # fmt: skip
        searched = time.perf_counter() - began
        for name in transfers:
            began = time.perf_counter()
            network = realize(self.model, found.kept)
            carried = replace(job, name=name).carry_over(network, found.kept, self.model.state_dict())
            network.load_state_dict(carried.state)
            seconds = searched + time.perf_counter() - began
            yield self.row(target, "Secateur", f"{strategy}, {metric}, {name}", network, seconds)

    def theirs(self, target: float, importance: str, everywhere: bool) -> Iterator[Row]:
        setting = f"{importance}, {'global' if everywhere else 'uniform'}"
        yield from self._theirs(target, importance, everywhere, setting, [])
        residual = self._residual()
        if residual:
            yield from self._theirs(target, importance, everywhere, f"{setting}, helped", residual)

    def _theirs(
        self, target: float, importance: str, everywhere: bool, setting: str, ignored: list[str]
    ) -> Iterator[Row]:
        began = time.perf_counter()
        found = prune(self.model, self.calibration, target, importance, everywhere, ignored)
        if found.network is None:
            yield Row(target, "Torch-Pruning", setting, None, 0, 0, time.perf_counter() - began, found.problem)
            return
        yield self.row(target, "Torch-Pruning", setting, found.network, time.perf_counter() - began)
        request = Transfer(
            pruned=found.network, original=self.model, graph=self.pruner.graph, kept={}, batches=self.images.split(128)
        )
        found.network.load_state_dict(transfer("bn", request).state)
        yield self.row(target, "Torch-Pruning", f"{setting}, bn", found.network, time.perf_counter() - began)

    def _residual(self) -> list[str]:
        """The layers that share their output channels with another one."""
        return [p for w in self.pruner.graph.widths if len(w.producers) > 1 for p in w.producers]

    def retrained(self, target: float, tool: str, epochs: int) -> Row:
        began = time.perf_counter()
        accuracy, network = self.best[target, tool]
        fit(network, self.data, regime_for(self.arch, self.data.name, "retrain"), epochs)
        seconds = time.perf_counter() - began
        note = f"from {100 * accuracy:.2f}"
        return self.row(target, tool, f"its best, {epochs} epochs of retraining", network.eval(), seconds, note)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="resnet20")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--targets", default="0.3,0.5,0.7")
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--test-images", type=int, default=0, help="0: all")
    parser.add_argument("--epochs", type=int, default=0)
    parser.add_argument("--transfers", default="lstsq", help="of ours, such as lstsq,heal")
    parser.add_argument("--only", choices=("ours", "theirs"))
    parser.add_argument("--without", default="", help="metrics and importances to leave out: reconstruction,hessian")
    asked = parser.parse_args()
    without = asked.without.split(",")
    if importlib.util.find_spec("torch_pruning") is None:
        sys.exit("Torch-Pruning is missing: pip install torch-pruning==1.6.1")
    data = load_data(asked.data)
    _, channels, height, width = calibration_images(data, 1).shape
    name = find(asked.arch).name
    model = create(name, **arguments_for(name, (channels, height, width), data.num_classes))
    weights = asked.weights or Path(f"pretrained/model_{asked.data}_{name}_Real.pt")
    load_weights(model, load_checkpoint(weights).model, weights)
    bench = Bench(model, name, data, asked.images, asked.test_images)
    whole = evaluate(model, bench.test).top1
    print(f"{asked.arch} on {asked.data.partition(':')[0]}: {100 * whole:.2f} % with all channels\n")
    print("| MACs asked for | tool | setting | accuracy % | MACs % | parameters % | seconds | |")
    print("|---|---|---|---|---|---|---|---|")
    for target in map(float, asked.targets.split(",")):
        for strategy, metric in OURS if asked.only != "theirs" else ():
            if metric not in without:
                for row in bench.ours(target, strategy, metric, asked.transfers.split(",")):
                    print(row, flush=True)
        for importance, everywhere in settings() if asked.only != "ours" else ():
            if importance not in without:
                for row in bench.theirs(target, importance, everywhere):
                    print(row, flush=True)
        for tool in ("Secateur", "Torch-Pruning") if asked.epochs else ():
            if (target, tool) in bench.best:
                print(bench.retrained(target, tool, asked.epochs), flush=True)


if __name__ == "__main__":
    main()
