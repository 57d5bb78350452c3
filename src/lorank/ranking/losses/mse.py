r"""Squared error: every document's score should be its label.

    l = (1/n) \sum_i (s_i - y_i)^2

over the n documents of a list. With a teacher's scores as labels it is pointwise distillation.

Paper: D. Cossock and T. Zhang, Subset Ranking Using Regression, COLT 2006.
"""

from torch import Tensor

from lorank.ranking.losses.core.lists import check_label_size, clean
from lorank.ranking.losses.core.registry import register_loss


@register_loss("mse", title="Subset Ranking Using Regression (squared error on documents)", aliases=("pointwise-mse",))
def mse(
    scores: Tensor,
    labels: Tensor,
    mask: Tensor | None = None,
    weights: Tensor | None = None,
    *,
    keep_equal: bool = False,
) -> Tensor:
    """Return the mean over lists of the mean squared difference of score and label.

    Args:
        scores: [batch, list].
        labels: [batch, list], any real numbers.
        mask: bool [batch, list], True where there is a document.
        weights: [batch] or [batch, list]; a document's weight multiplies its term.
        keep_equal: Count lists whose labels are all equal as well.

    Returns:
        A scalar, 0 or more.

    >>> import torch
    >>> mse(torch.tensor([[2.0, -1.0]]), torch.tensor([[1.0, 0.0]]))   # (1^2 + 1^2) / 2
    tensor(1.)
    """
    lists = clean(scores, labels, mask, weights)
    check_label_size(lists, scores)
    return lists.mean_of_documents((lists.scores - lists.labels).square(), keep_equal)
