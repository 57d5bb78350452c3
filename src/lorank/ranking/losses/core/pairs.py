"""The weighted loss over pairs of one list, which RankNet, the hinge and the LambdaLoss family share.

    l(s) = sum over i in winners, over j of  w_ij * phi(sigma * (s_j - s_i)),   phi(x) = log(1 + exp(x)) or another

Only documents that can be the better one of a pair take part on the first axis, so a list of 1,000 candidates
with two relevant ones costs 2 x 1,000 pairs. Blocks of lists are computed in one pass, value and gradient
together; what is kept for the backward pass is [batch, list].
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from lorank.ranking.losses.core.grade_blocks import logistic_by_grade, suits
from lorank.ranking.losses.core.known_gradient import with_gradient
from lorank.ranking.losses.core.lists import Lists, tie_spans

Surrogate = Callable[[Tensor], tuple[Tensor, Tensor]]
"""From x = sigma * (s_j - s_i), which it may overwrite, to the pair's loss phi(x) and its slope phi'(x)."""

BLOCK = 1 << 18
"""Pairs in one block: small enough for a processor's cache, large enough to hide the call."""

PairWeights = Callable[[slice], Tensor]
"""From a block of lists to the weights [block, winners, list] of their pairs; 0 where a pair does not count."""


def winner_places(candidates: Tensor) -> Tensor:
    """Return places [batch, winners] of the True entries of ``candidates`` [batch, list], filled up with others.

    >>> winner_places(torch.tensor([[False, True, False], [True, False, True]]))
    tensor([[1, 0], [0, 2]])
    """
    count = int(candidates.sum(1).max()) if candidates.numel() else 0
    return candidates.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :count]


def sides(values: Tensor, winners: Tensor, block: slice) -> tuple[Tensor, Tensor]:
    """Return a block's ``values`` of the better document, [block, winners, 1], and of the other, [block, 1, list]."""
    return values[block].gather(1, winners[block]).unsqueeze(2), values[block].unsqueeze(1)


def ordered_pairs(lists: Lists) -> Tensor:
    """Return the number of pairs y_i > y_j of each list, int64 [batch].

    >>> from lorank.ranking.losses.core.lists import clean
    >>> ordered_pairs(clean(torch.zeros(1, 4), torch.tensor([[2, 0, 1, 0]])))   # 3 below 2, 2 below 1
    tensor([5])
    """
    ascending = lists.fill(lists.labels, torch.inf).sort(dim=1).values
    below, _ = tie_spans(ascending)
    return torch.where(ascending < torch.inf, below, 0).sum(1)


def logistic(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return log(1 + exp(x)) and its slope."""
    return F.softplus(x, threshold=50), x.sigmoid_()


def ordered_pair_weights(lists: Lists) -> tuple[Tensor, PairWeights]:
    """Return the places of documents that beat another, and weights that count each pair y_i > y_j once.

    With documents' weights, a pair has the weight of its more relevant document.
    """
    above_lowest = lists.labels > lists.fill(lists.labels, torch.inf).amin(1, keepdim=True)
    winners = winner_places(lists.mask & above_lowest)

    def pair_weights(block: slice) -> Tensor:
        label_i, label_j = sides(lists.labels, winners, block)
        counts = label_i > label_j
        if not lists.full:
            there_i, there_j = sides(lists.mask, winners, block)
            counts &= there_i & there_j
        weight = counts.to(label_i.dtype)
        return weight if lists.item_weights is None else weight.mul_(sides(lists.item_weights, winners, block)[0])

    return winners, pair_weights


def mean_pair_loss(lists: Lists, sigma: float, surrogate: Surrogate = logistic) -> Tensor:
    """Return the mean over lists of the mean loss of their pairs y_i > y_j, a scalar."""
    if surrogate is logistic and suits(lists, sigma):
        total = logistic_by_grade(lists, sigma)
    else:
        total = pairwise(lists.scores, *ordered_pair_weights(lists), sigma, surrogate)
    return lists.mean(total / ordered_pairs(lists).clamp(min=1))


def pairwise(
    scores: Tensor, winners: Tensor, weights: PairWeights, sigma: float, surrogate: Surrogate = logistic
) -> Tensor:
    """Return each list's weighted loss over its pairs, [batch]; differentiable once, by ``scores``.

    Args:
        scores: [batch, list], finite.
        winners: int64 [batch, winners], places of the documents on the better side.
        weights: Gives the weights of a block of lists.
        sigma: Steepness, above 0.
        surrogate: phi and its slope.
    """
    return with_gradient(scores, *_value_and_gradient(scores, winners, weights, sigma, surrogate))


def pair_curvature(scores: Tensor, winners: Tensor, weights: PairWeights, sigma: float) -> Tensor:
    """Return the diagonal of the second derivative of each list's weighted logistic loss, [batch, list].

    Args:
        scores: The finite scores [batch, list].
        winners: The int64 [batch, winners] places of the documents on the better side.
        weights: It gives the weights of a block of lists.
        sigma: The steepness of the logistic loss, above 0.
    """
    second = torch.zeros_like(scores)
    for block in _blocks(len(scores), winners.shape[1] * scores.shape[1]):
        (s_i, s_j), places, weight = sides(scores, winners, block), winners[block], weights(block)
        chance = (s_j - s_i).mul_(sigma).sigmoid_()
        bend = weight.mul_(chance).mul_(1 - chance)
        second[block] = bend.sum(1).scatter_add_(1, places, bend.sum(2))
    return second.mul_(sigma**2)


def pair_blocks(scores: Tensor) -> list[tuple[slice, slice]]:
    """Return (lists, rows) that cut [batch, list, list] into pieces of about ``BLOCK`` pairs."""
    batch, size = scores.shape
    rows = max(1, min(size, BLOCK // size))
    lists = max(1, BLOCK // (size * rows))
    return [(slice(b, b + lists), slice(r, r + rows)) for b in range(0, batch, lists) for r in range(0, size, rows)]


def _blocks(lists: int, pairs: int) -> Iterator[slice]:
    step = max(1, BLOCK // max(1, pairs))
    return (slice(start, start + step) for start in range(0, lists, step))


@torch.no_grad()
def _value_and_gradient(
    scores: Tensor, winners: Tensor, weights: PairWeights, sigma: float, surrogate: Surrogate
) -> tuple[Tensor, Tensor]:
    total, gradient = scores.new_zeros(len(scores)), torch.zeros_like(scores)
    for block in _blocks(len(scores), winners.shape[1] * scores.shape[1]):
        (s_i, s_j), places, weight = sides(scores, winners, block), winners[block], weights(block)
        value, slope = surrogate((s_j - s_i).mul_(sigma))
        total[block] = value.mul_(weight).sum((1, 2))
        pull = slope.mul_(weight)
        gradient[block] = pull.sum(1).scatter_add_(1, places, -pull.sum(2))
    return total, gradient.mul_(sigma)
