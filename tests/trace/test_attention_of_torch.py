"""``nn.MultiheadAttention``: pruned as it is where it can be, else written as a class of its own."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from forms import pruned
from torch import Tensor, nn

from secateur.pruners.scratch import import_file
from secateur.pruners.slicing.stand_ins import MultiheadAttention

NET = '''
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(5, 24)
        self.memory = {memory}
        self.attention = {attention}
        self.fc1, self.fc2 = nn.Linear(24, 12), nn.Linear(12, 3)

    def forward(self, x):
        x = self.embed(x)
        m = self.memory(x)
        {call}
        return self.fc2(self.fc1(x).relu()).mean(1)
'''
SELF = "x = x + self.attention(x, x, x, need_weights=False)[0]"


def net(arguments: str, call: str = SELF, memory: str = "nn.Identity()") -> str:
    return NET.format(attention=f"nn.MultiheadAttention(24, {arguments})", call=call, memory=memory)


def layers(stack: str, call: str = "x = self.attention(x)") -> str:
    return NET.format(attention=f"nn.{stack}", call=call, memory="nn.Identity()")


KEPT = {
    "keys of its own": (net("4, batch_first=True, add_zero_attn=True"), "with keys of its own"),
    "a layer built upon torch's": (
        "class Layer(nn.TransformerEncoderLayer):\n    pass\n\n\n"
        + layers("Layer(24, 4, 8)").replace("nn.Layer", "Layer"),
        "Layer, which is built upon one of torch's layers of fixed sizes",
    ),
    "an author's call of the function": (
        net(
            "4, batch_first=True",
            """a = self.attention
        y = F.multi_head_attention_forward(
            x.transpose(0, 1), x.transpose(0, 1), x.transpose(0, 1), 24, 4, a.in_proj_weight, a.in_proj_bias, None,
            None, False, 0.0, a.out_proj.weight, a.out_proj.bias, need_weights=False,
        )[0]
        x = x + y.transpose(0, 1)""",
        ),
        "F.multi_head_attention_forward, whose sizes are fixed",
    ),
}


@pytest.mark.parametrize("form", KEPT)
def test_stays_whole_and_says_so(tmp_path: Path, form: str) -> None:
    source, reason = KEPT[form]
    pruner, widths, _ = pruned(tmp_path, source)
    assert "attention" not in widths
    assert "embed" not in widths
    assert reason in pruner.graph.why("embed")


MASKED = """mask = torch.ones(x.shape[1], x.shape[1]).triu(1).bool()
        x = x + self.attention(x, x, x, attn_mask=mask, need_weights=False, is_causal=True)[0]"""
PADDED = "x = x + self.attention(x, x, x, key_padding_mask=torch.zeros(x.shape[:2]) > 0)[0]"
CROSS = "x = x + self.attention(x, m, m, need_weights=False)[0]"
FITTING = {
    "batch first": net("4, batch_first=True"),
    "batch second": net("4"),
    "weights asked for": net("4, batch_first=True", "y, _ = self.attention(x, x, x)\n        x = x + y"),
    "no bias": net("4, bias=False, dropout=0.1"),
    "a mask": net("4, batch_first=True", MASKED),
    "padding": net("4, batch_first=True", PADDED),
    "another sequence": net("4, batch_first=True", CROSS, "nn.Linear(24, 24)"),
}


@pytest.mark.parametrize("form", FITTING)
def test_half_the_heads_of_half_the_embedding_are_torchs_own_again(tmp_path: Path, form: str) -> None:
    _, widths, text = pruned(tmp_path, FITTING[form])
    assert widths == {"embed": 24, "attention": 4, "fc1": 12}
    assert "nn.MultiheadAttention(12, 2" in text


OWN = {
    "an odd number of heads": (net("3, batch_first=True"), 3, 8),
    "one head": (net("1"), 24, 24),
    "weights asked for": (net("3", "y, _ = self.attention(x, x, x)\n        x = x + y"), 3, 8),
    "a mask": (net("3, batch_first=True, bias=False", MASKED), 3, 8),
    "padding": (net("3, batch_first=True", PADDED), 3, 8),
    "another sequence": (net("3, dropout=0.1", CROSS, "nn.Linear(24, 24)"), 3, 8),
    "a sequence of another width": (net("3, kdim=8, vdim=8", CROSS, "nn.Linear(24, 8)"), 3, 8),
}


@pytest.mark.parametrize("form", OWN)
def test_other_sizes_are_written_as_a_class(tmp_path: Path, form: str) -> None:
    source, size, head_dim = OWN[form]
    _, widths, text = pruned(tmp_path, source)
    assert widths == {"embed": 24, "attention": size, "fc1": 12} | ({"memory": 8} if "kdim" in source else {})
    assert "class MultiheadAttention(nn.Module):" in text
    assert f"self.scale = {head_dim**-0.5}" in text  # of the heads as they were


ENCODER = "TransformerEncoder(nn.TransformerEncoderLayer(24, {}, 32, batch_first=True), 2, enable_nested_tensor=False)"
DECODER = "TransformerDecoder(nn.TransformerDecoderLayer(24, {}, 32, norm_first=True), 2, norm=nn.LayerNorm(24))"
CAUSAL = "x = self.attention(x, m, tgt_mask=nn.Transformer.generate_square_subsequent_mask(x.shape[0]))"
TRANSFORMER = "Transformer(24, {}, 1, 1, 32, batch_first=True, activation=F.gelu)"
STACKS = {
    "an encoder layer": layers("TransformerEncoderLayer(24, {}, 32, batch_first=True)"),
    "an encoder": layers(ENCODER),
    "a decoder": layers(DECODER, CAUSAL),
    "a transformer": layers(TRANSFORMER, "x = self.attention(x, m)"),
}
FIT = {
    "an encoder layer": "nn.TransformerEncoderLayer(12, 2, 16, batch_first=True)",
    "an encoder": "nn.TransformerEncoderLayer(12, 2, 16, batch_first=True), 2, enable_nested_tensor=False)",
    "a decoder": "nn.TransformerDecoderLayer(12, 2, 16, norm_first=True), 2, norm=nn.LayerNorm(12))",
    "a transformer": "nn.Transformer(12, 2, 1, 1, 16, batch_first=True, activation=F.gelu)",
}


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
@pytest.mark.parametrize("form", STACKS)
def test_stacks_of_torch_get_smaller(tmp_path: Path, form: str) -> None:
    _, widths, text = pruned(tmp_path, STACKS[form].format(4))
    assert {size for name, size in widths.items() if "attn" in name} == {4}
    assert widths["embed"] == 24
    assert FIT[form] in text
    twin = import_file(tmp_path / "out" / "model.py").Net().eval()
    x = torch.randn(2, 7, 5)
    with torch.no_grad():
        quick = twin(x)
        torch.backends.mha.set_fastpath_enabled(False)
        slow = twin(x)
        torch.backends.mha.set_fastpath_enabled(True)
    torch.testing.assert_close(quick, slow)


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
@pytest.mark.parametrize("form", STACKS)
def test_stacks_of_other_sizes_are_written_as_classes(tmp_path: Path, form: str) -> None:
    _, widths, text = pruned(tmp_path, STACKS[form].format(3))
    assert {size for name, size in widths.items() if "attn" in name} == {3}
    assert "class MultiheadAttention(nn.Module):" in text
    assert "nn.Transformer" not in text.partition("class Net")[2].replace("nn.Transformer.generate", "")


def test_a_sequence_of_another_width_loses_its_own(tmp_path: Path) -> None:
    source = net("4, kdim=8, vdim=8, batch_first=True", CROSS, "nn.Linear(24, 8)")
    _, widths, text = pruned(tmp_path, source)
    assert widths == {"embed": 24, "memory": 8, "attention": 4, "fc1": 12}
    assert "nn.MultiheadAttention(12, 2" in text


@pytest.mark.parametrize("form", ["an odd number of heads", "a sequence of another width"])
def test_a_written_attention_can_be_pruned_again(tmp_path: Path, form: str) -> None:
    _, first, text = pruned(tmp_path, OWN[form][0])
    (tmp_path / "again").mkdir()
    _, second, _ = pruned(tmp_path / "again", text.partition("from torch import nn\n")[2])
    assert second == {name: -(-size // 2) for name, size in first.items()}


def test_heads_alone_are_pruned_where_the_embedding_is_skipped(tmp_path: Path) -> None:
    _, widths, text = pruned(tmp_path, net("4"), skip=["embed"])
    assert widths == {"attention": 4, "fc1": 12}
    assert "self.out_proj = nn.Linear(12, 24)" in text


@pytest.mark.parametrize(("batch_first", "bias", "weights", "averaged"), list(product([True, False], repeat=4)))
def test_the_class_computes_what_torchs_own_does(batch_first: bool, bias: bool, weights: bool, averaged: bool) -> None:
    torch.manual_seed(0)
    own: Any = nn.MultiheadAttention(16, 4, bias=bias, batch_first=batch_first).double().eval()
    other = MultiheadAttention(16, 4, 4, bias=bias, batch_first=batch_first).double().eval()
    other.load_state_dict(own.state_dict())
    assert list(own.state_dict()) == list(other.state_dict())
    q, k = torch.randn(2, 5, 16).double(), torch.randn(2, 7, 16).double()
    padding = torch.arange(7).expand(2, 7) > 4
    masks: list[Tensor | None] = [None, torch.randn(5, 7) > 1, torch.randn(8, 5, 7) > 1]
    if not batch_first:
        q, k = q.transpose(0, 1), k.transpose(0, 1)
    with torch.no_grad():
        for mask, pad in product(masks, [None, padding]):
            options = {"need_weights": weights, "average_attn_weights": averaged}
            found = (m(q, k, k, pad, attn_mask=mask, **options) for m in (own, other))
            torch.testing.assert_close(*found)
        torch.testing.assert_close(own(q[0], k[0], k[0])[0], other(q[0], k[0], k[0])[0])


@pytest.mark.parametrize("call", ["self.layer(x, mask)", "self.attention(x, x, x, attn_mask=mask)[0]",
                                  "F.scaled_dot_product_attention(x, x, x, mask)"])
@pytest.mark.parametrize("mask", ["torch.full((7, 7), float('-inf')).triu(1)",
                                  "(torch.ones(7, 7).tril() - 1).float() * 9"])
def test_a_mask_made_in_forward_is_one_in_float64_too(tmp_path: Path, call: str, mask: str) -> None:
    part = call.partition("(")[0].removeprefix("self.")
    made = {"layer": "nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)",
            "attention": "nn.MultiheadAttention(16, 2, batch_first=True)"}.get(part, "nn.Identity()")
    _, _, text = pruned(tmp_path, f"""
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Linear(5, 16), nn.Linear(16, 3)
        self.{part.partition('.')[0]} = {made}

    def forward(self, x):
        x = self.stem(x)
        mask = {mask}
        return self.head(x + {call})
""")
    assert mask in text


def test_the_mask_that_a_transformer_makes_is_made_by_what_is_written_in_its_place(tmp_path: Path) -> None:
    _, _, text = pruned(tmp_path, """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Linear(5, 16), nn.Linear(16, 3)
        self.transformer = nn.Transformer(16, 2, 1, 1, 32, batch_first=True)

    def forward(self, x):
        x = self.stem(x)
        mask = self.transformer.generate_square_subsequent_mask(x.size(1))
        return self.head(self.transformer(x, x, tgt_mask=mask))
""")
    assert "self.transformer.generate_square_subsequent_mask(x.size(1))" in text
