"""The soft-orthogonality loss by hand, and its gradient."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from secateur.training.binarization import soft_orthogonality
from secateur.training.binarization.kinds import KINDS
from secateur.training.fit import Execution, find_regime
from secateur.training.fit.engines import engine_for
from secateur.training.fit.objective import Objective


def conv(kind: str, weight: list[list[float]]) -> nn.Conv2d:
    """Filters of two inputs, 1x2."""
    values = torch.tensor(weight).view(-1, 2, 1, 2)
    layer = KINDS[kind].conv(2, len(values), kernel_size=(1, 2), bias=False)
    layer.weight.data.copy_(values)
    return layer


def test_a_network_without_convolutions_has_none() -> None:
    assert soft_orthogonality(nn.Linear(3, 3)) == 0
    assert soft_orthogonality(nn.Identity()) == 0


def test_filters_at_right_angles_cost_nothing() -> None:
    assert soft_orthogonality(conv("Real", [[1, 0, 0, 0], [0, 0, 1, 0]])) == 0
    assert soft_orthogonality(conv("BinaryNet", [[0.2, 0.3, 1, 2], [0.2, 0.3, -1, -2]])) == 0


def test_by_hand() -> None:
    # signs (1, 1, 1, 1) and (1, 1, 1, -1): products 4, 4 and 2, by 4; off the diagonal 1/2 twice
    binary = conv("BinaryNet", [[0.2, 0.3, 1, 2], [0.2, 0.3, 1, -2]])
    torch.testing.assert_close(soft_orthogonality(binary), torch.tensor(0.5**0.5))
    real = conv("Real", [[1, 2, 0, 0], [0, 1, 0, 0]])  # products 5, 1 and 2
    torch.testing.assert_close(soft_orthogonality(real), torch.tensor((16 + 4 + 4) ** 0.5))
    # scales 1 and 2: products 4 and 16, between them 1 * 2 * 2; by 4
    scaled = conv("XnorNet", [[1, 1, 1, 1], [2, 2, 2, -2]])
    torch.testing.assert_close(soft_orthogonality(scaled), torch.tensor((0 + 9 + 2 * 1.0) ** 0.5))
    network = nn.Sequential(binary, nn.ReLU(), real, nn.Linear(2, 2))
    torch.testing.assert_close(soft_orthogonality(network), torch.tensor(0.5**0.5 + 24**0.5))


def test_columns_are_filters_in_layers_that_are_not_square() -> None:
    """Three orthogonal filters of four numbers: a plain reshape to three columns would find them dependent."""
    filters = [[0.5, 0.5, 0.5, 0.5], [0.5, 0.5, -0.5, -0.5], [0.5, -0.5, 0.5, -0.5]]
    assert soft_orthogonality(conv("Real", filters)) == 0
    wrong = torch.tensor(filters).reshape(-1, 3)
    assert torch.linalg.matrix_norm(wrong.T @ wrong - torch.eye(3)) > 0.5


def test_its_gradient_is_the_quantizers() -> None:
    layer = conv("BinaryNet", [[0.2, 0.3, 1, 2], [0.2, 0.3, 1, -2]])
    soft_orthogonality(layer).backward()
    signs = torch.tensor([[1.0, 1, 1, 1], [1, 1, 1, -1]])
    off = torch.tensor([[0, 0.5], [0.5, 0]])  # W^T W / N - I
    expected = 2 * off @ signs / 4 / 0.5**0.5
    torch.testing.assert_close(layer.weight.grad.flatten(1), expected)
    before = soft_orthogonality(layer)
    layer.weight.data[1, 1, 0, 0] = -1.0  # one more sign apart
    assert soft_orthogonality(layer) < before


@pytest.mark.parametrize("execution", [Execution(), Execution(accumulate=3)], ids=["in one pass", "in three passes"])
def test_training_goes_down_the_sum_of_both_losses(execution: Execution) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(KINDS["XnorNet"].conv(1, 4, 3), nn.Flatten(), nn.Linear(16, 3))
    images, labels = torch.randn(7, 1, 4, 4), torch.tensor([0, 1, 2, 0, 1, 2, 0])
    other = copy.deepcopy(model)
    expected = F.cross_entropy(other(images), labels) + 0.1 * soft_orthogonality(other)
    expected.backward()
    before = copy.deepcopy(model.state_dict())
    engine = engine_for(execution, model, torch.optim.SGD(model.parameters(), lr=1.0), 7)
    try:
        loss = engine.step(images, labels, Objective(beta=0.1), lambda number: None)
    finally:
        engine.close()
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    for (name, now), gradient in zip(model.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(before[name] - now, gradient.grad, rtol=1e-4, atol=1e-6)


def test_it_is_a_part_of_the_regime() -> None:
    regime = find_regime("normalised", "train")
    assert regime.objective == Objective()
    assert regime.adjusted(beta=0.5, label_smoothing=0.1).objective == Objective(0.1, 0.5)
