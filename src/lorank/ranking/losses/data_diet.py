r"""Data diet: how hard each training list is, a few epochs in, and which lists to keep.

    EL2N  = E || p - q ||_2,   p = softmax(s),  q_i = y_i / \sum_j y_j
    GraNd = E || \nabla_\theta l(s(\theta), y) ||_2

with the mean over rankers trained from a few seeds. Lists of high value carry the signal, the very highest often false
labels; lists of low value can go.

Paper: M. Paul, S. Ganguli, G. K. Dziugaite, Deep Learning on a Data Diet: Finding Important Examples Early in Training,
NeurIPS 2021.

*Deviations*: an example of the paper is a list here, a class a document.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from lorank.catalogue import catalogued
from lorank.errors import UsageError
from lorank.ranking.losses.lists import clean, lowest
from lorank.ranking.losses.registry import Loss


@catalogued("data-diet", area="active",
            title="Deep Learning on a Data Diet: Finding Important Examples Early in Training")
def el2n(scores: Tensor, labels: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return || p - q ||_2 of every list, [batch]; 0 for lists without a label above 0.

    Args:
        scores: [batch, list], of a ranker a few epochs in; average the values of several rankers.
        labels: [batch, list], 0 and up.
        mask: bool [batch, list], True where there is a document.

    >>> el2n(torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0, 0.0]]))   # (1/2, 1/2) from (1, 0)
    tensor([0.7071])
    """
    lists = clean(scores.detach(), labels, mask)
    chance = lists.scores.masked_fill(~lists.mask, lowest(lists.scores)).softmax(1)
    total = lists.labels.sum(1, keepdim=True)
    gap = torch.where(lists.mask & (total > 0), chance - lists.labels / torch.where(total > 0, total, 1.0), 0.0)
    return gap.square().sum(1).sqrt()


def grand(
    loss: Loss, scores: Tensor, labels: Tensor, mask: Tensor | None = None, *, parameters: Iterable[Tensor]
) -> Tensor:
    """Return the norm of the gradient of every list's loss by the parameters, [batch].

    Args:
        loss: Any loss of (scores, labels, mask).
        scores: [batch, list], computed from the parameters; one backward pass a list.
        labels: [batch, list].
        mask: bool [batch, list], True where there is a document.
        parameters: What the norm runs over; for an adapted model, the adapter's.

    >>> from lorank.ranking.losses import loss
    >>> w = torch.tensor([2.0], requires_grad=True)
    >>> grand(loss("mse"), torch.tensor([[1.0, 0.0]]) * w, torch.tensor([[1.0, 0.0]]), parameters=[w])   # 2 (2 - 1) / 2
    tensor([1.])
    """
    parameters, norms = list(parameters), []
    for b in range(len(scores)):
        one = slice(b, b + 1)
        value = loss(scores[one], labels[one], None if mask is None else mask[one])
        gradients = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
        norms.append(sum((g.square().sum() for g in gradients if g is not None), torch.zeros(())).sqrt())
    return torch.stack(norms) if norms else scores.new_zeros(0)


def keep_hardest(difficulty: Tensor, fraction: float, *, drop_extreme: float = 0.0) -> Tensor:
    """Return which lists to train on, bool [lists]: the hardest, less the most extreme.

    Args:
        difficulty: EL2N or GraNd [lists].
        fraction: Share of all lists to keep, above 0 up to 1.
        drop_extreme: Share of all lists to leave out at the very top, where false labels gather.

    >>> keep_hardest(torch.tensor([0.1, 0.9, 0.5, 0.7]), 0.5, drop_extreme=0.25)
    tensor([False, False,  True,  True])
    """
    if not 0 < fraction <= 1 or drop_extreme < 0 or fraction + drop_extreme > 1 + 1e-9:
        raise UsageError(f"fraction must be above 0 and together with drop_extreme at most 1; got {fraction} and "
                         f"{drop_extreme}")
    order = difficulty.argsort(descending=True, stable=True)
    start = round(drop_extreme * len(difficulty))
    kept = torch.zeros_like(difficulty, dtype=torch.bool)
    kept[order[start : start + round(fraction * len(difficulty))]] = True
    return kept
