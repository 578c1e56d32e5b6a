"""Networks for small images: digits (1x8x8), MNIST (1x28x28), CIFAR (3x32x32)."""
