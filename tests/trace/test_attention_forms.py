"""The forms that attention comes in: every one is pruned, written, run and proved."""

from __future__ import annotations

from pathlib import Path

import pytest
from forms import pruned

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


BY_HAND = "x = (q * self.scale @ k.mT).softmax(-1) @ v"
BRANCHES = """if self.fused:
            x = F.scaled_dot_product_attention(q, k, v, dropout_p=0.1 if self.training else 0.0)
        else:
            x = (q * self.scale @ k.transpose(-2, -1)).softmax(dim=-1) @ v"""
EINSUM = """attn = torch.einsum('bhid,bhjd->bhij', q, k) * self.scale
        x = torch.einsum('bhij,bhjd->bhid', attn.softmax(-1), v)"""
QK_NORM = SDPA.format("self.q_norm(q), self.k_norm(k), v")
NORMS = "self.q_norm, self.k_norm = nn.LayerNorm(dim // num_heads), nn.LayerNorm(dim // num_heads)\n        self.qkv ="
BY_HAND_6 = "x = (q * 0.5 @ k.mT).softmax(-1) @ v"
REPEATED = f"""k, v = (t.repeat_interleave(self.heads // self.groups, dim=1) for t in (k, v))
        {SDPA.format("q, k, v")}"""
REPEAT_KV = """
def repeat_kv(x, times):
    batch, heads, length, width = x.shape
    if times == 1:
        return x
    x = x[:, :, None, :, :].expand(batch, heads, times, length, width)
    return x.reshape(batch, heads * times, length, width)

"""
KEYS_OR_COPIES = "k, v = repeat_kv(k, self.heads // self.groups), repeat_kv(v, self.heads // self.groups)\n        "
IN_TURN = "k, v = (t.repeat(1, self.heads // self.groups, 1, 1) for t in (k, v))\n        "
IN_FLOAT32 = """attn = torch.matmul(q, k.transpose(2, 3)) * self.head_dim**-0.5
        attn = attn + torch.full((N, N), -1e9).triu(1)
        attn = F.softmax(attn, dim=-1, dtype=torch.float32).to(q.dtype)
        x = torch.matmul(F.dropout(attn, p=0.1, training=self.training), v)"""
IN_GROUPS = """q = q.reshape(B, self.groups, -1, N, self.head_dim)
        attn = (q @ k.unsqueeze(2).transpose(-2, -1)) * self.head_dim**-0.5
        x = (attn.softmax(-1) @ v.unsqueeze(2)).flatten(1, 2)"""

RMS_NORM = """
class Norm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return {}

"""
SCALED = "x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)"


def root_mean_squares(norm: str, attend: str = QK_NORM) -> str:
    return RMS_NORM.format(norm) + packed(attend).replace("self.qkv =", NORMS.replace("nn.LayerNorm", "Norm"))


QK_BY_HAND = "x = (self.q_norm(q) * self.scale @ self.k_norm(k).mT).softmax(-1) @ v"

HEADS = {  # source -> widths beside the embedding's, in heads or in groups of heads
    "the fused function": (packed(SDPA.format("q, k, v")), {"attention.qkv": 4}),
    "a causal one": (packed(SDPA.format("q, k, v, is_causal=True")), {"attention.qkv": 4}),
    "one with a mask": (packed(SDPA.format("q, k, v, attn_mask=torch.ones(N, N).tril().bool()")), {"attention.qkv": 4}),
    "one with a bias": (packed(SDPA.format("q, k, v, torch.ones(N, N).tril()")), {"attention.qkv": 4}),
    "a choice of two ways": (packed(BRANCHES), {"attention.qkv": 4}),
    "einsum": (packed(EINSUM), {"attention.qkv": 4}),
    "helper functions": (HELPERS + NET.format(sizes=4), {"attention.to_q": 4}),
    "norms of queries and keys": (packed(QK_NORM).replace("self.qkv =", NORMS), {"attention.qkv": 4}),
    "norms of their own, the weight first": (root_mean_squares(f"self.weight * {SCALED}"), {"attention.qkv": 4}),
    "norms of their own, the weight last": (root_mean_squares(f"{SCALED} * self.weight"), {"attention.qkv": 4}),
    "norms of their own, one and the weight": (
        root_mean_squares(f"({SCALED}) * (1.0 + self.weight)", QK_BY_HAND),
        {"attention.qkv": 4},
    ),
    "three projections": (grouped(SDPA.format("q, k, v"), "4, 4"), {"attention.q": 4}),
    "grouped queries": (grouped(SDPA.format("q, k, v, enable_gqa=True")), {"attention.q": 2}),
    "repeated keys": (grouped(REPEATED), {"attention.q": 2}),
    "expanded keys": (
        grouped(f"k, v = self.repeated(k), self.repeated(v)\n        {SDPA.format('q, k, v')}"),
        {"attention.q": 2},
    ),
    "expanded keys, by hand": (REPEAT_KV + grouped(KEYS_OR_COPIES + IN_FLOAT32), {"attention.q": 2}),
    "expanded keys, the fused function": (
        REPEAT_KV + grouped(KEYS_OR_COPIES + SDPA.format("q, k, v")),
        {"attention.q": 2},
    ),
    "keys repeated in turn, by hand": (grouped(IN_TURN + IN_FLOAT32), {"attention.q": 2}),
    "queries laid out in groups": (grouped(IN_GROUPS), {"attention.q": 2}),
    "keys expanded by a number of their own": (
        grouped(f"k, v = (t.unsqueeze(2).expand(-1, -1, 3, -1, -1).flatten(1, 2) for t in (k, v))\n        {BY_HAND_6}")
        .replace("16", "24")
        .replace("self.attention = Attention(24, 4, 2)", "self.attention = Attention(24, 6, 2)"),
        {"embed": 24, "attention.q": 2},
    ),
}


ROTARY = """
def rotate_half(x):
    x1, x2 = x.chunk(2, dim=-1)
    return torch.cat((-x2, x1), dim=-1)


def table(dim, length):
    freqs = 100.0 ** -(torch.arange(0, dim, 2) / dim)
    angles = torch.outer(torch.arange(length), freqs)
    return torch.cat([angles, angles], -1)


def turned(x, angles):
    z = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
    z = z * torch.polar(torch.ones_like(angles), angles)[:, : z.shape[-1]]
    return torch.view_as_real(z).flatten(3).type_as(x)

"""
INIT = "self.qkv ="
ROTATED = f"""cos, sin = self.angles[:N].cos(), self.angles[:N].sin()
        q, k = (t * cos + rotate_half(t) * sin for t in (q, k))
        {SDPA.format("q, k, v")}"""
TURNED = f"""q, k = (turned(t, self.angles[:N]) for t in (q, k))
        {SDPA.format("q, k, v")}"""
ANGLES = 'self.register_buffer("angles", table(self.head_dim, 32), persistent=False)\n        self.qkv ='
TABLE = """self.table = nn.Parameter(torch.zeros(13, num_heads))
        index = torch.arange(7)[:, None] - torch.arange(7)[None, :] + 6
        self.register_buffer("index", index, persistent=False)
        self.qkv ="""
TABLED = f"""bias = self.table[self.index.view(-1)].view(N, N, -1).permute(2, 0, 1)
        {SDPA.format("q, k, v, attn_mask=bias.unsqueeze(0)")}"""
TABLE_OF_HEADS = """self.table = nn.Parameter(torch.zeros(num_heads, 13))
        index = torch.arange(7)[:, None] - torch.arange(7)[None, :] + 6
        self.register_buffer("index", index, persistent=False)
        self.kept = {}
        self.qkv ="""
KEPT = f"""if x.device not in self.kept:
            self.kept[x.device] = self.table[:, self.index]
        {SDPA.format("q, k, v, attn_mask=self.kept[x.device]")}"""
SLOPES = """slopes = 2.0 ** -torch.arange(1, num_heads + 1).view(num_heads, 1, 1)
        self.register_buffer("slopes", slopes{})
        self.qkv ="""
SLOPED = f"""distance = torch.arange(N)[None, :] - torch.arange(N)[:, None]
        {SDPA.format("q, k, v, attn_mask=self.slopes * distance")}"""
COSINE = """attn = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT
        x = (attn * self.logit_scale.clamp(max=4.6).exp()).softmax(-1) @ v"""
CROSS_COVARIANCE = """q, k, v = F.normalize(q.mT, dim=-1), F.normalize(k.mT, dim=-1), v.mT
        x = (((q @ k.mT) * self.logit_scale).softmax(-1) @ v).mT"""
PER_HEAD = "self.logit_scale = nn.Parameter(torch.ones(num_heads, 1, 1))\n        self.qkv ="
LINEAR = """q, k = F.elu(q) + 1.0, F.elu(k) + 1.0
        z = 1.0 / (torch.einsum("bhnd,bhd->bhn", q, k.sum(2)) + 1e-6)
        x = torch.einsum("bhnd,bhde,bhn->bhne", q, torch.einsum("bhnd,bhne->bhde", k, v), z)"""
TALKING = """attn = self.mix(((q * self.scale) @ k.mT).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        x = attn.softmax(-1) @ v"""
BIASES = """self.q_bias, self.v_bias = nn.Parameter(torch.zeros(dim)), nn.Parameter(torch.zeros(dim))
        self.register_buffer("k_bias", torch.zeros(dim), persistent=False)
        self.qkv ="""
BIASED = packed(SDPA.format("q, k, v")).replace("dim * 3)", "dim * 3, bias=False)").replace(
    "self.qkv(x)", "F.linear(x, self.qkv.weight, torch.cat((self.q_bias, self.k_bias, self.v_bias)))"
)
PER_HEAD_FORMS = {
    "rotated in halves": ROTARY + packed(ROTATED).replace(INIT, ANGLES),
    "rotated as complex numbers": ROTARY + packed(TURNED).replace(INIT, ANGLES),
    "a table of relative positions": packed(TABLED).replace(INIT, TABLE),
    "a table that the first run looks up": packed(KEPT).replace(INIT, TABLE_OF_HEADS),
    "slopes": packed(SLOPED).replace(INIT, SLOPES.format("")),
    "slopes outside the checkpoint": packed(SLOPED).replace(INIT, SLOPES.format(", persistent=False")),
    "cosines": packed(COSINE).replace(INIT, PER_HEAD),
    "covariances of channels": packed(CROSS_COVARIANCE).replace(INIT, PER_HEAD),
    "linear attention": packed(LINEAR),
    "talking heads": packed(TALKING).replace(INIT, "self.mix = nn.Linear(num_heads, num_heads)\n        self.qkv ="),
    "biases of their own": BIASED.replace(INIT, BIASES),
}


@pytest.mark.parametrize("form", PER_HEAD_FORMS)
def test_what_belongs_to_a_head_goes_with_it(tmp_path: Path, form: str) -> None:
    _, found, _ = pruned(tmp_path, PER_HEAD_FORMS[form].replace("16", "24"))
    assert found == {"embed": 24, "attention.qkv": 4}


def test_slopes_made_from_the_number_of_heads_keep_the_heads(tmp_path: Path) -> None:
    made = "slopes = 2.0 ** -torch.arange(1, self.num_heads + 1).view(-1, 1, 1)"
    source = packed(f"{made}\n        {SLOPED.replace('self.slopes', 'slopes')}").replace("16", "24")
    _, found, _ = pruned(tmp_path, source)
    assert found == {"embed": 24, "attention.qkv": 6}  # they get narrower


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
        {"attention.q": 4},  # one attribute says how wide keys and values are
        "scale=0.5)",
    ),
    "keys shared by all heads, by hand": (grouped(IN_FLOAT32, "4, 1"), {"attention.q": 4}, "* 0.5"),
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
