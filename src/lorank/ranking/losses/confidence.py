r"""Confidence ranking: the new model should be surer of the right answer than the model that serves today.

    l = BCE(s, y) + \lambda \frac{1}{n} \sum_i \phi( z_i (s_i - f_i) ),   z_i = 2 [y_i > 0] - 1,
    \phi(m) = \log(1 + \exp(-m))

with s the new model's logits and f the serving model's; phi is the logistic surrogate by default, or the hinge.

Paper: J. Zhu et al., Confidence Ranking for CTR Prediction, WWW 2023.

*Deviations*: reconstructed from the idea. Assumed: phi on the single document (the accuracy form), with the serving
model's logits as constants. They come in as ``reference``: the ranker's own before training, or a run's.
"""

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F

from lorank.errors import UsageError
from lorank.ranking.losses.core.lists import choose, clean
from lorank.ranking.losses.core.registry import register_loss


def _logistic(margin: Tensor) -> Tensor:
    return F.softplus(-margin, threshold=50)


def _hinge(margin: Tensor) -> Tensor:
    return (1 - margin).clamp(min=0)


SURROGATES: dict[str, Callable[[Tensor], Tensor]] = {"logistic": _logistic, "hinge": _hinge}


@register_loss(
    "confidence-ranking-ctr", area="recsys", title="Confidence Ranking for CTR Prediction", requires=("reference",)
)
def confidence_ranking(
    scores: Tensor,
    labels: Tensor,
    mask: Tensor | None = None,
    weights: Tensor | None = None,
    *,
    reference: Tensor,
    strength: float = 1.0,
    surrogate: str = "logistic",
) -> Tensor:
    """Return the mean over lists, those of equal labels included, of BCE plus the confidence term.

    Args:
        scores: The new model's logits [batch, list].
        labels: Clicks [batch, list], 0 or 1.
        mask: bool [batch, list], True where there is a document.
        weights: [batch] or [batch, list]; a document's weight multiplies its terms.
        reference: The serving model's logits [batch, list]; no gradient runs into them.
        strength: lambda, 0 and up.
        surrogate: ``logistic`` or ``hinge``.

    Returns:
        A scalar, 0 or more.

    >>> import math, torch
    >>> value = confidence_ranking(torch.tensor([[0.0]]), torch.tensor([[1.0]]), reference=torch.tensor([[2.0]]))
    >>> math.isclose(value, math.log(2) + math.log1p(math.exp(2)), rel_tol=1e-6)
    True
    """
    if strength < 0:
        raise UsageError(f"strength must be 0 or more; got {strength}")
    lists = clean(scores, labels, mask, weights)
    old = clean(reference.detach(), labels, mask).scores
    target = lists.labels.clamp(0, 1)
    terms = F.binary_cross_entropy_with_logits(lists.scores, target, reduction="none")
    margin = (2 * (lists.labels > 0).to(lists.scores) - 1) * (lists.scores - old)
    terms = terms + strength * choose("surrogate", surrogate, SURROGATES)(margin)
    return lists.mean_of_documents(terms, keep_equal=True)
