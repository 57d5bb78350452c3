r"""The pairwise hinge: every relevant document should stand a margin above every less relevant one.

    l = \frac{1}{|\{y_i > y_j\}|} \sum_{y_i > y_j} \max(0, m - (s_i - s_j))

Paper: T. Joachims, Optimizing Search Engines using Clickthrough Data, KDD 2002 (RankSVM); R. Herbrich, T. Graepel,
K. Obermayer, Large Margin Rank Boundaries for Ordinal Regression, 2000.

*Deviations*: the mean over a list's pairs rather than their sum, so that long lists do not drown short ones.
"""

from torch import Tensor

from lorank.ranking.losses.core.lists import check_positive, clean
from lorank.ranking.losses.core.pairs import mean_pair_loss
from lorank.ranking.losses.core.registry import register_loss


@register_loss(
    "hinge",
    title="Optimizing Search Engines using Clickthrough Data (RankSVM's pairwise hinge)",
    aliases=("pairwise-hinge",),
)
def hinge(
    scores: Tensor,
    labels: Tensor,
    mask: Tensor | None = None,
    weights: Tensor | None = None,
    *,
    margin: float = 1.0,
) -> Tensor:
    """Return the mean over lists of the mean hinge loss of their ordered pairs.

    Args:
        scores: [batch, list].
        labels: [batch, list].
        mask: bool [batch, list], True where there is a document.
        weights: [batch] or [batch, list]; a pair has the weight of its more relevant document.
        margin: The gap m above 0 from which on a pair costs nothing.

    Returns:
        A scalar, 0 or more.

    >>> import torch
    >>> hinge(torch.tensor([[1.0, 3.0, 0.5]]), torch.tensor([[2.0, 0.0, 1.0]]))   # gaps -2, 0.5 and -2.5
    tensor(2.3333)
    """
    check_positive(margin=margin)

    def shortfall(x: Tensor) -> tuple[Tensor, Tensor]:
        value = x.add_(margin).clamp_(min=0)
        return value, (value > 0).to(value.dtype)

    return mean_pair_loss(clean(scores, labels, mask, weights), 1.0, shortfall)
