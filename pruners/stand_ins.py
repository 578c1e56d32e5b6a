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
        weights = self.in_proj_weight.chunk(3)
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
