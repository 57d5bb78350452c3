r"""LambdaLoss: logistic pair losses whose weights bound nDCG (LambdaRank, NDCG-Loss1, NDCG-Loss2, NDCG-Loss2++).

    l = \sum_{y_i > y_j} w_{ij} \log_2(1 + \exp(-\sigma (s_i - s_j)))

with G_i = gain(y_i) / idealDCG@k, r_i the rank of i by the current scores, and D(r) = \log_2(1 + r):

    lambdarank   w_ij = |G_i - G_j| |1/D(r_i) - 1/D(r_j)|
    ndcg1        w_ij = G_i / D(r_i), over all pairs i != j
    ndcg2        w_ij = |G_i - G_j| delta_ij,   delta_ij = 1/D(|r_i - r_j|) - 1/D(|r_i - r_j| + 1)
    ndcg2pp      w_ij = |G_i - G_j| (mu delta_ij + |1/D(r_i) - 1/D(r_j)|)

Weights are constants of the step: no gradient runs through ranks.

Paper: X. Wang, C. Li, N. Golbandi, M. Bendersky, M. Najork, The LambdaLoss Framework for Ranking Metric
Optimization, CIKM 2018; C. Burges, From RankNet to LambdaRank to LambdaMART, 2010.

*Deviations*: with ``k``, a pair counts when at least one of its documents stands in the top k (as LightGBM
truncates; allRank asks for both), and 1/D(r) is 0 beyond k. Equal scores rank the less relevant document first,
and documents equal in score and label share their mean rank; published code breaks ties by position.
``ndcg1`` runs over every j, not only over y_i > y_j: the paper's bound counts all documents that stand above i,
D(r_i) - 1 <= \sum_j [s_i < s_j], whatever their labels, and allRank sums the same pairs (and the constant pairs i = i).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lorank.ranking.losses.core.lists import Lists, check_positive, choose, clean, discounts, normalized_gains, ranks
from lorank.ranking.losses.core.pairs import PairWeights, pairwise, sides, winner_places
from lorank.ranking.losses.core.registry import register_loss


@dataclass(frozen=True)
class Pairs:
    """A block's pairs: for the better document [block, winners, 1] and for the other [block, 1, list]."""

    gain_i: Tensor
    gain_j: Tensor
    rank_i: Tensor
    rank_j: Tensor
    k: int | None
    mu: float

    def discount_gap(self) -> Tensor:
        """|1/D(r_i) - 1/D(r_j)|."""
        return (discounts(self.rank_i, self.k) - discounts(self.rank_j, self.k)).abs_()

    def distance_gap(self) -> Tensor:
        """delta_ij, from a table of all distances, which are whole or half; nearer than 1 counts as 1."""
        steps = (2 * self.rank_i).long() - (2 * self.rank_j).long()
        far = torch.arange(2 * self.rank_j.shape[2] + 1, device=steps.device, dtype=self.rank_i.dtype)
        far = (far / 2).clamp_(min=1)
        table = discounts(far).sub_(discounts(far + 1))
        return table.index_select(0, steps.abs_().flatten()).view(steps.shape)

    def gain_gap(self) -> Tensor:
        """|G_i - G_j|."""
        return (self.gain_i - self.gain_j).abs_()


def lambdarank(pairs: Pairs) -> Tensor:
    """|G_i - G_j| |1/D(r_i) - 1/D(r_j)|: the change of nDCG when i and j swap."""
    return pairs.discount_gap().mul_(pairs.gain_gap())


def ndcg1(pairs: Pairs) -> Tensor:
    """G_i / D(r_i)."""
    return (pairs.gain_i * discounts(pairs.rank_i, pairs.k)).repeat(1, 1, pairs.rank_j.shape[2])


def ndcg2(pairs: Pairs) -> Tensor:
    """|G_i - G_j| delta_ij."""
    return pairs.distance_gap().mul_(pairs.gain_gap())


def ndcg2pp(pairs: Pairs) -> Tensor:
    """|G_i - G_j| (mu delta_ij + |1/D(r_i) - 1/D(r_j)|)."""
    return pairs.distance_gap().mul_(pairs.mu).add_(pairs.discount_gap()).mul_(pairs.gain_gap())


WEIGHTINGS: dict[str, Callable[[Pairs], Tensor]] = {
    "lambdarank": lambdarank,
    "ndcg1": ndcg1,
    "ndcg2": ndcg2,
    "ndcg2pp": ndcg2pp,
}


@register_loss(
    "lambda", title="The LambdaLoss Framework for Ranking Metric Optimization (nDCG)", aliases=("lambdaloss",)
)
def lambda_loss(
    scores: Tensor,
    labels: Tensor,
    mask: Tensor | None = None,
    weights: Tensor | None = None,
    *,
    weighting: str = "ndcg2pp",
    k: int | None = None,
    sigma: float = 1.0,
    mu: float = 10.0,
    gain: str = "exponential",
) -> Tensor:
    """Return the mean over lists of the sum of their weighted pair losses.

    Args:
        scores: [batch, list].
        labels: Grades [batch, list], 0 and up.
        mask: bool [batch, list], True where there is a document.
        weights: [batch] or [batch, list]; a pair has the weight of its more relevant document (``ndcg1``: of i).
        weighting: ``lambdarank``, ``ndcg1``, ``ndcg2`` or ``ndcg2pp``.
        k: Bound nDCG@k instead of nDCG; 1 or more.
        sigma: Steepness of the logistic function, above 0.
        mu: Share of ``ndcg2`` in ``ndcg2pp``.
        gain: ``exponential`` (2^y - 1) or ``linear`` (y, trec_eval's nDCG).

    Returns:
        A scalar, 0 or more.

    >>> value = lambda_loss(torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0, 0.0]]), weighting="lambdarank")
    >>> math.isclose(value, 1 - 1 / math.log2(3), rel_tol=1e-6)     # log2(1 + e^0) is 1
    True
    """
    check_positive(k=k, sigma=sigma)
    lists = clean(scores, labels, mask, weights)
    winners, pair_weights = lambda_pairs(lists, weighting, k, mu, gain)
    return lists.mean(pairwise(lists.scores, winners, pair_weights, sigma) / math.log(2))


def lambda_pairs(
    lists: Lists, weighting: str = "ndcg2pp", k: int | None = None, mu: float = 10.0, gain: str = "exponential"
) -> tuple[Tensor, PairWeights]:
    """Return the places of documents on the better side, and the pairs' weights w_ij at the current scores.

    Args:
        lists: The canonical lists, of scores and grades [batch, list].
        weighting: The name of a weighting in ``WEIGHTINGS``.
        k: The cutoff of nDCG, 1 or more; None takes the whole list.
        mu: The share of ``ndcg2`` in ``ndcg2pp``.
        gain: The gain of a grade y: ``exponential`` (2^y - 1) or ``linear`` (y).

    Raises:
        UsageError: If ``weighting`` or ``gain`` is not a known name.
    """
    weigh = choose("weighting", weighting, WEIGHTINGS)
    every_pair, gains = weigh is ndcg1, normalized_gains(lists, gain, k)
    floor = 0.0 if every_pair else lists.fill(lists.labels, math.inf).amin(1, keepdim=True)
    winners = winner_places(lists.mask & (lists.labels > floor))
    rank = ranks(lists)

    def pair_weights(block: slice) -> Tensor:
        (label_i, label_j), (there_i, there_j), (gain_i, gain_j), (rank_i, rank_j) = (
            sides(values, winners, block) for values in (lists.labels, lists.mask, gains, rank)
        )
        if every_pair:
            counts = winners[block].unsqueeze(2) != torch.arange(rank.shape[1], device=rank.device)
        else:
            counts = label_i > label_j
        counts = counts & there_i & there_j
        if k is not None:
            counts &= (rank_i <= k) | (rank_j <= k)
        weight = weigh(Pairs(gain_i, gain_j, rank_i, rank_j, k, mu)).mul_(counts)
        return weight if lists.item_weights is None else weight.mul_(sides(lists.item_weights, winners, block)[0])

    return winners, pair_weights
