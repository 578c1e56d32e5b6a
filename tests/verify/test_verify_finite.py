"""Networks that make NaN themselves are refused before the work, with the line."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from secateur.pruners.errors import TraceError
from secateur.pruners.verify import refuse_unchecked
from secateur.pruners.verify.cases import random_model


class Divided(nn.Module):
    def __init__(self, by: float) -> None:
        super().__init__()
        self.fc, self.by = nn.Linear(4, 3), by

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.fc(x)
        return (y - y) / (y - y + self.by)


class Shifted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.scale = nn.Linear(4, 3), nn.Parameter(torch.tensor(float("nan")))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x) * self.scale


def test_a_network_that_makes_nan_is_refused_with_the_line() -> None:
    with pytest.raises(TraceError, match="makes NaN here") as caught:
        refuse_unchecked(Divided(0.0), torch.rand(2, 4))
    assert caught.value.site is not None
    assert (caught.value.site.file, caught.value.site.function) == (__file__, "forward")


@pytest.mark.parametrize("model", [Divided(1.0), Shifted()], ids=["none", "of its own weights only"])
def test_what_random_weights_can_prove_is_not_refused(model: nn.Module) -> None:
    refuse_unchecked(model, torch.rand(2, 4))


class Finds(nn.Module):
    """Boxes, or none."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = self.layer(x)
        return found[found.sum(1) > 4.0]


@pytest.mark.parametrize("seed", [1, 2])
def test_random_weights_with_which_nothing_is_found_prove_nothing(seed: int) -> None:
    inputs = torch.randn(2, 4, generator=torch.Generator().manual_seed(seed))
    model, _ = random_model(Finds(), inputs)
    assert len(model(inputs))
