"""Metrics that look at gradients of the loss."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..run import copied, images_of, labels_of, scores_of
from .registry import Evidence, Scores, check_labels, metric, slices


def _loss(output: Any, images: Tensor, targets: Tensor) -> Tensor:
    """The cross entropy of classes, or for sequences of that of each token but the first, of a library's output too."""
    scores = scores_of(output, images)
    if scores is not None and len(targets) < len(scores) == images.numel():
        scores = scores.view(*images.shape, -1)[:, :-1].flatten(0, 1)
    return nn.functional.cross_entropy(output if scores is None else scores, targets)


@metric("taylor", labels=True)
def taylor(evidence: Evidence) -> Scores:
    """score = mean over slots and batches of (sum over the slice of w * dL/dw)^2, L the cross entropy on the batch.

    For a consumer's slice the inner sum equals sum over positions of activation * dL/dactivation, the first-order
    change of the loss when the channel goes. Molchanov et al. 2019, arXiv 1906.10771 (eq. 8, with the channel as
    the gate). Raises ``UsageError`` without batches.
    """
    check_labels("taylor", evidence.batches)
    model = copied(evidence.model).eval()
    parameters = {n: p.requires_grad_() for n, p in model.named_parameters() if p.is_floating_point()}
    device = next(iter(parameters.values())).device
    scores = {w.name: torch.zeros(w.size, dtype=torch.float64) for w in evidence.graph.widths}
    batches = evidence.batches or ()
    for batch in batches:
        images, targets = images_of(batch).to(device), labels_of(batch, "metric taylor").to(device)
        loss = _loss(model(images), images, targets)
        found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
        gradients = dict(zip(parameters, found, strict=True))
        for width in evidence.graph.widths:
            uses = [u for u in evidence.uses(width) if gradients.get(u.slot.parameter) is not None]
            for use in uses:
                change = (parameters[use.slot.parameter] * gradients[use.slot.parameter]).detach()
                change = evidence.graph.laid_out(use.slot.parameter, change)
                part = slices(change, use).sum(1).square().cpu()
                scores[width.name] += part / (len(uses) * len(batches))
    return scores
