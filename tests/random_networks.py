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


_STEPS = (_conv, _conv, _conv, _depthwise, _grouped, _blocks, _shared, _add, _add, _cat, _pool, _pad)


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
