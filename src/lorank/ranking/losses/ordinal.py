r"""Ordinal regression: K yes-or-no questions, "is the grade above k?", answered by one score and K thresholds.

    l = \frac{1}{n K} \sum_i \sum_{k=1}^{K} BCE( s_i - \theta_k, [y_i \ge k] ),   \theta_1 < ... < \theta_K

so that \sigma(s - \theta_k) is the chance of grade k or better, and these chances never cross.

Paper: P. McCullagh, Regression Models for Ordinal Data, 1980; W. Cao, V. Mirjalili, S. Raschka, Rank Consistent
Ordinal Regression for Neural Networks (CORAL), 2020; Z. Niu et al., Ordinal Regression with Multiple Output CNN,
2016.

*Deviations*: allRank's ordinal loss asks a ranker for K outputs a document; ours, as CORAL, for one. The thresholds
are given, evenly spaced around 0 by default; a ranker's bias and scale absorb the rest.
"""

from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from lorank.errors import UsageError
from lorank.ranking.losses.core.lists import clean
from lorank.ranking.losses.core.registry import register_loss

MOST_GRADES = 10_000


@register_loss(
    "ordinal", title="Regression Models for Ordinal Data (cumulative logits, one score a document)", aliases=("coral",)
)
def ordinal(
    scores: Tensor,
    labels: Tensor,
    mask: Tensor | None = None,
    weights: Tensor | None = None,
    *,
    grades: int = 4,
    thresholds: tuple[float, ...] | None = None,
    keep_equal: bool = False,
) -> Tensor:
    """Return the mean over lists of the mean binary cross entropy of every question about every document.

    Args:
        scores: [batch, list].
        labels: Grades [batch, list], 0 and up; grades above the highest question answer all with yes.
        mask: bool [batch, list], True where there is a document.
        weights: [batch] or [batch, list]; a document's weight multiplies its terms.
        grades: K, the highest grade, 1 to 10,000; gives the thresholds k - (K + 1) / 2. Not used with ``thresholds``.
        thresholds: Rising theta_1 .. theta_K.
        keep_equal: Count lists whose labels are all equal as well.

    Returns:
        A scalar, 0 or more.

    >>> import math
    >>> value = ordinal(torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 0.0]]), grades=1)   # is bce
    >>> math.isclose(value, (math.log(2) + math.log1p(math.e)) / 2, rel_tol=1e-6)
    True
    """
    if thresholds is None:
        if not 1 <= grades <= MOST_GRADES:
            raise UsageError(f"grades must be 1 to {MOST_GRADES}; got {grades}")
        thresholds = tuple(k - (grades + 1) / 2 for k in range(1, grades + 1))
    if not thresholds or any(low >= high for low, high in pairwise(thresholds)):
        raise UsageError(f"thresholds must rise; got {thresholds}")
    lists = clean(scores, labels, mask, weights)
    theta = torch.tensor(thresholds, dtype=lists.scores.dtype, device=lists.scores.device)
    question = torch.arange(1, len(thresholds) + 1, device=lists.scores.device)
    logits = lists.scores.unsqueeze(2) - theta
    terms = F.binary_cross_entropy_with_logits(
        logits, (lists.labels.unsqueeze(2) >= question).to(logits), reduction="none"
    ).mean(2)
    return lists.mean_of_documents(terms, keep_equal)
