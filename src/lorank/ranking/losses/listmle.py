r"""ListMLE and p-ListMLE: the likelihood of the ideal order under Plackett and Luce's model.

    l = \sum_i a(r_i) [ \log \sum_{j : y_j \le y_i} \exp(s_j) - s_i ]

with r_i the rank of i by label. ListMLE has a = 1. p-ListMLE weighs the top positions more,

    a(r) = (2^{n-r} - 1) / (2^{n-1} - 1)

over the n documents of the list.

Paper: F. Xia, T.-Y. Liu, J. Wang, W. Zhang, H. Li, Listwise Approach to Learning to Rank, ICML 2008; Y. Lan, Y. Zhu,
J. Guo, S. Niu, X. Cheng, Position-Aware ListMLE: A Sequential Learning Process for Ranking, UAI 2014.

*Deviations*: where labels tie, the papers leave the order open and published code draws it at random. Here every
document of a tie competes with the whole tie (Breslow's form of the partial likelihood), and has the mean a(r) of
the tie's ranks; the loss stays a deterministic function that no order of input can change. With two grades it is the
softmax cross entropy of each relevant document plus a term that keeps the irrelevant ones together;
``last_grade=False`` leaves that term out. p-ListMLE's weights are divided by that of the first place, which is
2^{n-1} - 1 in the paper and overflows on long lists.
"""

from torch import Tensor

from lorank.ranking.losses.core.lists import clean
from lorank.ranking.losses.core.order_likelihood import negative_log_likelihood
from lorank.ranking.losses.core.registry import register_loss


@register_loss("listmle", title="Listwise Approach to Learning to Rank: Theory and Algorithm (ListMLE)")
def listmle(
    scores: Tensor,
    labels: Tensor,
    mask: Tensor | None = None,
    weights: Tensor | None = None,
    *,
    last_grade: bool = True,
) -> Tensor:
    """Return the mean over lists of the negative log likelihood of the labels' order.

    Args:
        scores: [batch, list].
        labels: [batch, list]; only their order matters.
        mask: bool [batch, list], True where there is a document.
        weights: [batch] or [batch, list]; a document's weight multiplies its own term of the sum.
        last_grade: Count the terms of a list's lowest grade too.

    Returns:
        A scalar, 0 or more.

    >>> import math, torch
    >>> value = listmle(torch.tensor([[0.0, 0.0, 0.0]]), torch.tensor([[2.0, 1.0, 0.0]]))   # one order of 3!
    >>> math.isclose(value, math.log(6), rel_tol=1e-6)
    True
    """
    lists = clean(scores, labels, mask, weights)
    return lists.mean(negative_log_likelihood(lists, last_grade, by_place=False))


@register_loss("p-listmle", title="Position-Aware ListMLE: A Sequential Learning Process for Ranking")
def p_listmle(
    scores: Tensor,
    labels: Tensor,
    mask: Tensor | None = None,
    weights: Tensor | None = None,
    *,
    last_grade: bool = True,
) -> Tensor:
    """Return the mean over lists of the likelihood's terms, the top places weighing most.

    Args:
        scores: [batch, list].
        labels: [batch, list]; only their order matters.
        mask: bool [batch, list], True where there is a document.
        weights: [batch] or [batch, list]; a document's weight multiplies its own term of the sum.
        last_grade: Count the terms of a list's lowest grade too.

    Returns:
        A scalar, 0 or more.

    >>> import math, torch
    >>> value = p_listmle(torch.tensor([[0.0, 0.0, 0.0]]), torch.tensor([[2.0, 1.0, 0.0]]))
    >>> math.isclose(value, math.log(3) + (2 - 1) / (4 - 1) * math.log(2), rel_tol=1e-6)
    True
    """
    lists = clean(scores, labels, mask, weights)
    return lists.mean(negative_log_likelihood(lists, last_grade, by_place=True))
