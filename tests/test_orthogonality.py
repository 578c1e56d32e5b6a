"""The soft-orthogonality loss by hand, and its gradient."""

from __future__ import annotations

import torch
from torch import nn

from training.binarization.kinds import KINDS
from training.binarization.orthogonality import soft_orthogonality


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
