"""What images cost: read from files, held in memory and moved batch by batch, or held on the device.

    OMP_NUM_THREADS=1 python benchmarks/data_on_device.py --data folder:DIR [--device cuda] [--batches N]

An epoch's first batches, shuffled and augmented, on the device in the end; times are the least of three runs in
turns. A step of a ResNet-20 beside them says what share of a training that is. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from itertools import islice

import torch
import torch.nn.functional as F

from secateur.models.registry import create
from secateur.training.data import folders, load_data, on_device, with_workers
from secateur.training.data.splits import Batch, Split

SIZE = 128


def batches(split: Split, count: int, device: torch.device) -> Iterator[Batch]:
    for images, labels in islice(split.batches(SIZE, seed=0), count):
        yield images.to(device), labels.to(device)


def seconds(run: Callable[[], object], device: torch.device) -> float:
    started = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batches", type=int, default=100)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    device, count = torch.device(given.device), given.batches
    data = load_data(given.data)
    held = folders.HELD
    folders.HELD = 0  # so that the reader takes images from their files
    files = with_workers(load_data(given.data), given.workers)
    folders.HELD = held
    splits = {
        f"files, {given.workers} processes": files.train,
        "memory (the default)": data.train,
        "device (--data-on-device)": on_device(data, device).train,
    }
    for split in (data.train, splits["device (--data-on-device)"]):
        next(batches(split, 1, device))  # images are read or moved here, once
    taken = dict.fromkeys(splits, float("inf"))
    for _ in range(3):
        for name, split in splits.items():
            few = count if "files" not in name else max(count // 10, 1)
            found = seconds(lambda split=split, few=few: list(batches(split, few, device)), device) / few
            taken[name] = min(taken[name], found)
    step = step_of(data.train, device)
    print(f"| images from | ms a batch of {SIZE} | against memory | share of a ResNet-20 step ({1e3 * step:.0f} ms) |")
    print("|---|---|---|---|")
    for name, found in taken.items():
        ratio = taken["memory (the default)"] / found
        print(f"| {name} | {1e3 * found:.2f} | {ratio:.2f}x | {100 * found / (found + step):.1f} % |")


def step_of(split: Split, device: torch.device) -> float:
    model = create("resnet20").to(device)
    images, labels = next(batches(split, 1, device))
    return min(seconds(lambda: F.cross_entropy(model(images), labels).backward(), device) for _ in range(4))


if __name__ == "__main__":
    main()
