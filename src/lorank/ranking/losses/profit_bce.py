r"""Profit-aware binary cross entropy: errors on documents that move much money weigh more.

    l = \frac{1}{n} \sum_i \omega_i BCE(s_i, [v_i > 0]),   \omega_i = 1 - \mu + \mu \frac{|v_i|}{mean_j |v_j|}

with v_i the profit (above 0) or loss (below 0) on item i, which serves as its label.

Paper: Learn to Rank Risky Investors: A Case Study of Predicting Retail Traders' Behaviour and Profitability
(PA-RiskRanker).

*Deviations*: reconstructed from the idea, not from the paper's text. Assumed: the sign of the profit is the class,
the weight is the profit's size over the list's mean size, and ``share`` mixes in plain BCE. The paper's scorer, a
transformer with attention across the items of a list, is any such ranker: the loss asks only for scores.
"""

from torch import Tensor
from torch.nn import functional as F

from lorank.errors import UsageError
from lorank.ranking.losses.core.lists import clean
from lorank.ranking.losses.core.registry import register_loss


@register_loss(
    "pa-riskranker",
    title="Learn to Rank Risky Investors: A Case Study of Predicting Retail Traders' Behaviour and Profitability",
    aliases=("pa-bce", "profit-bce"),
)
def profit_bce(
    scores: Tensor,
    labels: Tensor,
    mask: Tensor | None = None,
    weights: Tensor | None = None,
    *,
    share: float = 1.0,
) -> Tensor:
    """Return the mean over lists of the mean binary cross entropy, weighted by profit.

    Args:
        scores: Logits [batch, list].
        labels: Profits and losses v [batch, list], any real numbers.
        mask: bool [batch, list], True where there is an item.
        weights: [batch] or [batch, list]; an item's weight multiplies its term.
        share: mu from 0 (plain BCE) to 1 (an item without profit or loss counts nothing).

    Returns:
        A scalar, 0 or more.

    >>> import math, torch
    >>> value = profit_bce(torch.tensor([[0.0, 0.0]]), torch.tensor([[30.0, -10.0]]))   # weights 1.5 and 0.5
    >>> math.isclose(value, (1.5 + 0.5) / 2 * math.log(2), rel_tol=1e-6)
    True
    """
    if not 0 <= share <= 1:
        raise UsageError(f"share must be from 0 to 1; got {share}")
    lists = clean(scores, labels, mask, weights)
    size = lists.labels.abs()
    mean = (size.sum(1) / lists.sizes).unsqueeze(1)
    emphasis = 1 - share + share * size / mean.where(mean > 0, 1.0)
    target = (lists.labels > 0).to(lists.scores)
    terms = emphasis * F.binary_cross_entropy_with_logits(lists.scores, target, reduction="none")
    return lists.mean_of_documents(terms)
