r"""A pairwise loss anchored pointwise: orders by pairs, while each score stays near the place of its human grade.

    l = hinge_\tau(s, y) + \lambda \frac{1}{n} \sum_i \max(0, (s_i - (a y_i + b))^2 - \epsilon)

Pairs alone leave the level and the spread of scores open, so that each retraining gives another scale; the anchor
costs nothing within \sqrt\epsilon of a grade's place and pulls from beyond.

Paper: L. Zou et al., Pre-trained Language Model based Ranking in Baidu Search, KDD 2021, section 4.3.

*Deviations*: means over a list's pairs and over its documents rather than sums; the paper's a = 1/5, b = 1/10 are the
defaults.
"""

from torch import Tensor

from lorank.errors import UsageError
from lorank.ranking.losses.core.lists import check_label_size, check_positive, clean
from lorank.ranking.losses.core.registry import register_loss
from lorank.ranking.losses.hinge import hinge


@register_loss(
    "anchored-hinge", title="Pre-trained Language Model based Ranking in Baidu Search (the loss)", aliases=("anchored",)
)
def anchored_hinge(
    scores: Tensor,
    labels: Tensor,
    mask: Tensor | None = None,
    weights: Tensor | None = None,
    *,
    margin: float = 0.1,
    anchor: float = 1.0,
    slope: float = 0.2,
    level: float = 0.1,
    tolerance: float = 0.01,
) -> Tensor:
    """Return the mean over lists of the pairwise hinge and of the anchor.

    Args:
        scores: [batch, list].
        labels: Human grades [batch, list], 0 and up.
        mask: bool [batch, list], True where there is a document.
        weights: [batch] or [batch, list].
        margin: The gap above 0 from which on a pair costs nothing; below ``slope``, or the two parts are at odds.
        anchor: lambda, 0 or more; 0 is the hinge alone.
        slope: a, above 0: how far apart neighbouring grades' places are.
        level: b, the place of grade 0.
        tolerance: epsilon, 0 or more, in squared scores.

    Returns:
        A scalar, 0 or more.

    >>> import torch
    >>> anchored_hinge(torch.tensor([[0.3, 1.1]]), torch.tensor([[1.0, 0.0]]), tolerance=0.0)   # 0.9 + (0 + 1) / 2
    tensor(1.4000)
    """
    check_positive(margin=margin, slope=slope)
    if min(anchor, tolerance) < 0:
        raise UsageError(f"anchor and tolerance must be 0 or more; got {anchor} and {tolerance}")
    lists = clean(scores, labels, mask, weights)  # once, so that half-precision gradients meet in single
    check_label_size(lists, scores)
    own = weights if lists.item_weights is None else lists.item_weights
    pairs = hinge(lists.scores, lists.labels, lists.mask, own, margin=margin)
    away = (lists.scores - (slope * lists.labels + level)).square() - tolerance
    return pairs + anchor * lists.mean_of_documents(away.clamp(min=0))
