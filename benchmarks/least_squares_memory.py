"""Memory and time that least squares takes for a ResNet of some depth with images of CIFAR's size.

    OMP_NUM_THREADS=1 python benchmarks/least_squares_memory.py --depth 56 --images 512

Random weights and images; the second half of every width is gone. Told is what the process has at most beyond what it
had before.
"""

from __future__ import annotations

import argparse
import resource
import time

import torch

from secateur.models.cifar.resnet import ResNet
from secateur.pruners.base import BasicPruning
from secateur.pruners.least_squares import reconstruct


def megabytes() -> float:
    """The most the process has had so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depth", type=int, default=56)
    parser.add_argument("--images", type=int, default=512)
    options = parser.parse_args()
    torch.manual_seed(0)
    model, images = ResNet(depth=options.depth).eval(), torch.randn(options.images, 3, 32, 32)
    pruner = BasicPruning(model, images[:1])
    kept = {w.name: tuple(range(w.size // 2)) for w in pruner.graph.widths}
    pruned = pruner.realize(kept)
    before, started = megabytes(), time.process_time()
    found = reconstruct(model, pruned, pruner.graph, kept, images.split(128))
    seconds = time.process_time() - started
    print(f"{len(found.fitted)} layers, {megabytes() - before:.0f} MB more, {seconds:.0f} s of the processor")


if __name__ == "__main__":
    main()
