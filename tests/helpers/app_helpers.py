"""A folder with a small model file, and the command line run in it."""

from __future__ import annotations

import re

from click.testing import CliRunner, Result

from secateur.app import cli

NETWORK = '''"""A small network of somebody's own."""

from torch import Tensor, nn


class Small(nn.Module):
    """Two convolutions and a linear layer."""

    def __init__(self, width: int = 6, num_classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, 8, 3, stride=2)
        self.fc = nn.Linear(8, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn1(self.conv1(x)).relu()  # the inner width
        x = self.conv2(x).relu().mean((2, 3))
        return self.fc(x)


class Nothing(nn.Module):
    """Has no channels to give."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.flatten(1))


def small(width: int = 6, num_classes: int = 10) -> Small:
    return Small(width, num_classes)


def needy(width):
    return Small(width)
'''
MODEL = ("--model", "own_small.py:small", "--input-shape", "1,8,8")


def app(*arguments: str) -> Result:
    """Run the command line in this process."""
    return CliRunner().invoke(cli, arguments, prog_name="app.py")


def uncoded(stderr: str) -> str:
    """What is on stderr without the code of an error; where a line of a file is shown, its place and the way out alone:
    ``error: what is wrong --> net.py:3; what to do``."""
    said = re.sub(r"(?m)^error\[SEC\d{3}\]:", "error:", stderr.strip())
    shown = re.compile(
        r"\n *(--> \S+?:\d+)(?::\d+)?\n +\|\n\d+ \| .*\n +\| +\^+"
        r"(?:\n += help: (.*))?\n += note: secateur explain SEC\d+"
    )
    return shown.sub(lambda m: f" {m[1]}" + (f"; {m[2]}" if m[2] else ""), said)


def refusal(*arguments: str) -> tuple[int, str]:
    """Exit code and what is on stderr, which must be all there is, without the code in brackets."""
    result = app(*arguments)
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    return result.exit_code, uncoded(result.stderr)
