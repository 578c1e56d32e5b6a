"""Random networks as model files: what a person might write, with one class a block, loops, comments and habits.

``written(seed)`` gives the text, the inputs it takes and the features that were drawn. It knows nothing of pruning.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import torch
from written_draft import PLACES, Draft, Step
from written_habits import HABITS

_HEAD = '''"""A network that the dice wrote (seed {seed})."""

import functools
import math

import torch
import torch.nn.functional as F
from torch import nn
'''


@dataclass(frozen=True)
class Written:
    """``inputs(batch, larger)``: a tuple of tensors."""

    text: str
    inputs: Callable[[int, bool], tuple[torch.Tensor, ...]]
    features: tuple[str, ...]


def _conv(d: Draft) -> None:
    out = d.dice.choice([4, 6, 8, 10, 12])
    kernel, dilation = d.dice.choice([(1, 1), (3, 1), (3, 1), (3, 2)])
    if dilation > 1:
        d.drew("dilated")
    bias = d.dice.choice(["", ", bias=False"])
    conv = f"nn.Conv{d.maps}({d.c}, {out}, {kernel}, padding={kernel // 2 * dilation}, dilation={dilation}{bias})"
    if d.dice.random() < 0.5:
        layer = d.layer("stem", f"nn.Sequential({conv}, {d.norm(out)}, {d.activation(out)})")
        d.forward.append(f"x = self.{layer}(x)")
    else:
        layer, norm = d.layer("conv", conv), d.layer("norm", d.norm(out))
        act = d.dice.choice(["F.relu", "torch.tanh", "F.silu"])
        d.forward.append(f"x = {act}(self.{norm}(self.{layer}(x)))  # {out} maps")
    d.c = out
    d.drew(f"conv{d.dims}d")


def _strided(d: Draft) -> None:
    out = d.dice.choice([4, 6, 8])
    down = d.layer("down", f"nn.Conv{d.maps}({d.c}, {out}, 3, stride=2, padding=1)")
    up = d.layer("up", f"nn.ConvTranspose{d.maps}({out}, {d.c}, 2, stride=2)")
    d.forward += [f"low = F.relu(self.{down}(x))", f"x = x + self.{up}(low)"]
    d.drew("transposed", "strided")


def _transposed(d: Draft) -> None:
    out = d.dice.choice([4, 6, 8])
    up = d.layer("up", f"nn.ConvTranspose{d.maps}({d.c}, {out}, 3, padding=1)")
    d.forward.append(f"x = F.relu(self.{up}(x))")
    d.c = out
    d.drew("transposed")


def _grouped(d: Draft) -> None:
    groups = [g for g in (2, 3, 4) if d.c % g == 0 and d.c > g]
    if groups:
        g = d.dice.choice(groups)
        out = g * d.dice.choice([2, 3])
        layer = d.layer("grouped", f"nn.Conv{d.maps}({d.c}, {out}, 1, groups={g})")
        d.forward.append(f"x = self.{layer}(x).relu()")
        d.c = out
        d.drew("grouped")


def _depthwise(d: Draft) -> None:
    times = d.dice.choice([1, 1, 2])
    layer = d.layer("depthwise", f"nn.Conv{d.maps}({d.c}, {d.c * times}, 3, padding=1, groups={d.c})")
    d.forward.append(f"x = F.relu(self.{layer}(x))")
    d.c *= times
    d.drew("depthwise")


def _residual(d: Draft) -> None:
    """A block class, some of its instances in a loop; sometimes a subclass changes what the base does."""
    name, hidden, n = d.name("Residual"), d.dice.choice([4, 6]), d.dice.choice([1, 2, 3])
    act = d.activation(hidden).replace(f"({hidden})", "(hidden)")
    d.classes[name] = f'''
class {name}(nn.Module):
    """Two convolutions around a shortcut."""

    def __init__(self, channels, hidden={hidden}):
        super().__init__()
        self.conv1 = nn.Conv{d.maps}(channels, hidden, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm{d.maps}(hidden)
        self.act = {act}
        self.conv2 = nn.Conv{d.maps}(hidden, channels, 1)

    def body(self, x):
        return self.conv2(self.act(self.bn1(self.conv1(x))))  # the inner width is free

    def forward(self, x):
        return x + self.body(x)
'''
    used = name
    if d.dice.random() < 0.4:
        used = d.name("Scaled")
        d.classes[used] = f'''
class {used}({name}):
    """The same with a learned scale."""

    def __init__(self, channels, hidden={hidden}):
        super().__init__(channels, hidden)
        self.gamma = nn.Parameter(0.1 * torch.ones(1, channels{d.ones}))

    def forward(self, x):
        return x + self.gamma * self.body(x)
'''
        d.drew("subclass", "learned scale")
    kind = d.dice.choice(["sequential", "list", "append"])
    if kind == "list":
        stage = d.layer("blocks", f"nn.ModuleList({used}({d.c}) for _ in range({n}))")
        d.forward += [f"for block in self.{stage}:", "    x = block(x)"]
    elif kind == "sequential":
        stage = d.layer("stage", f"nn.Sequential(*[{used}({d.c}) for _ in range({n})])")
        d.forward.append(f"x = self.{stage}(x)")
    else:
        d.init += ["layers = []", f"for i in range({n}):", f"    layers.append({used}({d.c}, {hidden} + 2 * i))"]
        stage = d.layer("stage", "nn.Sequential(*layers)")
        d.forward.append(f"x = self.{stage}(x)")
    d.drew("residual", f"blocks in a {kind}")


def _branches(d: Draft) -> None:
    widths = [d.dice.choice([2, 3, 4]) for _ in range(d.dice.choice([2, 3]))]
    if d.dice.random() < 0.5:
        kernels = ["1", "3, padding=1", "1"]
        convs = [f'"b{i}": nn.Conv{d.maps}({d.c}, {w}, {kernels[i]})' for i, w in enumerate(widths)]
        name = d.layer("branches", f"nn.ModuleDict({{{', '.join(convs)}}})")
        d.forward.append(f"x = torch.cat([branch(x) for branch in self.{name}.values()], dim=1).relu()")
        d.drew("ModuleDict")
    else:
        names = [d.layer("branch", f"nn.Conv{d.maps}({d.c}, {w}, 1)") for w in widths]
        d.forward.append(f"x = torch.cat(({', '.join(f'self.{n}(x)' for n in names)}), 1)")
    d.c = sum(widths)
    d.drew("concatenation")


def _scale(d: Draft) -> None:
    name = d.layer("gamma", f"nn.Parameter(torch.rand({d.c}{d.ones}))")
    d.forward.append(f"x = x * self.{name}")
    d.drew("learned scale")


def _buffer(d: Draft) -> None:
    name = d.name("weighting")
    d.init.append(f'self.register_buffer("{name}", torch.linspace(0.5, 1.5, {d.c}))')
    d.forward.append(f"x = x * self.{name}.view(1, -1{d.ones})")
    d.drew("buffer")


def _shared(d: Draft) -> None:
    name = d.layer("shared", f"nn.Conv{d.maps}({d.c}, {d.c}, 1)")
    d.forward += ["for _ in range(2):", f"    x = torch.tanh(self.{name}(x))"]
    d.drew("shared layer")


def _tied(d: Draft) -> None:
    first = d.layer("first", f"nn.Conv{d.maps}({d.c}, {d.c}, 3, padding=1)")
    second = d.layer("second", f"nn.Conv{d.maps}({d.c}, {d.c}, 3, padding=1)")
    d.init.append(f"self.{second}.weight = self.{first}.weight  # tied")
    d.forward.append(f"x = self.{second}(F.relu(self.{first}(x)))")
    d.drew("tied weights")


def _einsum(d: Draft) -> None:
    out, at = d.dice.choice([4, 6]), PLACES[d.dims][1:]
    name = d.layer("mix", f"nn.Parameter(torch.randn({out}, {d.c}))")
    d.forward.append(f'x = torch.einsum("nc{at},oc->no{at}", x, self.{name})')
    d.c = out
    d.drew("einsum")


def _interpolated(d: Draft) -> None:
    conv = d.layer("coarse", f"nn.Conv{d.maps}({d.c}, {d.c}, 1)")
    pool = f"F.{d.dice.choice(['avg', 'max'])}_pool{d.maps}(x, 2)"
    size = d.dice.choice(["size=x.shape[2:]", "scale_factor=2"])
    d.forward.append(f"x = x + F.interpolate(self.{conv}({pool}), {size})")
    d.drew("interpolation", "pooling")


def _pixels(d: Draft) -> None:
    if d.dims == 2:
        out = d.dice.choice([2, 3])
        conv = d.layer("expand", f"nn.Conv2d({d.c}, {4 * out}, 1)")
        d.forward.append(f"x = F.avg_pool2d(F.pixel_shuffle(self.{conv}(x), 2), 2)")
        d.c = out
        d.drew("pixel shuffle")


def _attention(d: Draft) -> None:
    heads = next((h for h in (2, 3, 1) if d.c % h == 0), 1)
    name = d.layer("attention", f"nn.MultiheadAttention({d.c}, {heads}, batch_first=True)")
    d.forward += [
        "tokens = x.flatten(2).transpose(1, 2)",
        f"tokens = tokens + self.{name}(tokens, tokens, tokens, need_weights=False)[0]",
        "x = tokens.transpose(1, 2).reshape(x.shape)",
    ]
    d.drew("MultiheadAttention")


def _excited(d: Draft) -> None:
    hidden = d.dice.choice([2, 4])
    first, second = d.layer("squeeze", f"nn.Linear({d.c}, {hidden})"), d.layer("excite", f"nn.Linear({hidden}, {d.c})")
    d.forward += [
        "n, c = x.shape[:2]",
        f"gate = torch.sigmoid(self.{second}(F.relu(self.{first}(x.mean({d.places})))))",
        f"x = x * gate.view(n, c{d.ones})",
    ]
    d.drew("numbers made from shapes", "squeeze and excitation")


def _by_width(d: Draft) -> None:
    d.forward.append(d.dice.choice(["x = x / x.shape[1] ** 0.5", "x = x * (2.0 / x.size(1))", "x = x / len(x[0])"]))
    d.drew("divided by the number of channels")


def _shuffled(d: Draft) -> None:
    if d.c % 2 == 0:
        d.forward += [
            "n, c = x.shape[:2]",
            "x = x.view(n, 2, c // 2, *x.shape[2:]).transpose(1, 2).reshape(n, c, *x.shape[2:])",
        ]
        d.drew("channel shuffle", "numbers made from shapes")


def _split(d: Draft) -> None:
    if d.c % 2 == 0:
        half = d.c // 2
        conv = d.layer("half", f"nn.Conv{d.maps}({half}, {half}, 3, padding=1)")
        way = d.dice.choice(["x.chunk(2, dim=1)", f"torch.split(x, {half}, dim=1)", f"(x[:, :{half}], x[:, {half}:])"])
        d.forward += [f"left, right = {way}", f"x = torch.cat([left, F.relu(self.{conv}(right))], dim=1)"]
        d.drew("split")


def _gated(d: Draft) -> None:
    out = d.dice.choice([3, 4])
    conv = d.layer("gated", f"nn.Conv{d.maps}({d.c}, {2 * out}, 1)")
    d.forward.append(f"x = F.glu(self.{conv}(x), dim=1)")
    d.c = out
    d.drew("GLU")


def _channels_last(d: Draft) -> None:
    norm, first = d.layer("norm", f"nn.LayerNorm({d.c})"), d.layer("wide", f"nn.Linear({d.c}, {2 * d.c})")
    second = d.layer("narrow", f"nn.Linear({2 * d.c}, {d.c})")
    d.forward += [
        "y = x.movedim(1, -1)  # channels last",
        f"x = x + self.{second}(F.gelu(self.{first}(self.{norm}(y)))).movedim(-1, 1)",
    ]
    d.drew("LayerNorm", "channels last")


def _noise(d: Draft) -> None:
    kind = d.dice.choice(["dropout", "dropout of maps", "noise"])
    if kind == "noise":
        d.forward += ["if self.training:", f"    x = x + 0.1 * torch.randn(len(x), 1{d.ones}, dtype=x.dtype)"]
    else:
        which = f"nn.Dropout({0.2})" if kind == "dropout" else f"nn.Dropout{d.maps}(0.2)"
        d.forward.append(f"x = self.{d.layer('drop', which)}(x)")
    d.drew(kind)


MAPS: tuple[Step, ...] = (
    _conv, _conv, _conv, _strided, _transposed, _grouped, _depthwise, _residual, _residual, _branches, _scale, _buffer,
    _shared, _tied, _einsum, _interpolated, _pixels, _attention, _excited, _by_width, _shuffled, _split, _gated,
    _channels_last, _noise,
)  # fmt: skip


def _head(d: Draft, features: str, second: str | None) -> None:
    """What is done with ``features``: one output, a tuple or a dictionary."""
    hidden = d.dice.choice([6, 8])
    d.init += [f"self.fc1 = nn.Linear({d.c}, {hidden})", f"self.fc2 = nn.Linear({hidden}, num_classes)"]
    d.forward += [f"features = {features}", "logits = self.fc2(F.relu(self.fc1(features)))"]
    kind = d.dice.choice(["one", "one", "tuple", "dictionary"] if second else ["one"])
    if kind != "one":
        d.init.append(f"self.aux = {second}")
        d.drew("several outputs")
    d.forward.append({
        "one": "return logits",
        "tuple": "return logits, self.aux(x)",
        "dictionary": 'return {"logits": logits, "aux": self.aux(x)}',
    }[kind])  # fmt: skip


def _text(d: Draft, seed: int, arguments: str) -> str:
    pad = " " * 8
    comment = d.dice.choice(["", "        # whatever the dice say\n"])
    return (
        _HEAD.format(seed=seed) + "".join("\n" + t for t in d.classes.values())
        + '\n\nclass Net(nn.Module):\n    """Steps in a row."""\n\n    def __init__(self, num_classes=5):\n'
        + f"{pad}super().__init__()\n" + comment + "".join(f"{pad}{line}\n" for line in d.init)
        + f"\n    def forward(self, {arguments}):\n" + "".join(f"{pad}{line}\n" for line in d.forward)
    )  # fmt: skip


def _of_maps(dice: random.Random, seed: int) -> Written:
    d = Draft(dice, dice.choice([1, 2, 2, 2, 3]))
    side = {1: 16, 2: 8, 3: 4}[d.dims]
    two = dice.random() < 0.15
    if two:
        out = dice.choice([4, 6])
        a = d.layer("of_x", f"nn.Conv{d.maps}(3, {out}, 3, padding=1)")
        b = d.layer("of_y", f"nn.Conv{d.maps}(2, {out}, 1)")
        added = dice.random() < 0.5
        d.forward.append(f"x = self.{a}(x) + self.{b}(y)" if added else f"x = torch.cat([self.{a}(x), self.{b}(y)], 1)")
        d.c = out if added else 2 * out
        d.drew("several inputs")
    else:
        _conv(d)
    for _ in range(dice.randint(1, 6)):
        dice.choice(MAPS if dice.random() < 0.5 else HABITS)(d)
    _head(d, f"x.mean({d.places})", f"nn.Conv{d.maps}({d.c}, 2, 1)")

    def inputs(batch: int, larger: bool) -> tuple[torch.Tensor, ...]:
        n = side * 3 // 2 if larger else side
        generator = torch.Generator().manual_seed(seed + batch)
        shapes = [(batch, c, *[n] * d.dims) for c in ((3, 2) if two else (3,))]
        return tuple(torch.randn(*s, generator=generator) for s in shapes)

    return Written(_text(d, seed, "x, y" if two else "x"), inputs, tuple(d.features))


def _of_tokens(dice: random.Random, seed: int) -> Written:
    """Embeddings, recurrent layers, attention and what is between."""
    d = Draft(dice, 1, c=dice.choice([8, 12]))
    d.init.append(f"self.embedding = nn.Embedding(20, {d.c})")
    d.forward.append("x = self.embedding(tokens)")
    if dice.random() < 0.5:
        d.init.append(f"self.position = nn.Parameter(torch.randn(1, 16, {d.c}))")
        d.forward.append("x = x + self.position[:, : x.shape[1]]")
    for _ in range(dice.randint(1, 4)):
        dice.choice([_recurrent, _self_attention, _feed_forward, _convolved, _encoder])(d)
    _head(d, dice.choice(["x.mean(1)", "x[:, -1]", "x.amax(dim=1)"]), f"nn.Linear({d.c}, 3)")
    d.drew("embedding")

    def inputs(batch: int, larger: bool) -> tuple[torch.Tensor, ...]:
        generator = torch.Generator().manual_seed(seed + batch)
        return (torch.randint(0, 20, (batch, 9 if larger else 6), generator=generator),)

    return Written(_text(d, seed, "tokens"), inputs, tuple(d.features))


def _recurrent(d: Draft) -> None:
    kind, out = d.dice.choice(["LSTM", "LSTM", "GRU", "RNN"]), d.dice.choice([6, 8])
    layers, both = d.dice.choice([1, 1, 2]), d.dice.random() < 0.3
    more = f", num_layers={layers}" * (layers > 1) + ", bidirectional=True" * both
    name = d.layer("recurrent", f"nn.{kind}({d.c}, {out}, batch_first=True{more})")
    d.forward.append(f"x, _ = self.{name}(x)")
    d.c = out * (2 if both else 1)
    d.drew(kind)


def _self_attention(d: Draft) -> None:
    heads = 2 if d.c % 2 == 0 else 1
    if d.dice.random() < 0.5:
        name = d.layer("attention", f"nn.MultiheadAttention({d.c}, {heads}, batch_first=True)")
        norm = d.layer("norm", f"nn.LayerNorm({d.c})")
        d.forward.append(f"x = self.{norm}(x + self.{name}(x, x, x)[0])")
        d.drew("MultiheadAttention", "LayerNorm")
        return
    width = d.dice.choice([2, 3, 4])
    qkv = d.layer("qkv", f"nn.Linear({d.c}, {3 * heads * width})")
    out = d.layer("out", f"nn.Linear({heads * width}, {d.c})")
    d.forward += [
        "n, length, _ = x.shape",
        f"q, k, v = self.{qkv}(x).view(n, length, 3, {heads}, {width}).permute(2, 0, 3, 1, 4)",
        f"weights = (q @ k.transpose(-2, -1) * {width}**-0.5).softmax(-1)",
        f"x = x + self.{out}((weights @ v).transpose(1, 2).reshape(n, length, {heads * width}))",
    ]
    d.drew("written attention")


def _feed_forward(d: Draft) -> None:
    hidden = d.dice.choice([8, 12])
    norm = d.layer("norm", f"nn.LayerNorm({d.c})")
    layers = f"nn.Linear({d.c}, {hidden}), nn.GELU(), nn.Dropout(0.1), nn.Linear({hidden}, {d.c})"
    name = d.layer("mlp", f"nn.Sequential({layers})")
    d.forward.append(f"x = x + self.{name}(self.{norm}(x))")
    d.drew("LayerNorm", "dropout")


def _convolved(d: Draft) -> None:
    out = d.dice.choice([6, 8])
    conv = d.layer("conv", f"nn.Conv1d({d.c}, {out}, 3, padding=1)")
    d.forward.append(f"x = F.relu(self.{conv}(x.transpose(1, 2))).transpose(1, 2)")
    d.c = out
    d.drew("conv1d")


def _encoder(d: Draft) -> None:
    heads = 2 if d.c % 2 == 0 else 1
    name = d.layer("encoder", f"nn.TransformerEncoderLayer({d.c}, {heads}, dim_feedforward=10, batch_first=True)")
    d.forward.append(f"x = self.{name}(x)")
    d.drew("TransformerEncoderLayer")


def written(seed: int) -> Written:
    """The network of this seed."""
    dice = random.Random(seed)
    return (_of_tokens if dice.random() < 0.25 else _of_maps)(dice, seed)
