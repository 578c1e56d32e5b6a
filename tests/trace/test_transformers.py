"""Whole transformers: embedding width with class token, position embedding and tied weights, MLPs, gated or not."""

from __future__ import annotations

from pathlib import Path

import torch
from forms import pruned

IMAGES = '''
class Attention(nn.Module):
    def __init__(self, dim, num_heads):
        super().__init__()
        self.num_heads, self.head_dim = num_heads, dim // num_heads
        self.qkv, self.proj = nn.Linear(dim, dim * 3), nn.Linear(dim, dim)

    def forward(self, x):
        B, N, C = x.shape
        q, k, v = self.qkv(x).reshape(B, N, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4).unbind(0)
        x = F.scaled_dot_product_attention(q, k, v)
        return self.proj(x.transpose(1, 2).reshape(B, N, C))


class Block(nn.Module):
    def __init__(self, dim, num_heads, init=1e-5):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn = Attention(dim, num_heads)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))
        self.gamma = nn.Parameter(init * torch.ones(dim))

    def forward(self, x):
        x = x + self.gamma * self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Net(nn.Module):
    def __init__(self, dim=16, depth=2):
        super().__init__()
        self.patch_embed = nn.Conv2d(3, dim, 4, stride=4)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + 4, dim))
        self.blocks = nn.ModuleList([Block(dim, 4) for _ in range(depth)])
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, 3)

    def forward(self, x):
        x = self.patch_embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])
'''

TOKENS = '''
class Attention(nn.Module):
    def __init__(self, dim, num_heads, block_size):
        super().__init__()
        self.c_attn, self.c_proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.n_head, self.n_embd = num_heads, dim
        self.register_buffer("bias", torch.tril(torch.ones(block_size, block_size)).view(1, 1, block_size, block_size))

    def forward(self, x):
        B, T, C = x.size()
        q, k, v = self.c_attn(x).split(self.n_embd, dim=2)
        k = k.view(B, T, self.n_head, C // self.n_head).transpose(1, 2)
        q = q.view(B, T, self.n_head, C // self.n_head).transpose(1, 2)
        v = v.view(B, T, self.n_head, C // self.n_head).transpose(1, 2)
        att = (q @ k.transpose(-2, -1)) * (1.0 / k.size(-1) ** 0.5)
        att = att.masked_fill(self.bias[:, :, :T, :T] == 0, float('-inf'))
        y = att.softmax(dim=-1) @ v
        return self.c_proj(y.transpose(1, 2).contiguous().view(B, T, C))


class Block(nn.Module):
    def __init__(self, dim, heads, size):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn = Attention(dim, heads, size)
        self.mlp = nn.ModuleDict(dict(c_fc=nn.Linear(dim, 4 * dim), c_proj=nn.Linear(4 * dim, dim), act=nn.GELU()))

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        m = self.mlp
        return x + m.c_proj(m.act(m.c_fc(self.ln_2(x))))


class Net(nn.Module):
    def __init__(self, vocab=11, dim=16, heads=4, depth=2, size=8):
        super().__init__()
        self.transformer = nn.ModuleDict(dict(
            wte=nn.Embedding(vocab, dim),
            wpe=nn.Embedding(size, dim),
            h=nn.ModuleList([Block(dim, heads, size) for _ in range(depth)]),
            ln_f=nn.LayerNorm(dim),
        ))
        self.lm_head = nn.Linear(dim, vocab, bias=False)
        self.transformer.wte.weight = self.lm_head.weight

    def forward(self, idx):
        b, t = idx.size()
        pos = torch.arange(0, t, dtype=torch.long).unsqueeze(0)
        x = self.transformer.wte(idx) + self.transformer.wpe(pos)
        for block in self.transformer.h:
            x = block(x)
        return self.lm_head(self.transformer.ln_f(x))
'''

GATED = '''
class RMSNorm(nn.Module):
    def __init__(self, dim, eps=1e-6):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


class Net(nn.Module):
    def __init__(self, dim=16, hidden=24):
        super().__init__()
        self.embed = nn.Linear(5, dim)
        self.norm = RMSNorm(dim)
        self.w1, self.w3 = nn.Linear(dim, hidden, bias=False), nn.Linear(dim, hidden, bias=False)
        self.w2 = nn.Linear(hidden, dim, bias=False)
        self.head = nn.Linear(dim, 3)

    def forward(self, x):
        x = self.embed(x)
        h = self.norm(x)
        x = x + self.w2(F.silu(self.w1(h)) * self.w3(h))
        return self.head(x).mean(1)
'''

SIDE_BY_SIDE = '''
class Block(nn.Module):
    """Attention and a gated MLP side by side, one layer for both."""

    def __init__(self, dim, heads, hidden):
        super().__init__()
        self.heads, self.sizes = heads, (dim, dim, dim, 2 * hidden)
        self.head_dim = dim // heads
        self.fused = nn.Linear(dim, sum(self.sizes), bias=False)
        self.attn_out, self.ff_out = nn.Linear(dim, dim, bias=False), nn.Linear(hidden, dim, bias=False)

    def forward(self, x):
        B, N, _ = x.shape
        q, k, v, ff = self.fused(x).split(self.sizes, dim=-1)
        q, k, v = (t.view(B, N, self.heads, -1).transpose(1, 2) for t in (q, k, v))
        a = F.scaled_dot_product_attention(q, k, v)
        value, gate = ff.chunk(2, dim=-1)
        return self.attn_out(a.transpose(1, 2).flatten(2)) + self.ff_out(value * F.silu(gate))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(5, 24)
        self.block = Block(24, 4, 24)
        self.head = nn.Linear(24, 3)

    def forward(self, x):
        x = self.embed(x)
        return self.head((x + self.block(x)).mean(1))
'''


def test_class_token_and_position_embedding_follow_the_embedding(tmp_path: Path) -> None:
    pruner, widths, text = pruned(tmp_path, IMAGES, example=torch.randn(2, 3, 8, 8))
    assert widths == {"patch_embed": 16} | {
        f"blocks.{i}.{name}": size for i in range(2) for name, size in (("attn.qkv", 4), ("mlp.0", 64))
    }
    slots = {str(u.slot) for u in pruner.graph.width("patch_embed").uses}
    assert {"cls_token[2]", "pos_embed[2]", "blocks.0.gamma[0]", "norm.weight[0]"} <= slots
    assert "def __init__(self, dim=8, depth=2)" in text and "nn.Parameter(torch.zeros(1, 1, dim))" in text


def test_tied_embeddings_follow_and_stay_tied(tmp_path: Path) -> None:
    pruner, widths, text = pruned(tmp_path, TOKENS, example=torch.randint(0, 11, (2, 7)))
    assert sorted(widths.values()) == [4, 4, 16, 64, 64]
    assert "self.transformer.wte.weight = self.lm_head.weight" in text
    assert "split(self.n_embd, dim=2)" in text
    assert "embedding looks rows up by number" in {f.reason for f in pruner.graph.frozen}


def test_a_gated_mlp_of_two_layers_loses_half(tmp_path: Path) -> None:
    _, widths, text = pruned(tmp_path, GATED)
    assert widths == {"embed": 16, "w1": 24}
    assert "def __init__(self, dim=8, hidden=12)" in text


def test_attention_and_a_gated_mlp_in_one_layer(tmp_path: Path) -> None:
    _, widths, _ = pruned(tmp_path, SIDE_BY_SIDE)
    assert widths == {"embed": 24, "block.fused": 4, "block.fused#2": 24}
