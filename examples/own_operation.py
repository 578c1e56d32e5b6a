"""Your own operation: a rule says how channels pass it. Without the rule they are held, and `inspect` says where."""

import torch
from torch import Tensor, nn

from secateur.pruners.trace import elementwise, label_rule


@torch.library.custom_op("examples::swish", mutates_args=())
def swish(x: Tensor, beta: float) -> Tensor:
    return x * torch.sigmoid(beta * x)


@label_rule("examples::swish")
def swish_channels(tracer, call) -> None:
    """Each element of the result depends on the same element of the input."""
    elementwise(tracer, call)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 32, 3, padding=1)
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = swish(self.conv1(x), 1.5)
        x = swish(self.conv2(x), 1.5)
        return self.head(x.mean((2, 3)))
