r"""RCR: a listwise and a pointwise loss that agree on the best scores, so that scores stay probabilities.

    l = ListCE + alpha * SigmoidCE
    ListCE    = - \frac{1}{C} \sum_i y_i \log \frac{\sigma(s_i)}{\sum_j \sigma(s_j)}
    SigmoidCE = - \frac{1}{n} \sum_i [ y_i \log \sigma(s_i) + (1 - y_i) \log(1 - \sigma(s_i)) ],   y_i in [0, 1]

Both are least where \sigma(s_i) = P(y_i = 1). Softmax cross entropy in place of ListCE is least where \exp(s_i) is in
proportion to P(y_i = 1), which pulls the sum away from calibrated scores.

Paper: A. Bai, R. Jagerman, Z. Qin, L. Yan, P. Kar, B.-R. Lin, X. Wang, M. Bendersky, M. Najork, Regression Compatible
Listwise Objectives for Calibrated Ranking with Binary Relevance, CIKM 2023.

*Deviations*: the paper weighs the two parts (1 - a) and a; alpha is their ratio, so only the scale differs. With
C = \sum_i y_i (``target="normalized"``) the common minimum is exact for labels that are probabilities or lists with
equally many relevant documents; with C = 1 (``target="labels"``) it is exact for every law of binary labels.
"""

from torch import Tensor
from torch.nn import functional as F

from lorank.errors import UsageError
from lorank.ranking.losses.core.lists import choose, clean, lowest_score, normalise
from lorank.ranking.losses.core.registry import register_loss


def _as_they_are(relevance: Tensor) -> Tensor:
    return relevance


TARGETS = {"normalized": normalise, "labels": _as_they_are}


@register_loss("rcr", title="Regression Compatible Listwise Objectives for Calibrated Ranking with Binary Relevance")
def rcr(
    scores: Tensor,
    labels: Tensor,
    mask: Tensor | None = None,
    weights: Tensor | None = None,
    *,
    alpha: float = 1.0,
    target: str = "normalized",
    keep_equal: bool = False,
) -> Tensor:
    """Return the mean over lists of ListCE + alpha SigmoidCE.

    Args:
        scores: Logits [batch, list].
        labels: [batch, list]; values between 0 and 1 are probabilities, grades above 1 count as 1.
        mask: bool [batch, list], True where there is a document.
        weights: [batch] or [batch, list]; a document's weight multiplies its terms of both parts.
        alpha: Weight of the pointwise part, 0 and up; 0 leaves ListCE, whose scores are calibrated up to a factor.
        target: ``normalized`` (C is the sum of the labels) or ``labels`` (C = 1).
        keep_equal: Count lists whose labels are all equal as well; calibration needs them.

    Returns:
        A scalar, 0 or more.

    >>> import math, torch
    >>> value = rcr(torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0, 0.0]]), alpha=0.5)
    >>> math.isclose(value, math.log(2) + 0.5 * math.log(2), rel_tol=1e-6)
    True
    """
    if alpha < 0:
        raise UsageError(f"alpha must be 0 or more; got {alpha}")
    lists = clean(scores, labels, mask, weights)
    relevance = lists.labels.clamp(0, 1)
    log_probability = lists.fill(F.logsigmoid(lists.scores), lowest_score(lists.scores))
    log_share = log_probability - log_probability.logsumexp(1, keepdim=True)
    listwise = lists.weigh(choose("target", target, TARGETS)(relevance) * log_share).sum(1).neg()
    pointwise = F.binary_cross_entropy_with_logits(lists.scores, relevance, reduction="none")
    pointwise = lists.weigh(pointwise).sum(1) / lists.sizes
    return lists.mean(listwise + alpha * pointwise, lists.mask.any(1) if keep_equal else None)
