"""A layer-wise search in whole passes, from where candidates begin to differ, and with hopeless ones given up early.

    OMP_NUM_THREADS=1 python benchmarks/search.py [--images N] [--network NAME ...]

Random weights and images of CIFAR's size; a label is what the network itself says of an image. No retraining. Seconds
are the process's own. The second search must end exactly as the first; of the third it is told whether it does.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.models.cifar.resnet import resnet20
from secateur.models.cifar.vgg import vgg16
from secateur.pruners.base import BasicPruning
from secateur.pruners.search import Evaluator, SearchResult, SearchSettings, search
from secateur.pruners.search.prefix_cache import PrefixCache
from secateur.pruners.verify import oracle

BATCH = 64


class Chain(nn.Module):
    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def chain() -> nn.Module:
    """Twenty layers in a row: five convolutions at each of four resolutions, with batch norm; then a linear layer."""
    layers: list[nn.Module] = []
    incoming = 3
    for stage, channels in enumerate((16, 32, 64, 96)):
        for place in range(5 if stage < 3 else 4):
            stride = 2 if stage and not place else 1
            layers += [nn.Conv2d(incoming, channels, 3, stride, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()]
            incoming = channels
    return Chain([*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(incoming, 10)])


NETWORKS: dict[str, Callable[[], nn.Module]] = {"chain": chain, "resnet20": resnet20, "vgg16": vgg16}


class Searched:
    def __init__(self, make: Callable[[], nn.Module], images: int) -> None:
        torch.manual_seed(0)
        self.model = make().eval()
        oracle.randomise(self.model, 0)
        self.pruner = BasicPruning(self.model, torch.randn(2, 3, 32, 32))
        self.batches = torch.randn(images, 3, 32, 32).split(BATCH)
        with torch.no_grad():
            self.scale = 4.0 / torch.cat([self.model(x) for x in self.batches]).std().item()
            self.labels = [self.model(x).argmax(1) for x in self.batches]
        self.images = images

    def evaluate(self, model: nn.Module, stop: Callable[[Tensor, int], bool] | None = None) -> tuple[float, float]:
        seen: list[Tensor] = []
        right = 0
        with torch.no_grad():
            for images, labels in zip(self.batches, self.labels, strict=True):
                logits = self.scale * model.eval()(images)
                seen.append(F.cross_entropy(logits, labels, reduction="none"))
                right += int((logits.argmax(1) == labels).sum())
                if stop is not None and stop(torch.cat(seen), self.images):
                    break
        losses = torch.cat(seen)
        return losses.mean().item(), right / len(losses)

    def run(self, limit: int, stop_early: bool) -> tuple[float, SearchResult, PrefixCache]:
        cache = PrefixCache(limit)
        settings = SearchSettings(stop_early=stop_early)
        started = time.process_time()
        result = search(
            self.model, self.pruner.graph, settings,
            Evaluator(
                self.model, evaluate=self.evaluate, realize=lambda model, kept: self.pruner.realize(kept, model),
                cache=cache,
            ),
        )  # fmt: skip
        return time.process_time() - started, result, cache


def measured(result: SearchResult) -> list[Any]:
    return [(e.width, e.ratio, e.kept, e.loss, e.accuracy) for e in result.evaluations]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--network", nargs="*", default=list(NETWORKS), choices=list(NETWORKS))
    given = parser.parse_args()
    print("| network | widths | evaluations | whole s | cached s | ratio | and stopped early s | ratio | same plan |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name in given.network:
        bench = Searched(NETWORKS[name], given.images)
        cached, with_cache, cache = bench.run(2 << 30, False)
        whole, without, _ = bench.run(0, False)
        early, stopped, _ = bench.run(2 << 30, True)
        assert with_cache.kept == without.kept and measured(with_cache) == measured(without)
        print(
            f"| {name} | {len(bench.pruner.graph.widths)} | {cache.speed.evaluations} | {whole:.1f} | {cached:.1f} "
            f"| {whole / cached:.2f} | {early:.1f} | {whole / early:.2f} "
            f"| {'yes' if stopped.kept == without.kept else 'no'} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
