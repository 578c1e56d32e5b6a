"""Your own data: scikit-learn's handwritten digits as loaders, and a training loop that knows nothing of pruning.

python digits.py    trains my_net.py for some seconds and writes my_net.pth
"""

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset


def loaders() -> dict[str, DataLoader]:
    """Batches of (images, classes): to train on, to choose by, and to report."""
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
    classes = torch.tensor(digits.target)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    parts = dict(zip(("train", "val", "test"), order.split([1200, 240, 357]), strict=True))
    return {k: DataLoader(TensorDataset(images[i], classes[i]), batch_size=64) for k, i in parts.items()}


def train(network: torch.nn.Module, epochs: int, lr: float = 2e-3) -> None:
    optimizer = torch.optim.Adam(network.parameters(), lr)
    network.train()
    for _ in range(epochs):
        for images, classes in loaders()["train"]:
            optimizer.zero_grad()
            F.cross_entropy(network(images), classes).backward()
            optimizer.step()
    network.eval()


@torch.no_grad()
def accuracy(network: torch.nn.Module, part: str = "test") -> float:
    """The share of the images whose class has the highest score."""
    network.eval()
    right = [(network(images).argmax(1) == classes).float() for images, classes in loaders()[part]]
    return torch.cat(right).mean().item()


if __name__ == "__main__":
    from my_net import make

    torch.manual_seed(0)
    net = make()
    train(net, epochs=5)
    torch.save(net.state_dict(), "my_net.pth")
    print(f"accuracy {accuracy(net):.3f}; weights are in my_net.pth")
