"""Lengths that calls of einops say: those that count channels follow, also where they follow from the rest."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from forms import pruned

from secateur.pruners.run import axes_named

NET = '''
from einops import rearrange, repeat


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.heads, self.wide = 4, 8
        self.embed, self.qkv = nn.Linear(5, 24), nn.Linear(24, 96)
        self.out, self.head = nn.Linear(32, 24), nn.Linear(24, 3)

    def attend(self, x):
        {attend}

    def forward(self, x):
        x = self.embed(x)
        return self.head((x + self.out(self.attend(x))).mean(1))
'''
ATTENTION = """q, k, v = (rearrange(t, "b n (h d) -> b h n d", {}) for t in self.qkv(x).chunk(3, -1))
        y = (q @ k.mT / 8**0.5).softmax(-1) @ v
        return rearrange(y, "b h n d -> b n (h d)", {})"""
NARROWER = """y = rearrange(self.qkv(x).relu(), "b n (t c) -> t b n c", t=3, c=32).sum(0)
        return rearrange(y, "b (h w) c -> b c h w", h=7, c=32).flatten(2).mT"""
IN_THE_BATCH = """q, k, v = (rearrange(t, "b n (h d) -> (b h) n d", h=self.heads) for t in self.qkv(x).split(32, -1))
        y = (q @ k.mT).softmax(-1) @ v
        return rearrange(y, "(b h) n d -> b n (h d)", h=self.heads)"""
IN_A_LAMBDA = """b, *_, h = *x.shape, self.heads
        q, k, v = map(lambda t: rearrange(t, "b n (h d) -> b h n d", h=h), self.qkv(x).split(32, -1))
        return rearrange((q @ k.mT).softmax(-1) @ v, "b h n d -> b n (h d)")"""
REPEATED = """q, k, v = self.qkv(x).split(32, -1)
        q, k, v = (rearrange(t, "b n (h d) -> b h n d", d=self.wide) for t in (q, k, v))
        bias = repeat(torch.linspace(0.0, 1.0, 7), "n -> b h m n", b=x.shape[0], h=self.heads, m=7)
        y = ((q @ k.mT + bias).softmax(-1) @ v)
        return rearrange(y, "b h n d -> b n (h d)")"""
FORMS = {  # source -> size of the attention's width, and what the written text says
    "the number of heads": (ATTENTION.format("h=self.heads", ""), 4, "h=self.heads"),
    "heads and their width": (ATTENTION.format("h=self.heads, d=self.wide", "h=self.heads"), 4, "d=self.wide"),
    "their width alone": (ATTENTION.format("d=8", "d=8"), 4, "d=8"),
    "a number of channels besides": (NARROWER, 32, "h=7, c=16"),
    "heads in the batch": (IN_THE_BATCH, 4, "h=self.heads"),
    "heads that a lambda reads of the method around it": (IN_A_LAMBDA, 4, "h=h"),
    "a repetition for each head": (REPEATED, 4, "h=self.heads"),
}


def test_axes_have_numbers_from_the_end_behind_an_ellipsis() -> None:
    left, right = axes_named("b (h d) ... c -> b h (...) d c")
    assert left == {0: ["b"], 1: ["h", "d"], -1: ["c"]}
    assert right == {0: ["b"], 1: ["h"], 3: ["d"], 4: ["c"]}


@pytest.mark.parametrize("form", FORMS)
def test_lengths_that_count_channels_follow(tmp_path: Path, form: str) -> None:
    pytest.importorskip("einops")
    attend, size, said = FORMS[form]
    _, found, text = pruned(tmp_path, NET.format(attend=attend), example=torch.randn(2, 7, 5))
    assert found == {"embed": 24, "qkv": size}
    assert said in text
