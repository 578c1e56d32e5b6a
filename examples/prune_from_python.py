"""Train, prune and retrain from Python, without a command line.

python prune_from_python.py    some seconds; the result is in pruned/
"""

import torch
from digits import accuracy, loaders, train
from my_net import make

from secateur import prune, trace

torch.manual_seed(0)
net = make()
train(net, epochs=5)
example = torch.zeros(1, 1, 8, 8)
print(trace(net, example).why("blocks.0.expand"))

images = list(loaders()["train"])
bundle = prune(net, example, macs=0.4, metric="reconstruction", transfer="lstsq", batches=images, output="pruned")
print(f"whole {accuracy(net):.3f}, pruned {accuracy(bundle.model):.3f}")

train(bundle.model, epochs=4, lr=1e-3)
print(f"retrained {accuracy(bundle.model):.3f}")
torch.save(bundle.model.state_dict(), "retrained.pth")
