r"""Any measure of ranks, smoothed: soft ranks in place of ranks (ApproxNDCG, ApproxMRR, and a transform).

    r_i = 1 + \sum_{j \ne i} \sigma((s_j - s_i) / T)

goes to the exact rank as T goes to 0. A measure that is a formula in ranks becomes a loss, its negative:

    approxndcg   l = - \sum_i G_i / \log_2(1 + r_i)
    approxmrr    l = - \max_{i : y_i \ge 1} 1 / r_i

with G_i = gain(y_i) / idealDCG@k, and with ``k`` the term of document i times \sigma((k + 1/2 - r_i) / T).

Paper: T. Qin, T.-Y. Liu, H. Li, A General Approximation Framework for Direct Optimization of Information Retrieval
Measures, Information Retrieval 13, 2010; S. Bruch et al., Revisiting Approximate Metric Optimization in the Age of
Deep Neural Networks, SIGIR 2019.

*Deviations*: ApproxMRR takes the largest reciprocal soft rank, as rax does; TF-Ranking sums over the relevant.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from lorank.ranking.losses.core.lists import Lists, check_positive, clean, normalized_gains
from lorank.ranking.losses.core.pairs import pair_blocks
from lorank.ranking.losses.core.registry import Loss, register_loss

RankMeasure = Callable[[Tensor, Lists], Tensor]
"""From ranks [batch, list], real numbers from 1 up, and the lists, to every document's part of the measure
[batch, list]; the parts of a list add up to its value."""


def soft_ranks(lists: Lists, temperature: float) -> Tensor:
    """Return r_i for every document, [batch, list]; differentiable once, by ``lists.scores``.

    Computed a block of pairs at a time, so nothing of the size [list, list] is kept.

    >>> soft_ranks(clean(torch.tensor([[2.0, 0.0, 1.0]]), torch.zeros(1, 3)), temperature=0.01)
    tensor([[1., 3., 2.]])
    """
    ranks: Tensor = _SoftRanks.apply(lists.scores, lists.mask, temperature)  # type: ignore[no-untyped-call]
    return ranks


def smooth(measure: RankMeasure, temperature: float = 1.0) -> Loss:
    """Return the loss - measure(soft ranks) of any measure that is a formula in ranks.

    Args:
        measure: Its parts by document; written for exact ranks, used with soft ones.
        temperature: T above 0; small is close to the measure and steep, large is smooth.

    >>> import math
    >>> precision_like = smooth(lambda ranks, lists: lists.labels / ranks, temperature=0.01)
    >>> precision_like(torch.tensor([[2.0, 0.0, 1.0]]), torch.tensor([[0, 1, 0]]))
    tensor(-0.3333)
    """
    check_positive(temperature=temperature)

    def smoothed(scores: Tensor, labels: Tensor, mask: Tensor | None = None, weights: Tensor | None = None) -> Tensor:
        lists = clean(scores, labels, mask, weights)
        return lists.mean(-lists.weigh(measure(soft_ranks(lists, temperature), lists)).sum(1))

    return smoothed


@register_loss(
    "approxndcg",
    title="A General Approximation Framework for Direct Optimization of Information Retrieval Measures (nDCG)",
)
def approx_ndcg(
    scores: Tensor,
    labels: Tensor,
    mask: Tensor | None = None,
    weights: Tensor | None = None,
    *,
    temperature: float = 1.0,
    k: int | None = None,
    gain: str = "exponential",
) -> Tensor:
    """Return the negative mean over lists of nDCG at soft ranks.

    Args:
        scores: [batch, list].
        labels: Grades [batch, list], 0 and up.
        mask: bool [batch, list], True where there is a document.
        weights: [batch] or [batch, list]; a document's weight multiplies its part of nDCG.
        temperature: T above 0.
        k: Smooth nDCG@k instead of nDCG; 1 or more.
        gain: ``exponential`` (2^y - 1) or ``linear`` (y, trec_eval's nDCG).

    Returns:
        A scalar between -1 and 0 (without weights).

    >>> import math
    >>> value = approx_ndcg(torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0, 0.0]]))   # both soft ranks are 1.5
    >>> math.isclose(value, -1 / math.log2(2.5), rel_tol=1e-6)
    True
    """
    check_positive(k=k)

    def ndcg(ranks: Tensor, lists: Lists) -> Tensor:
        parts = normalized_gains(lists, gain, k) / torch.log2(1 + ranks)
        return parts if k is None else parts * ((k + 0.5 - ranks) / temperature).sigmoid()

    return smooth(ndcg, temperature)(scores, labels, mask, weights)


@register_loss(
    "approxmrr", title="Revisiting Approximate Metric Optimization in the Age of Deep Neural Networks (reciprocal rank)"
)
def approx_mrr(
    scores: Tensor,
    labels: Tensor,
    mask: Tensor | None = None,
    weights: Tensor | None = None,
    *,
    temperature: float = 1.0,
    threshold: float = 1.0,
) -> Tensor:
    """Return the negative mean over lists of the largest reciprocal soft rank of a relevant document.

    Args:
        scores: [batch, list].
        labels: Grades [batch, list], 0 and up.
        mask: bool [batch, list], True where there is a document.
        weights: [batch] or [batch, list]; the weight of the best relevant document multiplies its list's part.
        temperature: T above 0.
        threshold: Labels from here up are relevant.

    Returns:
        A scalar between -1 and 0 (without weights).

    >>> value = approx_mrr(torch.tensor([[0.0, 0.0, 0.0]]), torch.tensor([[1.0, 0.0, 0.0]]))   # soft ranks are 2
    >>> float(value)
    -0.5
    """

    def reciprocal_rank(ranks: Tensor, lists: Lists) -> Tensor:
        relevant = lists.mask & (lists.labels >= threshold)
        reciprocal = torch.where(relevant, 1 / ranks, 0.0)
        best = relevant & (reciprocal == reciprocal.amax(1, keepdim=True))
        return reciprocal * best / best.sum(1, keepdim=True).clamp(min=1)

    return smooth(reciprocal_rank, temperature)(scores, labels, mask, weights)


class _SoftRanks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, scores: Tensor, mask: Tensor, temperature: float) -> Tensor:
        ranks = torch.ones_like(scores)
        for lists, rows in pair_blocks(scores):
            above = _beats(scores, lists, rows, temperature).mul_(mask[lists].unsqueeze(1))
            ranks[lists, rows] = above.sum(2).add_(0.5)  # 1, less the document's own sigma(0)
        ctx.save_for_backward(scores, mask)
        ctx.temperature = temperature
        return torch.where(mask, ranks, 1.0)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, upstream: Tensor) -> tuple[Tensor, None, None]:
        scores, mask = ctx.saved_tensors
        upstream, gradient = torch.where(mask, upstream, 0.0), torch.zeros_like(scores)
        for lists, rows in pair_blocks(scores):
            slope = _beats(scores, lists, rows, ctx.temperature)
            slope = slope.mul_(1 - slope).mul_(mask[lists].unsqueeze(1))
            # d r_i / d s_j = slope_ij, d r_i / d s_i = -sum_j slope_ij, and slopes are symmetric
            own = slope.sum(2) * upstream[lists, rows]
            gradient[lists, rows] = slope.mul_(upstream[lists].unsqueeze(1)).sum(2) - own
        gradient = torch.where(mask, gradient, 0.0) / ctx.temperature
        return gradient, None, None


def _beats(scores: Tensor, lists: slice, rows: slice, temperature: float) -> Tensor:
    """sigma((s_j - s_i) / T), [lists, rows (i), list (j)]."""
    part = scores[lists]
    return (part.unsqueeze(1) - part[:, rows].unsqueeze(2)).div_(temperature).sigmoid_()
