"""Layers that take the place of torch's own where those can't have other sizes. Their classes are written into the
generated file, so this file imports torch only.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class MultiheadAttention(nn.Module):
    """``nn.MultiheadAttention`` whose heads need not fill the embedding; its parameters have the same names."""

    def __init__(self, embed_dim, num_heads, head_dim, bias=True, dropout=0.0, batch_first=False):
        super().__init__()
        inner_dim = num_heads * head_dim
        self.in_proj_weight = nn.Parameter(torch.empty(3 * inner_dim, embed_dim))
        nn.init.xavier_uniform_(self.in_proj_weight)
        self.register_parameter("in_proj_bias", nn.Parameter(torch.zeros(3 * inner_dim)) if bias else None)
        self.out_proj = nn.Linear(inner_dim, embed_dim, bias=bias)
        self.num_heads = num_heads
        self.scale = head_dim**-0.5
        self.dropout = dropout
        self.batch_first = batch_first

    def forward(
        self, query, key, value, key_padding_mask=None, need_weights=True, attn_mask=None,
        average_attn_weights=True, is_causal=False,
    ):  # fmt: skip
        weights = self.projections()
        biases = (None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        inputs = (query, key, value)
        if query.dim() == 3 and not self.batch_first:
            inputs = (x.transpose(0, 1) for x in inputs)
        q, k, v = (
            F.linear(x, weight, bias).unflatten(-1, (self.num_heads, -1)).transpose(-3, -2)
            for x, weight, bias in zip(inputs, weights, biases, strict=True)
        )
        mask = self.joint_mask(attn_mask, key_padding_mask, q)
        dropout = self.dropout if self.training else 0.0
        if need_weights:
            attention = q @ k.transpose(-2, -1) * self.scale
            attention = (attention if mask is None else attention + mask).softmax(-1)
            attention = F.dropout(attention, dropout)
            x = attention @ v
        else:
            attention = None
            x = F.scaled_dot_product_attention(q, k, v, mask, dropout, scale=self.scale)
        x = self.out_proj(x.transpose(-3, -2).flatten(-2))
        if query.dim() == 3 and not self.batch_first:
            x = x.transpose(0, 1)
        return x, attention.mean(-3) if need_weights and average_attn_weights else attention

    def projections(self):
        return self.in_proj_weight.chunk(3)

    def joint_mask(self, attn_mask, key_padding_mask, q):
        """What to add to the scores. In a mask of bools, True means: do not look there."""
        masks = []
        for mask in (attn_mask, key_padding_mask):
            if mask is not None and mask.dtype == torch.bool:
                mask = torch.zeros_like(mask, dtype=q.dtype).masked_fill(mask, float("-inf"))
            masks.append(mask)
        attn_mask, key_padding_mask = masks
        if attn_mask is not None and attn_mask.dim() == 3:
            attn_mask = attn_mask.unflatten(0, (-1, self.num_heads))
        if key_padding_mask is None:
            return attn_mask
        key_padding_mask = key_padding_mask[..., None, None, :]
        return key_padding_mask if attn_mask is None else attn_mask + key_padding_mask


class CrossAttention(MultiheadAttention):
    """The same for keys and values of widths of their own."""

    def __init__(self, embed_dim, num_heads, head_dim, kdim, vdim, bias=True, dropout=0.0, batch_first=False):
        nn.Module.__init__(self)
        inner_dim = num_heads * head_dim
        self.q_proj_weight = nn.Parameter(torch.empty(inner_dim, embed_dim))
        self.k_proj_weight = nn.Parameter(torch.empty(inner_dim, kdim))
        self.v_proj_weight = nn.Parameter(torch.empty(inner_dim, vdim))
        for weight in self.projections():
            nn.init.xavier_uniform_(weight)
        self.register_parameter("in_proj_bias", nn.Parameter(torch.zeros(3 * inner_dim)) if bias else None)
        self.out_proj = nn.Linear(inner_dim, embed_dim, bias=bias)
        self.num_heads = num_heads
        self.scale = head_dim**-0.5
        self.dropout = dropout
        self.batch_first = batch_first

    def projections(self):
        return self.q_proj_weight, self.k_proj_weight, self.v_proj_weight


class TransformerEncoderLayer(nn.Module):
    """``nn.TransformerEncoderLayer`` with an attention of any size."""

    def __init__(self, self_attn, embed_dim, dim_feedforward, dropout=0.1, activation=F.relu, norm_first=False):
        super().__init__()
        self.self_attn = self_attn
        self.linear1 = nn.Linear(embed_dim, dim_feedforward)
        self.dropout = nn.Dropout(dropout)
        self.linear2 = nn.Linear(dim_feedforward, embed_dim)
        self.norm1 = nn.LayerNorm(embed_dim)
        self.norm2 = nn.LayerNorm(embed_dim)
        self.dropout1 = nn.Dropout(dropout)
        self.dropout2 = nn.Dropout(dropout)
        self.activation = activation
        self.norm_first = norm_first

    def forward(self, src, src_mask=None, src_key_padding_mask=None, is_causal=False):
        x = src
        if self.norm_first:
            x = x + self.attend(self.norm1(x), src_mask, src_key_padding_mask)
            return x + self.feed_forward(self.norm2(x))
        x = self.norm1(x + self.attend(x, src_mask, src_key_padding_mask))
        return self.norm2(x + self.feed_forward(x))

    def attend(self, x, mask, padding):
        return self.dropout1(self.self_attn(x, x, x, padding, need_weights=False, attn_mask=mask)[0])

    def feed_forward(self, x):
        return self.dropout2(self.linear2(self.dropout(self.activation(self.linear1(x)))))


class TransformerDecoderLayer(nn.Module):
    """``nn.TransformerDecoderLayer`` with attentions of any size."""

    def __init__(
        self, self_attn, multihead_attn, embed_dim, dim_feedforward, dropout=0.1, activation=F.relu, norm_first=False
    ):  # fmt: skip
        super().__init__()
        self.self_attn = self_attn
        self.multihead_attn = multihead_attn
        self.linear1 = nn.Linear(embed_dim, dim_feedforward)
        self.dropout = nn.Dropout(dropout)
        self.linear2 = nn.Linear(dim_feedforward, embed_dim)
        self.norm1 = nn.LayerNorm(embed_dim)
        self.norm2 = nn.LayerNorm(embed_dim)
        self.norm3 = nn.LayerNorm(embed_dim)
        self.dropout1 = nn.Dropout(dropout)
        self.dropout2 = nn.Dropout(dropout)
        self.dropout3 = nn.Dropout(dropout)
        self.activation = activation
        self.norm_first = norm_first

    def forward(
        self, tgt, memory, tgt_mask=None, memory_mask=None, tgt_key_padding_mask=None,
        memory_key_padding_mask=None, tgt_is_causal=False, memory_is_causal=False,
    ):  # fmt: skip
        x = tgt
        if self.norm_first:
            x = x + self.attend(self.norm1(x), tgt_mask, tgt_key_padding_mask)
            x = x + self.look_up(self.norm2(x), memory, memory_mask, memory_key_padding_mask)
            return x + self.feed_forward(self.norm3(x))
        x = self.norm1(x + self.attend(x, tgt_mask, tgt_key_padding_mask))
        x = self.norm2(x + self.look_up(x, memory, memory_mask, memory_key_padding_mask))
        return self.norm3(x + self.feed_forward(x))

    def attend(self, x, mask, padding):
        return self.dropout1(self.self_attn(x, x, x, padding, need_weights=False, attn_mask=mask)[0])

    def look_up(self, x, memory, mask, padding):
        return self.dropout2(self.multihead_attn(x, memory, memory, padding, need_weights=False, attn_mask=mask)[0])

    def feed_forward(self, x):
        return self.dropout3(self.linear2(self.dropout(self.activation(self.linear1(x)))))


class TransformerEncoder(nn.Module):
    """``nn.TransformerEncoder`` whose layers may differ."""

    def __init__(self, layers, norm=None):
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.norm = norm

    def forward(self, src, mask=None, src_key_padding_mask=None, is_causal=None):
        x = src
        for layer in self.layers:
            x = layer(x, mask, src_key_padding_mask)
        return x if self.norm is None else self.norm(x)


class TransformerDecoder(nn.Module):
    """``nn.TransformerDecoder`` whose layers may differ."""

    def __init__(self, layers, norm=None):
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.norm = norm

    def forward(
        self, tgt, memory, tgt_mask=None, memory_mask=None, tgt_key_padding_mask=None,
        memory_key_padding_mask=None, tgt_is_causal=None, memory_is_causal=False,
    ):  # fmt: skip
        x = tgt
        for layer in self.layers:
            x = layer(x, memory, tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask)
        return x if self.norm is None else self.norm(x)


class Transformer(nn.Module):
    """``nn.Transformer`` of an encoder and a decoder whose layers may differ."""

    def __init__(self, encoder, decoder):
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def forward(
        self, src, tgt, src_mask=None, tgt_mask=None, memory_mask=None, src_key_padding_mask=None,
        tgt_key_padding_mask=None, memory_key_padding_mask=None, src_is_causal=None, tgt_is_causal=None,
        memory_is_causal=False,
    ):  # fmt: skip
        memory = self.encoder(src, src_mask, src_key_padding_mask)
        masks = (tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask)
        return self.decoder(tgt, memory, *masks)

    @staticmethod
    def generate_square_subsequent_mask(sz, device=None, dtype=None):
        return nn.Transformer.generate_square_subsequent_mask(sz, device, dtype)
