"""Operations of the user's own, and the rules that users give them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from secateur import trace
from secateur.pruners.errors import UsageError
from secateur.pruners.trace import Call, Tracer, elementwise, freeze_axes, label_rule


@torch.library.custom_op("secateur_tests::swish", mutates_args=())
def swish(x: Tensor, beta: float) -> Tensor:
    return x * torch.sigmoid(beta * x)


@torch.library.custom_op("secateur_tests::unknown_swish", mutates_args=())
def unknown_swish(x: Tensor, beta: float) -> Tensor:
    return x * torch.sigmoid(beta * x)


@torch.library.custom_op("secateur_tests::reversed", mutates_args=())
def reversed_channels(x: Tensor, beta: float) -> Tensor:
    return x.flip(1)


@label_rule("secateur_tests::swish")
def swish_channels(tracer: Tracer, call: Call) -> None:
    elementwise(tracer, call)


@label_rule("secateur_tests::reversed")
def held_channels(tracer: Tracer, call: Call) -> None:
    tracer.label(call.outputs[0], freeze_axes(tracer, tracer.labels(call.args[0]), {1}, "turned round", call.site))


class Net(nn.Module):
    def __init__(self, operation) -> None:
        super().__init__()
        self.a, self.b, self.operation = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 4, 1), operation

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.operation(self.a(x), 1.5))


@pytest.mark.parametrize("name", ["aten::relu", "relu", "mylib::", "a b::c"])
def test_a_rule_for_no_operation_of_the_users_own_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="mylib::swish"):
        label_rule(name)


@pytest.mark.parametrize(
    ("operation", "reason"), [(unknown_swish, "no rule for the operation unknown_swish"), (reversed_channels, "turned")]
)
def test_without_a_rule_and_where_it_says_so_channels_stay(operation, reason: str) -> None:
    graph = trace(Net(operation), torch.zeros(1, 3, 8, 8))
    assert not graph.widths
    assert any(reason in f.reason and f.site.file == __file__ for f in graph.frozen)


def test_channels_pass_as_the_users_rule_says() -> None:
    assert [w.size for w in trace(Net(swish), torch.zeros(1, 3, 8, 8)).widths] == [16]
