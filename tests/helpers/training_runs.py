"""Short trainings that can be interrupted and compared."""

from __future__ import annotations

import os
import signal

import torch
from torch import Tensor, nn

from secateur.training.fit import Progress
from secateur.training.fit.regimes import Regime
from secateur.training.fit.trainer import FitResult

SHORT = Regime("short", "sgd", {0: {"lr": 0.1, "momentum": 0.9}}, shape="one_cycle", batch_size=256)


def new_net(seed: int = 0) -> Net:
    torch.manual_seed(seed)
    return Net()


def same_state(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


class InterruptAt(Progress):
    """Presses Ctrl-C after the n-th step."""

    def __init__(self, step: int, by: int = signal.SIGINT) -> None:
        self.left, self.signal = step, by

    def advance(self, steps: int = 1, status: str = "") -> None:
        self.left -= steps
        if steps and self.left == 0:
            os.kill(os.getpid(), self.signal)


def comparable(result: FitResult) -> tuple[object, ...]:
    return result.best, result.history, result.stopped


class Net(nn.Module):
    """Small, with everything that has a state: batch norm, dropout, momentum in the optimizer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 8, kernel_size=3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(8)
        self.dropout = nn.Dropout(0.2)
        self.fc = nn.Linear(8 * 16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn(self.conv(x)))
        x = nn.functional.max_pool2d(x, 2).flatten(1)
        return self.fc(self.dropout(x))
