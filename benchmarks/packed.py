"""Packed binary layers against float32, bfloat16 and int8: time, share of the machine's peak, bytes.

    OMP_NUM_THREADS=1 python benchmarks/packed.py [--rounds N]

One thread. All rivals of a row run in turns in one process, and the least thread CPU time of each counts: others may
use the machine, too. float32 is the best of three: NCHW, channels_last, and weights that oneDNN laid out beforehand, as
a convolution does at every call otherwise. A packed layer takes float32 and gives float32: taking signs, packing them,
the sums, scale and offset are all in its time. Prints tables in Markdown.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from secateur.models.binary.resnet import resnet18_binary
from secateur.pruners.bundle import size_of_state
from secateur.training.binarization.kinds import find_kind
from secateur.training.packing import (
    PackedConv2d,
    Prepacked,
    find,
    foldable,
    kernels,
    layer_state,
    scaled_afterwards,
)

IN_A_ROW = 4
"""Calls before the next rival's turn: whoever uses a network calls it again and again, and finds its weights in the
caches that the others have emptied."""
SHAPES = [(56, 64), (28, 64), (28, 128), (14, 128), (14, 256), (7, 256), (14, 512), (7, 512)]
Timed = Callable[[], object]


def least(rivals: dict[str, Timed], rounds: int) -> dict[str, float]:
    """Microseconds of each, run in turns."""
    for run in rivals.values():
        run()
    found = dict.fromkeys(rivals, float("inf"))
    for _ in range(rounds):
        for name, run in rivals.items():
            for _ in range(IN_A_ROW):
                start = time.thread_time_ns()
                run()
                found[name] = min(found[name], (time.thread_time_ns() - start) / 1e3)
    return found


# -- one convolution


def int8(conv: nn.Conv2d) -> Callable[[Tensor], Tensor]:
    """Quantize, multiply integers, and back to float32."""
    weight = torch.quantize_per_tensor(conv.weight.detach(), 0.02, 0, torch.qint8)
    sizes = (list(s) for s in (conv.stride, conv.padding, conv.dilation))
    made = torch.ops.quantized.conv2d_prepack(weight, None, *sizes, conv.groups)

    def run(x: Tensor) -> Tensor:
        quantized = torch.quantize_per_tensor(x, 0.05, 64, torch.quint8)
        return torch.ops.quantized.conv2d(quantized, made, 0.5, 64).dequantize()

    return run


def layer_row(side: int, channels: int, rounds: int, peak: float) -> str:
    x = torch.randn(1, channels, side, side)
    last = x.contiguous(memory_format=torch.channels_last)
    conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
    other = copy.deepcopy(conv).to(memory_format=torch.channels_last)
    packed = PackedConv2d(channels, channels, 3, padding=1)
    packed.bits.random_(0, 256)
    ready, half = Prepacked(conv, x.shape), copy.deepcopy(other).bfloat16()
    if torch.ops.mkldnn._is_mkldnn_bf16_supported():
        half = Prepacked(conv, x.shape, torch.bfloat16)
    short, integers = last.bfloat16(), int8(conv)
    rivals: dict[str, Timed] = {
        "nchw": lambda: conv(x), "last": lambda: other(last), "ready": lambda: ready(last),
        "bf16": lambda: half(short), "int8": lambda: integers(last), "packed": lambda: packed(last),
        "core": core_of(packed, side),
    }  # fmt: skip
    found = least(rivals, rounds)
    best = min(found[n] for n in ("nchw", "last", "ready"))
    bits = 9 * channels * channels * side * side
    us = " | ".join(f"{found[n]:.0f}" for n in ("nchw", "last", "ready", "bf16", "int8", "packed"))
    core, faster = bits / found["core"] / 1e3, best / found["packed"]
    return f"| {side}x{side}x{channels} | {us} | {faster:.1f} | {core:.0f} | {100 * core / peak:.0f} % |"


@numba.njit
def repeated(places: int, blocks: int, signs: int, pixels: int, chunks: int, count: int, panel: int, table: int,
             sums: int, bytes_: int) -> None:  # fmt: skip
    for block in range(blocks):
        for _ in range(places):
            kernels.count_differences(signs, pixels, chunks, count, panel + block * bytes_, table, sums)


def core_of(layer: PackedConv2d, side: int) -> Timed:
    """The counting alone, of a whole layer: no signs taken, nothing scaled."""
    layer.is_accelerated(torch.float32)
    length = layer.in_channels // 8
    row = (side + 2) * length
    kept = [np.random.randint(0, 256, row * (side + 2), dtype=np.uint8), np.arange(kernels.PIXELS) * length,
            kernels.chunks_of(3, 3, row, length, length), layer.panels.numpy(), kernels.TABLE,
            np.zeros(kernels.PIXELS * kernels.OUTPUTS, np.uint16)]  # fmt: skip
    signs, pixels, chunks, panel, table, sums = (a.ctypes.data for a in kept)
    places = -(-side * side // kernels.PIXELS)
    blocks, bytes_ = layer.panels.shape[1], layer.panels[0, 0].numel()

    def run() -> object:
        repeated(places, blocks, signs, pixels, chunks, len(kept[2]), panel, table, sums, bytes_)
        return kept

    return run


def peaks(rounds: int) -> tuple[float, float]:
    """Signs compared in a second, in Gbit: by the kernel's own steps on 31 bytes that stay in the first cache; and by
    LLVM's best code for the number of ones in the exclusive or of two arrays."""
    layer = PackedConv2d(248, 64, 1)
    layer.is_accelerated(torch.float32)
    arrays = [np.random.randint(0, 256, 4 * 31, dtype=np.uint8), np.arange(4) * 31, np.array([[0, 31, 1]]),
              layer.panels.numpy(), kernels.TABLE, np.zeros(256, np.uint16)]  # fmt: skip
    signs, pixels, chunks, panel, table, sums = (a.ctypes.data for a in arrays)
    one, other = (np.random.randint(0, 2**62, 1024, dtype=np.uint64) for _ in range(2))
    rivals: dict[str, Timed] = {
        "steps": lambda: repeated(1000, 1, signs, pixels, chunks, 1, panel, table, sums, 0),
        "ones": lambda: ones(one, other, 100),
    }
    found = least(rivals, rounds)
    return 1000 * 31 * 8 * 256 / found["steps"] / 1e3, 100 * 1024 * 64 / found["ones"] / 1e3


@numba.extending.intrinsic
def population(typing: Any, word: Any) -> Any:
    return numba.uint64(numba.uint64), lambda context, builder, signature, arguments: builder.ctpop(arguments[0])


@numba.njit
def ones(one: Any, other: Any, times: int) -> Any:
    total = np.uint64(0)
    for _ in range(times):
        for i in range(len(one)):
            total += population(one[i] ^ other[i])
    return total


# -- whole networks


class ForPhotographs(nn.Module):
    """The binary ResNet-18 with the stem of the one for 224x224."""

    def __init__(self, body: Any) -> None:
        super().__init__()
        self.body = body
        body.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        b = self.body
        x = F.max_pool2d(F.hardtanh(b.bn1(b.conv1(x))), 3, 2, 1)
        x = b.layer4(b.layer3(b.layer2(b.layer1(x))))
        return b.last_norm(b.linear(b.bn2(x.mean(dim=(2, 3)))))


def network(kind: str, side: int) -> nn.Module:
    layers = find_kind(kind).layers()
    torch.manual_seed(0)
    model: nn.Module = resnet18_binary(num_classes=10 if side == 32 else 1000, conv=layers["conv"])
    model = model if side == 32 else ForPhotographs(model)
    for norm in (m for m in model.modules() if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d))):
        norm.running_mean.normal_()  # type: ignore[union-attr]
        norm.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
        norm.bias.data.normal_()
    return model.eval()


def folded(model: nn.Module, x: Tensor) -> nn.Module:
    """Batch norms of torch's own convolutions are part of these."""
    made = copy.deepcopy(model)
    for module in list(made.modules()):
        named = dict(module.named_children())
        for conv, norm in (("conv1", "bn1"), ("conv2", "bn2"), ("0", "1")):
            if type(named.get(conv)) is nn.Conv2d and isinstance(named.get(norm), nn.BatchNorm2d):
                setattr(module, conv, fuse_conv_bn_eval(named[conv], named[norm]))  # type: ignore[type-var]
                setattr(module, norm, nn.Identity())
    return made


def packed_in_place(model: nn.Module, x: Tensor) -> nn.Module:
    """As ``app.py pack`` does it, without a file."""
    found = find(model, x)
    norms = foldable(model, found.layers, x)
    for name, layer in found.layers.items():
        conv: Any = model.get_submodule(name)
        made = PackedConv2d(conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding)
        made.load_state_dict(layer_state(layer, model.get_submodule(norms[name]) if name in norms else None))
        model.set_submodule(name, made)
    for norm in norms.values():
        model.set_submodule(norm, nn.Identity())
    return model.eval()


def ready(model: nn.Module, x: Tensor) -> nn.Module:
    """With convolutions in oneDNN's layout."""
    made, sizes = copy.deepcopy(model), {}
    hooks = [m.register_forward_pre_hook(lambda m, a: sizes.__setitem__(m, a[0].shape)) for m in made.modules()]
    made(x)
    for hook in hooks:
        hook.remove()
    for name, conv in [(n, m) for n, m in made.named_modules() if type(m) is nn.Conv2d]:
        made.set_submodule(name, Prepacked(conv, sizes[conv]))
    return made


def network_row(side: int, rounds: int) -> str:
    x = torch.randn(1, 3, side, side)
    last = x.contiguous(memory_format=torch.channels_last)
    plain, binary = folded(network("Real", side), x), network("XnorNet", side)
    found = find(binary, x)
    simulated = copy.deepcopy(binary)
    packed = ready(folded(packed_in_place(binary, x), x), last)
    with scaled_afterwards(simulated, found):
        want = simulated(x)
    difference = float((packed(last) - want).abs().max() / want.abs().max())
    same = bool((packed(last).argmax(1) == want.argmax(1)).all())
    other, prepared = copy.deepcopy(plain).to(memory_format=torch.channels_last), ready(plain, last)
    half = copy.deepcopy(plain).to(memory_format=torch.channels_last).bfloat16()
    short = last.bfloat16()
    times = least(
        {"nchw": lambda: plain(x), "last": lambda: other(last), "ready": lambda: prepared(last),
         "bf16": lambda: half(short), "simulated": lambda: simulated(x), "packed": lambda: packed(last)}, rounds,
    )  # fmt: skip
    best = min(times[n] for n in ("nchw", "last", "ready"))
    ms = " | ".join(f"{times[n] / 1e3:.1f}" for n in ("nchw", "last", "ready", "bf16", "simulated", "packed"))
    stored = (network("Real", side), packed_in_place(network("XnorNet", side), x))
    sizes = [size_of_state(m.state_dict()) for m in stored]
    mb = f"{sizes[0] / 1e6:.2f} -> {sizes[1] / 1e6:.2f} ({sizes[0] / sizes[1]:.1f})"
    times_faster, told = best / times["packed"], "same" if same else "OTHER"
    return f"| {side}x{side} | {ms} | {times_faster:.1f} | {mb} | {difference:.0e}, {told} class |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    with torch.no_grad():
        steps, count = peaks(rounds)
        print(f"Peak of one thread: {steps:.0f} Gbit/s by table, {count:.0f} Gbit/s by counting ones.\n", flush=True)
        print("| image | NCHW us | channels_last us | oneDNN us | bf16 us | int8 us | packed us | times faster | "
              "core Gbit/s | of peak |\n|---|---|---|---|---|---|---|---|---|---|")  # fmt: skip
        for side, channels in SHAPES:
            print(layer_row(side, channels, rounds, max(steps, count)), flush=True)
        print("\n| ResNet-18 | NCHW ms | channels_last ms | oneDNN ms | bf16 ms | simulated ms | packed ms | "
              "times faster | MB | largest difference |\n|---|---|---|---|---|---|---|---|---|---|")  # fmt: skip
        for side in (32, 224):
            print(network_row(side, max(rounds // 4, 3)), flush=True)


if __name__ == "__main__":
    main()
