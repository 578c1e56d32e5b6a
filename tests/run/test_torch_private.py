"""What the toolkit takes from torch's private parts is there, and does what is relied on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from secateur.pruners.run import (
    CONV_FORWARD,
    TRUNCATED_NORMAL,
    BatchNormBase,
    ConvBase,
    ConvTransposeBase,
    DispatchMode,
    NormBase,
    OpOverload,
    WithoutTorchFunction,
    gather_weights,
    infer_sizes,
    paddings,
    schema_of,
    storage_of,
    tree_flatten,
    tree_leaves,
    tree_map,
    unsaved_buffers,
)

ROOT = Path(__file__).parents[2]


class Operations(DispatchMode):
    """Notes every operation."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Any] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.found.append(func)
        return func(*args, **(kwargs or {}))


class Functions(TorchFunctionMode):
    """Notes every function."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Any] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.found.append(func)
        return func(*args, **(kwargs or {}))


def test_a_dispatch_mode_sees_operations() -> None:
    with Operations() as mode:
        torch.ones(2) + 1
    assert all(isinstance(op, OpOverload) for op in mode.found)
    assert [op.overloadpacket.__name__ for op in mode.found] == ["ones", "add"]


def test_the_truncated_normal_goes_through_one_function(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[Any] = []
    monkeypatch.setattr(nn.init, TRUNCATED_NORMAL, lambda *given, **named: found.append(given[0]))
    weight = nn.Linear(2, 3).weight
    nn.init.trunc_normal_(weight, std=0.02)
    assert found[0] is weight


def test_modes_do_not_import_the_compiler() -> None:
    code = """
import sys, torch
from secateur.pruners.run import DispatchMode
class Mode(DispatchMode):
    found = 0
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.found += 1
        return func(*args, **(kwargs or {}))
class Heir(Mode):
    pass
with Heir() as mode:
    torch.ones(2)
assert mode.found == 1 and "torch._dynamo" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_signatures_say_what_is_written_to() -> None:
    inplace, plain = schema_of(torch.ops.aten.add_.Tensor), schema_of(torch.ops.aten.add.Tensor)
    assert (inplace.is_mutable, plain.is_mutable) == (True, False)
    assert [a.alias_info is not None and a.alias_info.is_write for a in inplace.arguments] == [True, False, False]
    assert [(a.name, a.kwarg_only) for a in plain.arguments] == [("self", False), ("other", False), ("alpha", True)]


def test_functions_can_be_kept_from_a_mode() -> None:
    with Functions() as mode, WithoutTorchFunction():
        torch.ones(2) + 1
    assert mode.found == []


def test_it_is_known_whether_memory_has_one_owner() -> None:
    tensor = torch.empty(2, 3)
    storage = tensor.untyped_storage()
    view = tensor.view(6)
    assert torch._C._storage_Use_Count(storage._cdata) > 1
    del tensor
    assert torch._C._storage_Use_Count(storage._cdata) > 1
    del view
    assert torch._C._storage_Use_Count(storage._cdata) == 1
    assert not torch.frombuffer(bytearray(8), dtype=torch.uint8).untyped_storage().resizable()


def test_storages_have_an_identity() -> None:
    x, empty = torch.ones(4), torch.ones(0)
    assert storage_of(x) == storage_of(x.view(2, 2)[1]) != storage_of(x.clone())
    assert storage_of(empty) != storage_of(torch.ones(0))
    meta = torch.ones(4, device="meta")
    assert storage_of(meta) == storage_of(meta[1:])


@pytest.mark.parametrize("n", [1, 2, 3])
def test_layers_of_a_kind_have_a_common_base(n: int) -> None:
    kinds = {kind: getattr(nn, f"{kind}{n}d") for kind in ("Conv", "ConvTranspose", "BatchNorm", "InstanceNorm")}
    assert issubclass(kinds["Conv"], ConvBase) and not issubclass(kinds["Conv"], ConvTransposeBase)
    assert issubclass(kinds["ConvTranspose"], ConvBase) and issubclass(kinds["ConvTranspose"], ConvTransposeBase)
    assert issubclass(kinds["BatchNorm"], NormBase) and issubclass(kinds["BatchNorm"], BatchNormBase)
    assert issubclass(kinds["InstanceNorm"], NormBase) and not issubclass(kinds["InstanceNorm"], BatchNormBase)
    assert not issubclass(nn.Linear, ConvBase) and not issubclass(nn.GroupNorm, NormBase)


def test_a_convolution_computes_in_one_method() -> None:
    conv, x = nn.Conv2d(3, 4, 3, padding=1), torch.randn(1, 3, 5, 5)
    whole = getattr(conv, CONV_FORWARD)
    assert torch.equal(whole(x, conv.weight, conv.bias), conv(x))
    setattr(conv, CONV_FORWARD, lambda x, weight, bias: whole(x, weight * 0, None))
    assert not conv(x).any()


def test_a_convolution_says_how_it_pads() -> None:
    assert paddings(nn.Conv2d(1, 1, 3, padding=(1, 2))) == (2, 2, 1, 1)
    assert paddings(nn.Conv2d(1, 1, (2, 3), padding="same")) == (1, 1, 0, 1)
    assert paddings(nn.Conv1d(1, 1, 3, padding="valid")) == (0, 0)


def test_a_recurrent_layer_takes_other_weights() -> None:
    layer = nn.LSTM(3, 4)
    layer.weight_ih_l0 = nn.Parameter(torch.randn(16, 2))
    layer.input_size = 2
    gather_weights(layer)
    assert layer(torch.randn(5, 1, 2))[0].shape == (5, 1, 4)


def test_a_lazy_layer_becomes_plain() -> None:
    layer = nn.LazyLinear(3)
    infer_sizes(layer, torch.empty(1, 4))
    assert type(layer) is nn.Linear and layer.in_features == 4 and not layer._forward_pre_hooks


def test_buffers_that_are_not_saved_are_known() -> None:
    module = nn.Module()
    module.register_buffer("saved", torch.ones(1))
    module.register_buffer("lost", torch.ones(1), persistent=False)
    assert unsaved_buffers(module) == {"lost"}
    assert list(module.state_dict()) == ["saved"]


def test_a_module_keeps_its_parts_in_three_dicts() -> None:
    module = nn.Linear(2, 3, bias=False)
    module.act = nn.ReLU()
    module.register_buffer("scale", None)
    assert list(module._parameters) == ["weight", "bias"] and module._parameters["bias"] is None
    assert module._buffers == {"scale": None}
    assert module._modules == {"act": module.act}
    module._parameters["weight"] = nn.Parameter(torch.ones(1, 2))
    assert module(torch.ones(1, 2)).tolist() == [[2.0]]


def test_nested_values_are_taken_apart() -> None:
    nested = {"a": [1, (2, None)], "b": 3}
    assert tree_leaves(nested) == [1, 2, None, 3]
    assert tree_map(lambda n: n and n + 1, nested) == {"a": [2, (3, None)], "b": 4}
    leaves, shape = tree_flatten(nested)
    assert leaves == [1, 2, None, 3]
    assert shape == tree_flatten(nested)[1] != tree_flatten([1])[1]
