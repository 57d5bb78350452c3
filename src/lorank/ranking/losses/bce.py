r"""Binary cross entropy: every document is its own yes-or-no question.

    l = (1/n) \sum_i  -y_i \log\sigma(s_i) - (1 - y_i) \log(1 - \sigma(s_i)),   y_i in [0, 1]

over the n documents of a list; the loss is the mean over lists (see :mod:`lorank.ranking.losses.core.lists`).

Paper: D. R. Cox, The Regression Analysis of Binary Sequences, 1958; as a reranking loss R. Nogueira and K. Cho,
Passage Re-ranking with BERT, 2019.
"""

from torch import Tensor
from torch.nn import functional as F

from lorank.ranking.losses.core.lists import clean
from lorank.ranking.losses.core.registry import register_loss


@register_loss("bce", title="Binary cross entropy on documents", aliases=("pointwise-sigmoid",))
def bce(
    scores: Tensor,
    labels: Tensor,
    mask: Tensor | None = None,
    weights: Tensor | None = None,
    *,
    threshold: float | None = None,
    keep_equal: bool = False,
) -> Tensor:
    """Return the mean over lists of the mean binary cross entropy of their documents.

    Args:
        scores: Logits [batch, list].
        labels: [batch, list]; values between 0 and 1 are probabilities, grades above 1 count as 1.
        mask: bool [batch, list], True where there is a document.
        weights: [batch] or [batch, list]; a document's weight multiplies its term.
        threshold: When given, the target is 1 for labels from ``threshold`` up and 0 below (TREC DL: 2).
        keep_equal: Count lists whose labels are all equal as well. They say nothing about order, yet
            calibration needs them, and so does training on lists of one document.

    Returns:
        A scalar, 0 or more.

    >>> import math, torch
    >>> value = bce(torch.tensor([[2.0, -1.0]]), torch.tensor([[1.0, 0.0]]))
    >>> math.isclose(value, (math.log1p(math.exp(-2)) + math.log1p(math.exp(-1))) / 2, rel_tol=1e-6)
    True
    """
    lists = clean(scores, labels, mask, weights)
    target = lists.labels.clamp(0, 1) if threshold is None else (lists.labels >= threshold).to(lists.labels)
    terms = F.binary_cross_entropy_with_logits(lists.scores, target, reduction="none")
    return lists.mean_of_documents(terms, keep_equal)
