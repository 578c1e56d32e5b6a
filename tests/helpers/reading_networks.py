"""A network with the habits that make generated source hard to read: computed padding, attributes that nothing reads,
initialisation of block kinds that are not there, names that mean several things."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ConvAct(nn.Sequential):
    """A convolution whose padding follows from its kernel."""

    def __init__(self, inp: int, oup: int, kernel_size: int = 3, stride: int = 1, padding: int | None = None) -> None:
        dilation = 1
        if padding is None:
            padding = (kernel_size - 1) // 2 * dilation
        super().__init__(nn.Conv2d(inp, oup, kernel_size, stride, padding, bias=False), nn.BatchNorm2d(oup), nn.ReLU())


class Mlp(nn.Sequential):
    """Linear layers of given widths."""

    def __init__(self, in_dim: int, hidden_dims: list[int]) -> None:
        layers: list[nn.Module] = []
        for hidden_dim in hidden_dims[:-1]:
            layers.append(nn.Linear(in_dim, hidden_dim))
            layers.append(nn.GELU())
            in_dim = hidden_dim
        layers.append(nn.Linear(in_dim, hidden_dims[-1]))
        super().__init__(*layers)


class Block(nn.Module):
    """A residual block of linear layers."""

    def __init__(self, dim: int, ratio: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, [ratio * dim, dim])

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mlp(self.norm(x))


class OtherBlock(nn.Module):
    """A kind of block that this network doesn't use."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.last = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(x)


class Reader(nn.Module):
    """Convolutions, then blocks of two widths, then a classifier."""

    def __init__(self, num_classes: int = 10, calm: bool = True, deep: bool = False) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.stem = nn.Sequential(ConvAct(3, 8, stride=2), ConvAct(8, 8, 1), ConvAct(8, 16, 5))
        self.early = nn.Sequential(Block(16, 2), Block(16, 4))
        self.between = nn.Linear(16, 32)
        self.late = nn.Sequential(Block(32, 2))
        heads: list[nn.Module] = []
        if deep:
            heads.append(nn.Linear(32, 8))
            heads.append(nn.Linear(8, num_classes))
        else:
            heads.append(nn.Linear(32, num_classes))
        self.heads = nn.Sequential(*heads)

        for m in self.modules():
            if isinstance(m, nn.Linear):
                nn.init.normal_(m.weight, std=0.02)
            elif isinstance(m, OtherBlock):
                nn.init.zeros_(m.last.weight)

        if calm:
            for m in self.modules():
                # the last layer of a block
                if isinstance(m, OtherBlock) and m.last.bias is not None:
                    nn.init.zeros_(m.last.bias)
                elif isinstance(m, Block):
                    nn.init.zeros_(m.norm.bias)
                else:
                    pass
        for m in self.modules():
            if isinstance(m, OtherBlock):
                m.last.bias.data.zero_()

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).mean((2, 3))
        return self.heads(self.late(torch.relu(self.between(self.early(x)))))
