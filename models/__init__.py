"""Networks to train, prune and read; ``registry`` finds them by name."""
