"""Attention, shuffles and auxiliary heads: from an author's file to a verified bundle."""

from __future__ import annotations

from pathlib import Path

from forms import pruned

SELF_ATTENTION = '''
class Attention(nn.Module):
    """Self-attention with the three projections in one."""

    def __init__(self, dim, num_heads):
        super().__init__()
        self.num_heads = num_heads
        self.scale = (dim // num_heads) ** -0.5
        self.qkv = nn.Linear(dim, dim * 3)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x):
        B, N, C = x.shape
        qkv = self.qkv(x).reshape(B, N, 3, self.num_heads, C // self.num_heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        attn = (q @ k.transpose(-2, -1)) * self.scale
        x = (attn.softmax(-1) @ v).transpose(1, 2).reshape(B, N, C)
        return self.proj(x)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(5, 16)
        self.blocks = nn.Sequential(*[Attention(16, 4) for _ in range(2)])
        self.head = nn.Linear(16, 3)

    def forward(self, x):
        x = self.embed(x)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x.mean(1))
'''

BY_FUNCTION = '''
def attend(x, weight, bias, num_heads):
    B, N, C = x.shape
    q, k, v = F.linear(x, weight, bias).reshape(B, N, 3, num_heads, C // num_heads).permute(2, 0, 3, 1, 4)
    attn = (q * (C // num_heads) ** -0.5) @ k.transpose(-2, -1)
    return (attn.softmax(-1) @ v).transpose(1, 2).reshape(B, N, C)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.num_heads = 4
        self.embed = nn.Linear(5, 16)
        self.qkv, self.proj, self.head = nn.Linear(16, 48), nn.Linear(16, 16), nn.Linear(16, 3)

    def forward(self, x):
        x = self.embed(x)
        x = x + self.proj(attend(x, self.qkv.weight, self.qkv.bias, self.num_heads))
        return self.head(x.mean(1))
'''

GATED = '''
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(5, 24), nn.Linear(12, 3)

    def forward(self, x):
        value, gate = self.up(x).chunk(2, dim=-1)
        return self.down(value * gate.sigmoid()).mean(1)
'''

AUXILIARY = '''
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk, self.head = nn.Linear(5, 8), nn.Linear(8, 3)
        self.extra, self.extra_head = nn.Linear(8, 6), nn.Linear(6, 3)

    def forward(self, x):
        x = self.trunk(x).relu()
        if self.training:
            return self.head(x), self.extra_head(self.extra(x).view(x.size(0), x.size(1), 6))
        return self.head(x)
'''


def test_hand_written_attention_loses_whole_heads_and_keeps_its_scale(tmp_path: Path) -> None:
    _, widths, text = pruned(tmp_path, SELF_ATTENTION)
    assert widths == {"embed": 16, "blocks.0.qkv": 4, "blocks.1.qkv": 4}
    assert "0.5" in text.partition("self.scale")[2].splitlines()[0]  # 4 ** -0.5, not that of the new sizes


def test_attention_in_a_function_takes_its_heads_from_the_caller(tmp_path: Path) -> None:
    _, widths, text = pruned(tmp_path, BY_FUNCTION, skip=["embed"])
    assert widths == {"qkv": 4}
    assert "self.num_heads = 2" in text
    assert "reshape(B, N, 3, num_heads, -1)" in text  # not C // num_heads, which is another number now
    assert ".transpose(1, 2).reshape(B, N, -1)" in text
    assert "attn = (q * 0.5) @" in text


def test_a_gated_layer_loses_half_not_three_quarters(tmp_path: Path) -> None:
    _, widths, text = pruned(tmp_path, GATED)
    assert widths == {"up": 12}
    assert "nn.Linear(5, 12)" in text
    assert "nn.Linear(6, 3)" in text


def test_auxiliary_heads_that_only_training_reaches_are_pruned_along(tmp_path: Path) -> None:
    _, widths, text = pruned(tmp_path, AUXILIARY)
    assert widths == {"trunk": 8, "extra": 6}
    assert ".view(x.size(0), x.size(1), -1)" in text
