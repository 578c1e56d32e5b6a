import torch

LIMIT = 3.0


def squash(x: torch.Tensor) -> torch.Tensor:
    return torch.clamp(x, -LIMIT, LIMIT)
