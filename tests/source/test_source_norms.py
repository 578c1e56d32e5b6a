"""Norms, masks and parametrizations that a statement lays on a layer: what they did is part of the written weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from forms import pruned

NET = '''
from torch.nn import utils
from torch.nn.utils import parametrize, parametrizations, prune
from torch.nn.utils.parametrizations import spectral_norm


class Unit(nn.Module):
    def forward(self, weight):
        return F.normalize(weight, dim=-1)


class Block(nn.Module):
    def __init__(self, inner, outer, normed=True):
        super().__init__()
        self.fc = nn.Linear(inner, outer)
        nn.init.xavier_uniform_(self.fc.weight)
        {loaded}

    def forward(self, x):
        return self.fc(x)


class Body(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = Block(5, 16), Block(16, 3)

    def forward(self, x):
        return self.two(self.one(x).relu())


def Net():
    net = Body()
    for block in (net.one, net.two):
        {baked}
    return net
'''
BAKED = 'parametrize.remove_parametrizations(block.fc, "weight")'
FORMS = {
    "weight norm": ("parametrizations.weight_norm(self.fc)", "pass"),
    "spectral norm, if asked for": ("if normed:\n            spectral_norm(self.fc)", "pass"),
    "the older weight norm": ("utils.weight_norm(self.fc)", "pass"),
    "a mask": ('prune.l1_unstructured(self.fc, "weight", amount=0.25)', "pass"),
    "the author's own, taken off by the function": (
        'parametrize.register_parametrization(self.fc, "weight", Unit())', BAKED
    ),
    "the author's own, in a loop": (
        'for name in ("weight",):\n            parametrize.register_parametrization(self.fc, name, Unit())', BAKED
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize("form", FORMS)
def test_the_statement_goes(form: str, tmp_path: Path) -> None:
    loaded, baked = FORMS[form]
    _, widths, text = pruned(tmp_path, NET.format(loaded=loaded, baked=baked), example=torch.randn(2, 7, 5))
    assert widths == {"one.fc": 16}
    assert "xavier_uniform_" in text
    assert not any(word in text for word in ("norm(", "parametriz", "prune."))
