"""The supporting room: data, the training loop, regimes and checkpoints."""
