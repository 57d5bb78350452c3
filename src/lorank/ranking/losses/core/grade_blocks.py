r"""The logistic loss over the pairs of long graded lists, grade by grade.

Sorted by label, the documents below a grade are one stretch of the list, so each grade's pairs are a full block: no
pair of equal or wrong labels is computed, and none is masked. In a block

    \exp(\sigma (s_j - s_i)) = e_j / e_i,   e = \exp(\sigma s - c),   c the middle of the list's range

is an outer product, so that a pair costs one logarithm and no exponential. Scores that spread too far for that, short
lists and lists of many grades are left to :mod:`lorank.ranking.losses.core.pairs`.
"""

import torch
from torch import Tensor

from lorank.ranking.losses.core.known_gradient import with_gradient
from lorank.ranking.losses.core.lists import Lists

SHORTEST = 256
"""Lists from this length on; shorter ones are faster side by side."""
GRADES = 16
"""Grades of a list, at most, on average."""
SPREAD = 60.0
"""The range of sigma * s in a list, at most: exp of it is far from the end of float32."""
BLOCK = 1 << 17


def suits(lists: Lists, sigma: float) -> bool:
    """Return whether the lists are long, of few grades, and of scores close enough together."""
    batch, size = lists.scores.shape
    if size < SHORTEST:
        return False
    labels = lists.fill(lists.labels, -1.0).sort(dim=1).values
    grades = int((labels[:, 1:] != labels[:, :-1]).sum()) + batch
    highest = lists.fill(lists.scores, -torch.inf).amax(1)
    lowest = lists.fill(lists.scores, torch.inf).amin(1)
    spread = torch.where(lists.mask.any(1), highest - lowest, 0.0)
    return grades <= GRADES * batch and bool((sigma * spread <= SPREAD).all())


def logistic_by_grade(lists: Lists, sigma: float) -> Tensor:
    """Return each list's sum of log(1 + exp(-sigma (s_i - s_j))) over y_i > y_j, [batch]; differentiable once.

    With documents' weights, a pair has the weight of its more relevant document.

    >>> from lorank.ranking.losses.core.lists import clean
    >>> logistic_by_grade(clean(torch.zeros(1, 3), torch.tensor([[1, 0, 0]])), 1.0)   # 2 log 2
    tensor([1.3863])
    """
    return with_gradient(lists.scores, *_value_and_gradient(lists, sigma))


@torch.no_grad()
def _value_and_gradient(lists: Lists, sigma: float) -> tuple[Tensor, Tensor]:
    order = lists.fill(lists.labels, -torch.inf).argsort(dim=1, descending=True)
    ordered, grades = lists.scores.gather(1, order) * sigma, lists.labels.gather(1, order)
    own = None if lists.item_weights is None else lists.item_weights.gather(1, order)
    total, pull = ordered.new_zeros(len(ordered)), torch.zeros_like(ordered)
    with torch.autocast(ordered.device.type, enabled=False):
        for i, size in enumerate(lists.mask.sum(1).tolist()):
            total[i] = _one_list(
                ordered[i, :size], grades[i, :size], None if own is None else own[i, :size], pull[i, :size]
            )
    return total, torch.zeros_like(pull).scatter_(1, order, pull).mul_(sigma)


def _one_list(scores: Tensor, grades: Tensor, weights: Tensor | None, pull: Tensor) -> Tensor:
    """Return the sum over one list in order of falling grades; add the derivative by sigma * s to ``pull``."""
    total = scores.new_zeros(())
    if not len(scores):
        return total
    centred = scores - (scores.max() + scores.min()) / 2
    up, down = centred.exp(), centred.neg().exp()
    ends = [*((grades[1:] != grades[:-1]).nonzero().squeeze(1) + 1).tolist(), len(scores)]
    start = 0
    for end in ends[:-1]:
        rows = max(1, BLOCK // (len(scores) - end))
        for first in range(start, end, rows):
            part = slice(first, min(end, first + rows))
            odds = torch.outer(down[part], up[end:])
            value = odds.log1p().sum(1)
            chance = odds.div_(odds + 1)
            own = torch.ones_like(value) if weights is None else weights[part]
            total += value @ own
            pull[part] -= chance.sum(1) * own
            pull[end:] += own @ chance
        start = end
    return total
