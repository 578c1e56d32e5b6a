"""A detector in the manner of YOLO: three stages, a neck that joins two of them, and a head for each scale.

Each cell of a grid gives (objectness, dx, dy, log width, log height). There is one bright rectangle in each image.

python detector.py    trains it for some seconds and writes detector.pth
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision.ops import box_iou

SIZE, STRIDES = 64, (8, 16)


def conv(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False), nn.BatchNorm2d(out_channels), nn.SiLU()
    )


class CrossStage(nn.Module):
    """Splits the channels, convolves one half, and joins all that it has (as the C2f block of YOLOv8)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.enter = conv(channels, channels)
        self.inner = nn.ModuleList([conv(channels // 2, channels // 2) for _ in range(2)])
        self.leave = conv(2 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        parts = list(self.enter(x).chunk(2, dim=1))
        for layer in self.inner:
            parts.append(layer(parts[-1]))
        return self.leave(torch.cat(parts, dim=1))


class Detector(nn.Module):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv(1, width, 2), conv(width, 2 * width, 2))
        self.stage3 = nn.Sequential(conv(2 * width, 4 * width, 2), CrossStage(4 * width))
        self.stage4 = nn.Sequential(conv(4 * width, 8 * width, 2), CrossStage(8 * width))
        self.lateral = conv(12 * width, 4 * width)
        self.heads = nn.ModuleList([nn.Conv2d(4 * width, 5, 1), nn.Conv2d(8 * width, 5, 1)])

    def forward(self, x: Tensor) -> list[Tensor]:
        fine = self.stage3(self.stem(x))
        coarse = self.stage4(fine)
        fine = self.lateral(torch.cat([fine, F.interpolate(coarse, scale_factor=2.0)], dim=1))
        return [head(scale) for head, scale in zip(self.heads, (fine, coarse), strict=True)]


def scenes(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Noisy images (N, 1, 64, 64) and the box of each as (x0, y0, x1, y1) in pixels."""
    random = torch.Generator().manual_seed(seed)
    size = torch.randint(10, 28, (count, 2), generator=random)
    corner = (torch.rand(count, 2, generator=random) * (SIZE - size)).long()
    boxes = torch.cat([corner, corner + size], dim=1)
    at = torch.arange(SIZE)
    across = (at >= boxes[:, :1]) & (at < boxes[:, 2:3])
    along = (at >= boxes[:, 1:2]) & (at < boxes[:, 3:4])
    images = (along.unsqueeze(2) & across.unsqueeze(1)).float().unsqueeze(1)
    return images + 0.3 * torch.randn(count, 1, SIZE, SIZE, generator=random), boxes.float()


def loaders() -> dict[str, DataLoader]:
    parts = {"train": scenes(384, 0), "val": scenes(64, 1)}
    return {name: DataLoader(TensorDataset(*part), batch_size=32) for name, part in parts.items()}


def decoded(scale: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """Scores (N, cells) and boxes (N, cells, 4) of one scale."""
    objectness, offset, size = scale.split((1, 2, 2), dim=1)
    grid = torch.stack(torch.meshgrid(*[torch.arange(n) for n in scale.shape[:1:-1]], indexing="xy"))
    centre = (grid.to(scale) + 0.5 + offset) * stride
    half = size.clamp(max=4).exp() * stride / 2
    return objectness.flatten(1), torch.cat([centre - half, centre + half], dim=1).flatten(2).transpose(1, 2)


def loss(outputs: list[Tensor], boxes: Tensor) -> Tensor:
    """The cell that holds a box's centre says that there is one, and where."""
    total = outputs[0].new_zeros(())
    for scale, stride in zip(outputs, STRIDES, strict=True):
        scores, predicted = decoded(scale, stride)
        column, row = ((boxes[:, :2] + boxes[:, 2:]) / 2 / stride).long().unbind(1)
        cell = row * scale.shape[3] + column
        there = F.one_hot(cell, scores.shape[1]).float()
        total = total + F.binary_cross_entropy_with_logits(scores, there, pos_weight=torch.tensor(10.0))
        total = total + F.smooth_l1_loss(predicted[torch.arange(len(cell)), cell], boxes) / stride
    return total


def found(model: nn.Module) -> float:
    """The share of the boxes that the surest cell meets with an IoU of at least 0.5; the larger the better."""
    images, boxes = scenes(64, 1)
    outputs = [scale.cpu() for scale in model(images.to(next(model.parameters()).device))]
    scores, predicted = (torch.cat(part, dim=1) for part in zip(*map(decoded, outputs, STRIDES), strict=True))
    best = predicted[torch.arange(len(images)), scores.argmax(1)]
    return (box_iou(best, boxes).diagonal() >= 0.5).float().mean().item()


if __name__ == "__main__":
    torch.manual_seed(0)
    net = Detector()
    optimizer = torch.optim.Adam(net.parameters(), 5e-3)
    for _ in range(8):
        for images, boxes in loaders()["train"]:
            optimizer.zero_grad()
            loss(net(images), boxes).backward()
            optimizer.step()
    torch.save(net.eval().state_dict(), "detector.pth")
    with torch.no_grad():
        print(f"{found(net):.0%} of the boxes are met; weights are in detector.pth")
