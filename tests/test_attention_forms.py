"""The forms that attention comes in: every one is pruned, written, run and proved."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from forms import pruned

from pruners.verify import many_verifications

NET = '''

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(5, 16)
        self.attention = Attention(16, {sizes})
        self.head = nn.Linear(16, 3)

    def forward(self, x):
        x = self.embed(x)
        x = x + self.attention(x)
        return self.head(x.mean(1))
'''

PACKED = '''
class Attention(nn.Module):
    def __init__(self, dim, num_heads):
        super().__init__()
        self.num_heads = num_heads
        self.head_dim = dim // num_heads
        self.scale = self.head_dim**-0.5
        self.fused = True
        self.qkv = nn.Linear(dim, dim * 3)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x):
        B, N, C = x.shape
        qkv = self.qkv(x).reshape(B, N, 3, self.num_heads, self.head_dim)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        {attend}
        return self.proj(x.transpose(1, 2).reshape(B, N, C))
'''

GROUPED = '''
class Attention(nn.Module):
    def __init__(self, dim, heads, groups):
        super().__init__()
        self.heads, self.groups, self.head_dim = heads, groups, dim // heads
        self.q = nn.Linear(dim, dim, bias=False)
        self.k = nn.Linear(dim, groups * self.head_dim)
        self.v = nn.Linear(dim, groups * self.head_dim)
        self.o = nn.Linear(dim, dim)

    def repeated(self, x):
        B, G, N, D = x.shape
        times = self.heads // self.groups
        return x[:, :, None].expand(B, G, times, N, D).reshape(B, G * times, N, D)

    def forward(self, x):
        B, N, C = x.shape
        q = self.q(x).view(B, N, self.heads, self.head_dim).transpose(1, 2)
        k = self.k(x).view(B, N, self.groups, self.head_dim).transpose(1, 2)
        v = self.v(x).view(B, N, self.groups, self.head_dim).transpose(1, 2)
        {attend}
        return self.o(x.transpose(1, 2).reshape(B, N, C))
'''

NON_LOCAL = '''
class Attention(nn.Module):
    def __init__(self, dim, inner):
        super().__init__()
        self.q, self.k = nn.Linear(dim, inner), nn.Linear(dim, inner)
        self.v, self.o = nn.Linear(dim, 12), nn.Linear(12, dim)

    def forward(self, x):
        q, k = self.q(x), self.k(x)
        attn = (q @ k.transpose(1, 2) / q.shape[-1] ** 0.5).softmax(-1)
        return self.o(attn @ self.v(x))
'''

HELPERS = '''
def split_heads(x, heads):
    B, N, C = x.shape
    return x.view(B, N, heads, C // heads).permute(0, 2, 1, 3)


def merge_heads(x):
    return x.permute(0, 2, 1, 3).flatten(2)


class Attention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.to_q, self.to_kv = nn.Linear(dim, dim, bias=False), nn.Linear(dim, 2 * dim, bias=False)
        self.to_out = nn.Sequential(nn.Linear(dim, dim), nn.Dropout(0.1))
        self.scale = (dim // heads) ** -0.5

    def forward(self, x):
        q, k, v = self.to_q(x), *self.to_kv(x).chunk(2, dim=-1)
        q, k, v = (split_heads(t, self.heads) for t in (q, k, v))
        dots = torch.einsum("b h i d, b h j d -> b h i j", q, k) * self.scale
        return self.to_out(merge_heads(torch.einsum("b h i j, b h j d -> b h i d", dots.softmax(dim=-1), v)))
'''

SDPA = "x = F.scaled_dot_product_attention({})"


def packed(attend: str, heads: int = 4) -> str:
    return PACKED.format(attend=attend) + NET.format(sizes=heads)


def grouped(attend: str, sizes: str = "4, 2") -> str:
    return GROUPED.format(attend=attend) + NET.format(sizes=sizes)


@pytest.fixture(scope="module", autouse=True)
def _server() -> Iterator[None]:
    with many_verifications():
        yield


BY_HAND = "x = (q * self.scale @ k.mT).softmax(-1) @ v"
BRANCHES = """if self.fused:
            x = F.scaled_dot_product_attention(q, k, v, dropout_p=0.1 if self.training else 0.0)
        else:
            x = (q * self.scale @ k.transpose(-2, -1)).softmax(dim=-1) @ v"""
EINSUM = """attn = torch.einsum('bhid,bhjd->bhij', q, k) * self.scale
        x = torch.einsum('bhij,bhjd->bhid', attn.softmax(-1), v)"""
QK_NORM = SDPA.format("self.q_norm(q), self.k_norm(k), v")
NORMS = "self.q_norm, self.k_norm = nn.LayerNorm(dim // num_heads), nn.LayerNorm(dim // num_heads)\n        self.qkv ="
REPEATED = f"""k, v = (t.repeat_interleave(self.heads // self.groups, dim=1) for t in (k, v))
        {SDPA.format("q, k, v")}"""

HEADS = {  # source -> widths beside the embedding's, in heads or in groups of heads
    "the fused function": (packed(SDPA.format("q, k, v")), {"attention.qkv": 4}),
    "a causal one": (packed(SDPA.format("q, k, v, is_causal=True")), {"attention.qkv": 4}),
    "one with a mask": (packed(SDPA.format("q, k, v, attn_mask=torch.ones(N, N).tril().bool()")), {"attention.qkv": 4}),
    "one with a bias": (packed(SDPA.format("q, k, v, torch.ones(N, N).tril()")), {"attention.qkv": 4}),
    "a choice of two ways": (packed(BRANCHES), {"attention.qkv": 4}),
    "einsum": (packed(EINSUM), {"attention.qkv": 4}),
    "helper functions": (HELPERS + NET.format(sizes=4), {"attention.to_q": 4}),
    "norms of queries and keys": (packed(QK_NORM).replace("self.qkv =", NORMS), {"attention.qkv": 4}),
    "three projections": (grouped(SDPA.format("q, k, v"), "4, 4"), {"attention.q": 4}),
    "grouped queries": (grouped(SDPA.format("q, k, v, enable_gqa=True")), {"attention.q": 2}),
    "repeated keys": (grouped(REPEATED), {"attention.q": 2}),
    "expanded keys": (
        grouped(f"k, v = self.repeated(k), self.repeated(v)\n        {SDPA.format('q, k, v')}"),
        {"attention.q": 2},
    ),
}


@pytest.mark.parametrize("form", HEADS)
def test_whole_heads_go(tmp_path: Path, form: str) -> None:
    source, widths = HEADS[form]
    _, found, text = pruned(tmp_path, source)
    assert found == {"embed": 16, **widths}
    assert "scale=" not in text


WIDTHS = {  # one head, or heads that share their keys: it gets narrower, and its scale stays
    "the fused function": (packed(SDPA.format("q, k, v"), 1), {"attention.qkv": 16}, "(q, k, v, scale=0.25)"),
    "its arguments in lines": (
        packed(SDPA.format("\n            q,\n            k,\n            v,\n        "), 1),
        {"attention.qkv": 16},
        "            v,\n            scale=0.25,\n        )",
    ),
    "a scale that is said": (
        packed(SDPA.format("q, k, v, scale=q.shape[-1] ** -0.5"), 1),
        {"attention.qkv": 16},
        "(q, k, v, scale=0.25)",
    ),
    "a scale in an attribute": (packed(BY_HAND, 1), {"attention.qkv": 16}, "0.25"),
    "a scale in a tensor": (
        packed("x = (q @ k.mT / torch.full([], v.size(-1) ** 0.5)).softmax(-1) @ v", 1),
        {"attention.qkv": 16},
        "torch.full([], 4.0)",
    ),
    "norms of queries and keys": (
        packed(QK_NORM, 1).replace("self.qkv =", NORMS),
        {"attention.qkv": 16},
        "scale=0.25",
    ),
    "keys shared by all heads": (
        grouped(SDPA.format("q, k, v, enable_gqa=True"), "4, 1"),
        {"attention.q": 4, "attention.v": 4},
        "scale=0.5)",
    ),
    "queries and values of different widths": (
        NON_LOCAL + NET.format(sizes=8),
        {"attention.q": 8, "attention.v": 12},
        "/ 2.8284271247461903",
    ),
}


@pytest.mark.parametrize("form", WIDTHS)
def test_heads_get_narrower_and_keep_their_scale(tmp_path: Path, form: str) -> None:
    source, widths, said = WIDTHS[form]
    _, found, text = pruned(tmp_path, source)
    assert found == {"embed": 16, **widths}
    assert said in text
