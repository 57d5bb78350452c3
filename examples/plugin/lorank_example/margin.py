"""Margin: the mean over pairs of max(0, margin - (s_i - s_j)) where document i is more relevant than j."""

import torch
from torch import Tensor

import lorank


@lorank.loss("margin", title="A margin between every pair")
def margin(
    scores: Tensor, labels: Tensor, mask: Tensor, weights: Tensor | None = None, *, margin: float = 1.0
) -> Tensor:
    """Return the loss of lists [batch, list]; lists without two different labels give 0."""
    scores, labels = scores.float(), labels.float()
    better = (labels[:, :, None] > labels[:, None, :]) & mask[:, :, None] & mask[:, None, :]
    falls_short = torch.relu(margin - (scores[:, :, None] - scores[:, None, :])).masked_fill(~better, 0.0)
    pairs = better.sum((1, 2))
    each = falls_short.sum((1, 2)) / pairs.clamp_min(1)
    if weights is not None:
        each = each * weights
    return each.sum() / (pairs > 0).sum().clamp_min(1)
