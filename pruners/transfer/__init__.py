"""Weights of the pruned network, made better than the slices. Importing this registers the strategies."""

from __future__ import annotations

from . import heal, least_squares, slices_and_bn
from .job import TransferImages, TransferJob
from .registry import TRANSFERS, Strategy, Transfer, chosen_transfer, require_images, transfer, transfer_strategy

__all__ = [
    "TRANSFERS", "Strategy", "Transfer", "TransferImages", "TransferJob", "chosen_transfer", "heal", "least_squares",
    "require_images", "slices_and_bn", "transfer", "transfer_strategy",
]
