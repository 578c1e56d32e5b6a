"""Ways in which people build classes."""

from __future__ import annotations

import enum
import functools
import math
from collections import OrderedDict, namedtuple
from dataclasses import dataclass, field
from typing import NamedTuple, Optional

import torch
import torch.nn.functional as F
from torch import nn


class Swish(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(3, 8, 1), Apply(lambda x: x * torch.sigmoid(x)), nn.Conv2d(8, 4, 1))

    def forward(self, x):
        return self.net(x)


class Apply(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class ConvBlock(nn.Sequential):
    def __init__(self, cin, cout, k=3):
        super().__init__(nn.Conv2d(cin, cout, k, padding=k // 2), nn.BatchNorm2d(cout), nn.ReLU(inplace=True))


class SequentialSubclass(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = ConvBlock(3, 8), ConvBlock(8, 6, 1)
        self.head = nn.Sequential(OrderedDict(pool=nn.AdaptiveAvgPool2d(1), flat=nn.Flatten(), fc=nn.Linear(6, 3)))

    def forward(self, x):
        return self.head(self.b(self.a(x)))


class Twice(nn.Module):
    """A module used twice."""

    def __init__(self):
        super().__init__()
        self.stem, self.same, self.out = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 4, 1)

    def forward(self, x):
        x = self.stem(x)
        for _ in range(2):
            x = self.same(x).relu()
        return self.out(x)


class Tied(nn.Module):
    """The output layer's weight is the embedding's."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        self.fc = nn.Linear(8, 8)
        self.head = nn.Linear(8, 11, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens):
        return self.head(self.fc(self.embed(tokens)).relu())


class AutoEncoderTied(nn.Module):
    def __init__(self):
        super().__init__()
        self.encode = nn.Linear(5, 8)
        self.bias = nn.Parameter(torch.zeros(5))

    def forward(self, x):
        return F.linear(self.encode(x).relu(), self.encode.weight.t(), self.bias)


class Lists(nn.Module):
    """ModuleDict, ParameterList, ParameterDict."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleDict({"a": nn.Linear(5, 8), "b": nn.Linear(8, 6)})
        self.scales = nn.ParameterList([nn.Parameter(torch.ones(8)), nn.Parameter(torch.ones(6))])
        self.shifts = nn.ParameterDict({"a": nn.Parameter(torch.zeros(8)), "b": nn.Parameter(torch.zeros(6))})
        self.out = nn.Linear(6, 3)

    def forward(self, x):
        for scale, (name, layer) in zip(self.scales, self.layers.items()):
            x = torch.relu(layer(x) * scale + self.shifts[name])
        return self.out(x)


class Properties(nn.Module):
    hidden = 8
    names = ["first", "second"]

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(5, self.hidden), nn.Linear(self.hidden, 3)

    @property
    def width(self):
        return self.first.out_features

    @staticmethod
    def activate(x):
        return x.clamp(min=0)

    @classmethod
    def build(cls):
        return cls()

    def forward(self, x):
        x = self.activate(self.first(x))
        return self.second(x.view(-1, x.shape[1], self.width))


@dataclass
class Config:
    widths: list = field(default_factory=lambda: [8, 6])
    classes: int = 3
    dropout: float = 0.1
    act: str = "relu"


class Configured(nn.Module):
    def __init__(self, cfg: Optional[Config] = None):
        super().__init__()
        self.cfg = cfg or Config()
        widths = [5, *self.cfg.widths]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(widths, widths[1:]))
        self.act = {"relu": nn.ReLU, "gelu": nn.GELU}[self.cfg.act]()
        self.drop = nn.Dropout(self.cfg.dropout)
        self.out = nn.Linear(widths[-1], self.cfg.classes)

    def forward(self, x):
        for layer in self.layers:
            x = self.drop(self.act(layer(x)))
        if self.cfg.classes > 1:
            return self.out(x)
        return self.out(x).squeeze(-1)


class Kind(enum.Enum):
    PLAIN = "plain"
    RESIDUAL = "residual"


class Switched(nn.Module):
    def __init__(self, kind=Kind.RESIDUAL):
        super().__init__()
        self.kind = kind
        self.a, self.b, self.c = nn.Linear(5, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x):
        x = self.a(x)
        if self.kind is Kind.RESIDUAL:
            x = x + self.b(x)
        else:
            x = self.b(x)
        return self.c(x)


Stage = namedtuple("Stage", "width depth")


class Shape(NamedTuple):
    height: int
    width: int


class Stages(nn.Module):
    def __init__(self, stages=(Stage(8, 2), Stage(6, 1)), grid=Shape(4, 4)):
        super().__init__()
        self.grid = grid
        layers, cin = [], 3
        for stage in stages:
            for _ in range(stage.depth):
                layers += [nn.Conv2d(cin, stage.width, 1), nn.ReLU()]
                cin = stage.width
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(cin * grid.height * grid.width, 3)

    def forward(self, x):
        x = F.adaptive_avg_pool2d(self.features(x), (self.grid.height, self.grid.width))
        return self.head(torch.flatten(x, 1))


class Partials(nn.Module):
    def __init__(self, norm=functools.partial(nn.BatchNorm2d, eps=1e-3), act=functools.partial(F.leaky_relu, negative_slope=0.1)):
        super().__init__()
        self.a, self.n, self.b = nn.Conv2d(3, 8, 1), norm(8), nn.Conv2d(8, 4, 1)
        self.act = act

    def forward(self, x):
        return self.b(self.act(self.n(self.a(x))))


class Parent(nn.Module):
    def __init__(self, *sizes, bias=True, **kwargs):
        super().__init__()
        self.a, self.b = nn.Linear(sizes[0], sizes[1], bias=bias), nn.Linear(sizes[1], sizes[2])
        self.scale = kwargs.get("scale", 1.0)

    def forward(self, x):
        return self.b(self.hidden(x)) * self.scale

    def hidden(self, x):
        return self.a(x).relu()


class Child(Parent):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, bias=False, **kwargs)
        self.c = nn.Linear(self.a.out_features, self.a.out_features)

    def hidden(self, x):
        return self.c(super().hidden(x))


class Grandchild(Child):
    def __init__(self):
        super().__init__(5, 8, 3, scale=0.5)


class Plain(nn.Module):
    expansion = 1

    def __init__(self, cin, planes, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(cin, planes, 3, stride, 1)
        self.conv2 = nn.Conv2d(planes, planes * self.expansion, 1)
        if stride != 1 or cin != planes * self.expansion:
            self.shortcut = nn.Conv2d(cin, planes * self.expansion, 1, stride)
        else:
            self.shortcut = nn.Identity()

    def forward(self, x):
        return F.relu(self.conv2(F.relu(self.conv1(x))) + self.shortcut(x))


class Wide(Plain):
    expansion = 2


class ByFactory(nn.Module):
    """Takes a class of blocks."""

    def __init__(self, block=Wide, layers=(2, 1)):
        super().__init__()
        self.inplanes = 4
        self.stem = nn.Conv2d(3, 4, 1)
        self.layer1 = self._make_layer(block, 4, layers[0], 1)
        self.layer2 = self._make_layer(block, 6, layers[1], 2)
        self.fc = nn.Linear(6 * block.expansion, 3)
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out")
                if m.bias is not None:
                    nn.init.zeros_(m.bias)

    def _make_layer(self, block, planes, n, stride):
        layers = []
        for i in range(n):
            layers.append(block(self.inplanes, planes, stride if i == 0 else 1))
            self.inplanes = planes * block.expansion
        return nn.Sequential(*layers)

    def forward(self, x):
        return self.fc(self.layer2(self.layer1(self.stem(x))).mean([2, 3]))


class Added(nn.Module):
    """add_module, setattr, getattr, and names that are no identifiers."""

    def __init__(self, depth=3):
        super().__init__()
        self.depth = depth
        for i in range(depth):
            self.add_module(f"layer{i}", nn.Linear(5 if i == 0 else 8, 8))
            setattr(self, "scale_%d" % i, nn.Parameter(torch.ones(8)))
        self.out = nn.Linear(8, 3)

    def forward(self, x):
        for i in range(self.depth):
            x = torch.relu(getattr(self, f"layer{i}")(x)) * getattr(self, f"scale_{i}")
        return self.out(x)


class Children(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.act, self.b = nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3)

    def forward(self, x):
        for layer in self.children():
            x = layer(x)
        return x


class Nested(nn.Module):
    class Inner(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.fc = nn.Linear(width, width)

        def forward(self, x):
            return self.fc(x).relu()

    def __init__(self):
        super().__init__()
        self.a, self.inner, self.b = nn.Linear(5, 8), Nested.Inner(8), nn.Linear(8, 3)

    def forward(self, x):
        return self.b(self.inner(self.a(x)))


def in_function():
    width = 8

    class Local(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(5, width), nn.Linear(width, 3)

        def forward(self, x):
            return self.b(self.a(x).relu())

    return Local()


def sequential():
    return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))


class Mixin:
    def head(self, x):
        return self.fc(x).tanh()


class WithMixin(Mixin, nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.fc = nn.Linear(5, 8), nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.a(x))


ACTIVATIONS = {"relu": F.relu, "gelu": F.gelu}


class FromTable(nn.Module):
    def __init__(self, activation="gelu"):
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        self.a, self.b = nn.Linear(5, 8), nn.Linear(8, 3)
        self.scale = 1 / math.sqrt(8)

    def forward(self, x):
        return self.b(self.activation(self.a(x)) * self.scale)


class Frozen(nn.Module):
    """A backbone that does not train."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 1))
        self.head = nn.Conv2d(6, 4, 1)
        for p in self.backbone.parameters():
            p.requires_grad = False

    def forward(self, x):
        return self.head(self.backbone(x))


class Slots(nn.Module):
    __constants__ = ["n"]
    n: int

    def __init__(self):
        super(Slots, self).__init__()
        self.n = 2
        self.body = nn.ModuleList([])
        for i in range(self.n):
            self.body.append(nn.ModuleList([nn.Linear(8, 8), nn.LayerNorm(8)]))
        self.stem, self.out = nn.Linear(5, 8), nn.Linear(8, 3)

    def forward(self, x):
        x = self.stem(x)
        for fc, norm in self.body:
            x = x + fc(norm(x))
        return self.out(x)


class Assigned(nn.Module):
    """Layers replaced after they were made."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(5, 4), nn.Linear(8, 100)
        self.a = nn.Linear(5, 8)
        self.b = nn.Linear(self.b.in_features, 3)

    def forward(self, x):
        return self.b(self.a(x).relu())


IMAGE, TOKENS, WORDS = torch.randn(2, 3, 8, 8), torch.randn(2, 7, 5), torch.arange(14).reshape(2, 7) % 11
CASES = {
    Swish: (IMAGE, "net.0:8", ""),
    SequentialSubclass: (IMAGE, "a.0:8 b.0:6", ""),
    Twice: (IMAGE, "stem:8", ""),
    Tied: (WORDS, "fc:8", ""),
    AutoEncoderTied: (TOKENS, "encode:8", ""),
    Lists: (TOKENS, "layers.a:8 layers.b:6", ""),
    Properties: (TOKENS, "first:8", ""),
    Configured: (TOKENS, "layers.0:8 layers.1:6", ""),
    Switched: (TOKENS, "a:8", ""),
    Stages: (IMAGE, "features.0:8 features.2:8 features.4:6", ""),
    Partials: (IMAGE, "a:8", ""),
    Grandchild: (TOKENS, "a:8 c:8", ""),
    ByFactory: (IMAGE, "stem:4 layer1.0.conv1:4 layer1.0.conv2:8 layer1.1.conv1:4 layer2.0.conv1:6 layer2.0.conv2:12", ""),
    Added: (TOKENS, "layer0:8 layer1:8 layer2:8", ""),
    Children: (TOKENS, "a:8", ""),
    Nested: (TOKENS, "a:8 inner.fc:8", ""),
    in_function: (TOKENS, "a:8", ""),
    sequential: (TOKENS, "0:8", ""),
    WithMixin: (TOKENS, "a:8", ""),
    FromTable: (TOKENS, "a:8", ""),
    Frozen: (IMAGE, "backbone.0:8 backbone.3:6", ""),
    Slots: (TOKENS, "stem:8", ""),
    Assigned: (TOKENS, "a:8", ""),
}  # fmt: skip
