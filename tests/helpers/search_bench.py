"""Searches on a small network, and what becomes of them when they crash."""

from __future__ import annotations

import itertools
import json

import pytest
import torch
from hand_graphs import plain, slice_by_hand
from judged_search import judged_search
from torch import nn

from secateur.pruners.search import SearchSettings

IMAGES = torch.randn(8, 3, 4, 4, generator=torch.Generator().manual_seed(0))


class Bench:
    """Callables for a search on a network with a graph by hand. Loss: distance from the original's outputs."""

    def __init__(self, built=None, loss_scale: float = 1.0) -> None:
        self.model, self.graph = built or plain()
        self.scale = loss_scale
        with torch.no_grad():
            self.expected = self.model(IMAGES)
        self.evaluated: list[nn.Module] = []
        self.retrained: list[tuple[nn.Module, int]] = []

    def evaluate(self, model: nn.Module) -> tuple[float, float]:
        self.evaluated.append(model)
        with torch.no_grad():
            found = model.eval()(IMAGES)
        same = (found.argmax(1) == self.expected.argmax(1)).float().mean().item()
        return self.scale * (found - self.expected).square().mean().item(), same

    def retrain(self, model: nn.Module, epochs: int) -> None:
        self.retrained.append((model, epochs))
        optimizer = torch.optim.SGD(model.parameters(), 0.01)
        for _ in range(epochs):
            images = IMAGES + 0.01 * torch.randn_like(IMAGES)
            (model.train()(images) - self.expected).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()

    def realize(self, model: nn.Module, kept) -> nn.Module:
        return slice_by_hand(model, self.graph, kept)

    def search(self, settings: SearchSettings | None = None, **changed):
        callables = {"evaluate": self.evaluate, "retrain": self.retrain, "realize": self.realize}
        return judged_search(self.model, self.graph, settings or SearchSettings(), **{**callables, **changed})


def refusal(error, call, *args, **kwargs) -> str:
    with pytest.raises(error) as caught:
        call(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def events(path):
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    return [{k: v for k, v in entry.items() if k != "seconds"} for entry in entries]


def without_seconds(result):
    return [{k: v for k, v in vars(e).items() if k != "seconds"} for e in result.evaluations]


class Crash(BaseException):
    pass


def crash_at(call, bench: Bench, after: int):
    """The callable, which breaks off the process (as far as a test can) after so many calls of it."""
    left = itertools.count(after, -1)

    def crashing(*args):
        if next(left) == 0:
            raise Crash
        return call(*args)

    return crashing
