"""Expressions that make a tensor or a parameter like a live one: zeros of its shape."""

from __future__ import annotations

import torch
from torch import nn

from ...run import dense
from .terms import Arg, Call, Lit, Ref, Term

FEW = 16  # elements of a tensor that may be an argument


def parameter_call(tensor: torch.Tensor | None, usual: torch.dtype) -> Term:
    if tensor is None:
        return Lit(None)
    grad = Arg("requires_grad", Lit(tensor.requires_grad), Lit(True))
    return Call(nn.Parameter, (Arg("data", tensor_call(tensor, torch.zeros, usual), positional=True), grad))


def tensor_call(tensor: torch.Tensor, create: object, usual: torch.dtype) -> Call:
    """``usual``: the floating type that needs no mention."""
    sizes = tuple(Arg(str(i), Lit(int(n)), positional=True) for i, n in enumerate(tensor.shape))
    sizes = sizes or (Arg("size", Lit(()), positional=True),)
    default = usual if tensor.is_floating_point() else torch.get_default_dtype()
    return Call(create, (*sizes, Arg("dtype", Ref(tensor.dtype), Ref(default))))


def small_tensor(value: object) -> Call | None:
    """A literal of a tensor that is small enough for one."""
    return literal_tensor(value) if isinstance(value, torch.Tensor) and value.numel() <= FEW else None


def literal_tensor(tensor: torch.Tensor) -> Call:
    values = Arg("data", Lit(dense(tensor).tolist()), positional=True)
    return Call(torch.tensor, (values, Arg("dtype", Ref(tensor.dtype))))
