"""What the author's constructor takes and doesn't use, and places in lists that hold nothing."""

from __future__ import annotations

from pathlib import Path

import torch
from source_helpers import assert_writes
from torch import nn

from secateur.pruners.source import Entry


class Ignored(nn.Module):
    """Takes a kernel size and overrides it."""

    def __init__(self, width: int = 4, kernel_size: int = 3) -> None:
        super().__init__()
        kernel_size = 3
        self.conv = nn.Conv2d(3, width, kernel_size, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


class Completed(nn.Module):
    """Computes what it wasn't given."""

    def __init__(self, width: int = 4, hidden: int | None = None) -> None:
        super().__init__()
        hidden = hidden or 2 * width
        self.a = nn.Conv2d(3, width, 1)
        self.b = nn.Conv2d(width, hidden, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(self.a(x))


class Rows(nn.Module):
    """Has nothing where a row meets itself."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.ModuleList(
            nn.ModuleList(None if i == j else nn.Conv2d(3, 3, 1) for j in range(2)) for i in range(2)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.rows[0][1](x) + self.rows[1][0](x)


X = torch.ones(2, 3, 8, 8)


def test_an_argument_that_the_author_overrides_stays(tmp_path: Path) -> None:
    text = assert_writes(Ignored(), Entry(Ignored, {}, "Ignored"), tmp_path, X)
    assert "kernel_size: int = 3" in text and "        kernel_size = 3\n" in text


def test_an_argument_that_completes_itself_still_gives_its_layer_the_width(tmp_path: Path) -> None:
    assert_writes(Completed(hidden=6), Entry(Completed, {"hidden": 6}, "Completed"), tmp_path, X)


def test_nothing_stays_at_its_place_in_a_list(tmp_path: Path) -> None:
    assert "None" in assert_writes(Rows(), Entry(Rows, {}, "Rows"), tmp_path, X)
