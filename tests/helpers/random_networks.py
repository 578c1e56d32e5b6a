"""Random small networks as source text: what the property tests prune."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import strategies as st

_HEAD = '''"""A random network."""

import torch
import torch.nn.functional as F
from torch import nn


class Block(nn.Module):
    """Two convolutions around a shortcut."""

    def __init__(self, channels, hidden):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, hidden, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.conv2 = nn.Conv2d(hidden, channels, 1)

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))  # inner width
        return x + self.conv2(out)


class Attention(nn.Module):
    """Every place looks at all others."""

    def __init__(self, dim, num_heads, head_dim, fused):
        super().__init__()
        self.num_heads = num_heads
        self.head_dim = head_dim
        self.fused = fused
        self.scale = head_dim**-0.5
        self.qkv = nn.Linear(dim, 3 * num_heads * head_dim)
        self.proj = nn.Linear(num_heads * head_dim, dim)

    def forward(self, x):
        n, c, h, w = x.shape
        x = x.flatten(2).transpose(1, 2)
        qkv = self.qkv(x).reshape(n, h * w, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        if self.fused:
            x = F.scaled_dot_product_attention(q, k, v)
        else:
            x = ((q * self.scale) @ k.transpose(-2, -1)).softmax(dim=-1) @ v
        x = x.transpose(1, 2).reshape(n, h * w, self.num_heads * self.head_dim)
        return self.proj(x).transpose(1, 2).reshape(n, c, h, w).contiguous()


def shuffle(x, groups):
    """Channels of every group in turn."""
    n, c, h, w = x.shape
    return x.reshape(n, groups, c // groups, h, w).transpose(1, 2).reshape(n, c, h, w)


class Net(nn.Module):
    """Whatever the dice say."""

    def __init__(self, num_classes=5):
        super().__init__()
'''


@dataclass
class Draft:
    """A network while it is drawn: lines of code, and live tensors as (name, channels, size)."""

    init: list[str] = field(default_factory=list)
    forward: list[str] = field(default_factory=list)
    live: list[tuple[str, int, int]] = field(default_factory=list)
    count: int = 0

    def name(self, kind: str) -> str:
        self.count += 1
        return f"{kind}{self.count}"

    def layer(self, kind: str, call: str) -> str:
        name = self.name(kind)
        self.init.append(f"self.{name} = {call}")
        return name

    def result(self, expression: str, channels: int, size: int) -> None:
        name = self.name("x")
        self.forward.append(f"{name} = {expression}")
        self.live.append((name, channels, size))


def _conv(draw: st.DrawFn, d: Draft) -> None:
    x, c, size = draw(st.sampled_from(d.live))
    out = draw(st.integers(2, 9))
    kernel = draw(st.sampled_from([1, 3]))
    stride = draw(st.sampled_from([1, 2])) if size > 2 else 1
    conv = d.layer("conv", f"nn.Conv2d({c}, {out}, {kernel}, stride={stride}, padding={kernel // 2})")
    call = f"self.{conv}({x})"
    if draw(st.booleans()):
        bn = d.layer("bn", f"nn.BatchNorm2d({out})")
        call = f"self.{bn}({call})"
    d.result(draw(st.sampled_from(["F.relu({})", "torch.tanh({})", "{}"])).format(call), out, -(-size // stride))


def _depthwise(draw: st.DrawFn, d: Draft) -> None:
    x, c, size = draw(st.sampled_from(d.live))
    times = draw(st.sampled_from([1, 2]))
    conv = d.layer("depthwise", f"nn.Conv2d({c}, {c * times}, 3, padding=1, groups={c}, bias=False)")
    d.result(f"F.relu(self.{conv}({x}))", c * times, size)


def _grouped(draw: st.DrawFn, d: Draft) -> None:
    choices = [(t, g) for t in d.live for g in (2, 3, 4) if t[1] % g == 0 and t[1] > g]
    if choices:
        (x, c, size), g = draw(st.sampled_from(choices))
        out = g * draw(st.integers(1, 4))
        conv = d.layer("grouped", f"nn.Conv2d({c}, {out}, 1, groups={g})")
        d.result(f"self.{conv}({x})", out, size)


def _blocks(draw: st.DrawFn, d: Draft) -> None:
    x, c, size = draw(st.sampled_from(d.live))
    n, hidden = draw(st.integers(1, 3)), draw(st.integers(2, 6))
    stage = d.layer("stage", f"nn.Sequential(*[Block({c}, {hidden}) for _ in range({n})])")
    d.result(f"self.{stage}({x})", c, size)


def _shared(draw: st.DrawFn, d: Draft) -> None:
    x, c, size = draw(st.sampled_from(d.live))
    conv = d.layer("shared", f"nn.Conv2d({c}, {c}, 3, padding=1)")
    d.result(f"self.{conv}(F.relu(self.{conv}({x})))", c, size)


def _add(draw: st.DrawFn, d: Draft) -> None:
    pairs = [(a, b) for i, a in enumerate(d.live) for b in d.live[i + 1 :] if a[1:] == b[1:]]
    if pairs:
        a, b = draw(st.sampled_from(pairs))
        d.result(f"{a[0]} + {b[0]}", a[1], a[2])


def _cat(draw: st.DrawFn, d: Draft) -> None:
    pairs = [(a, b) for a in d.live for b in d.live if a[2] == b[2] and a[1] + b[1] < 24]
    if pairs:
        a, b = draw(st.sampled_from(pairs))
        d.result(f"torch.cat([{a[0]}, {b[0]}], 1)", a[1] + b[1], a[2])


def _pool(draw: st.DrawFn, d: Draft) -> None:
    x, c, size = draw(st.sampled_from(d.live))
    if size > 1:
        d.result(draw(st.sampled_from(["F.max_pool2d({}, 2)", "F.avg_pool2d({}, 2)"])).format(x), c, size // 2)


def _pad(draw: st.DrawFn, d: Draft) -> None:
    x, c, size = draw(st.sampled_from(d.live))
    before, after = draw(st.integers(0, 3)), draw(st.integers(1, 3))
    d.result(f"F.pad({x}, (0, 0, 0, 0, {before}, {after}))", before + c + after, size)


def _shuffle(draw: st.DrawFn, d: Draft) -> None:
    choices = [(t, g) for t in d.live for g in (2, 3) if t[1] % g == 0 and t[1] > g]
    if choices:
        (x, c, size), g = draw(st.sampled_from(choices))
        d.result(f"shuffle({x}, {g}).contiguous()", c, size)


def _gated(draw: st.DrawFn, d: Draft) -> None:
    x, c, size = draw(st.sampled_from(d.live))
    out = draw(st.integers(2, 6))
    conv, halves = d.layer("gated", f"nn.Conv2d({c}, {2 * out}, 1)"), d.name("half")
    if draw(st.booleans()):
        d.result(f"F.glu(self.{conv}({x}), dim=1)", out, size)
    else:
        d.forward.append(f"{halves}, gate = self.{conv}({x}).chunk(2, dim=1)")
        d.result(f"{halves} * gate.sigmoid()", out, size)


def _excited(draw: st.DrawFn, d: Draft) -> None:
    x, c, size = draw(st.sampled_from(d.live))
    squeeze = d.layer("squeeze", f"nn.Conv2d({c}, {draw(st.integers(2, 4))}, 1)")
    excite = d.layer("excite", f"nn.Conv2d(self.{squeeze}.out_channels, {c}, 1)")
    d.result(f"{x} * self.{excite}(F.relu(self.{squeeze}({x}.mean((2, 3), keepdim=True)))).sigmoid()", c, size)


def _parted(draw: st.DrawFn, d: Draft) -> None:
    x, c, size = draw(st.sampled_from(d.live))
    if c > 3:
        at = draw(st.integers(2, c - 2))
        conv = d.layer("part", f"nn.Conv2d({at}, {at}, 3, padding=1)")
        whole = draw(st.sampled_from([f"{x}[:, :{at}], {x}[:, {at}:]", f"torch.split({x}, [{at}, {c - at}], dim=1)"]))
        d.forward.append(f"first, second = {whole}")
        d.result(f"torch.cat([self.{conv}(first), second], dim=1)", c, size)


def _attention(draw: st.DrawFn, d: Draft) -> None:
    x, c, size = draw(st.sampled_from(d.live))
    heads, width, fused = draw(st.integers(1, 3)), draw(st.integers(1, 4)), draw(st.booleans())
    attention = d.layer("attention", f"Attention({c}, {heads}, {width}, {fused})")
    d.result(f"{x} + self.{attention}({x})" if draw(st.booleans()) else f"self.{attention}({x})", c, size)


_PLAIN = (_conv, _conv, _conv, _depthwise, _grouped, _blocks, _shared, _add, _add, _cat, _pool, _pad)
_STEPS = (*_PLAIN, _shuffle, _gated, _excited, _parted, _attention)


def _head(draw: st.DrawFn, d: Draft) -> None:
    x, c, size = d.live[-1]
    features = c * size * size
    ways = ["{}.flatten(1)", "{}.view({}.size(0), -1)", "{}.view(-1, {n})", "torch.flatten({}, 1)"]
    flat = draw(st.sampled_from(ways))
    d.forward.append("flat = " + flat.format(x, x, n=features))
    hidden = draw(st.integers(2, 8))
    d.init.append(f"self.fc1 = nn.Linear({features}, {hidden})")
    d.init.append(f"self.fc2 = nn.Linear({hidden}, num_classes)")
    d.forward.append("return self.fc2(F.relu(self.fc1(flat)))")


@st.composite
def network_sources(draw: st.DrawFn) -> str:
    """The text of a model file with a class ``Net``; its input has shape (n, 3, 8, 8)."""
    d = Draft(live=[("x", 3, 8)])
    _conv(draw, d)
    for step in draw(st.lists(st.sampled_from(_STEPS), min_size=1, max_size=7)):
        step(draw, d)
    _head(draw, d)
    pad = " " * 8
    return (
        _HEAD
        + "".join(f"{pad}{line}\n" for line in d.init)
        + "\n    def forward(self, x):\n"
        + "".join(f"{pad}{line}\n" for line in d.forward)
    )
