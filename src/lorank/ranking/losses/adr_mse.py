r"""ADR-MSE: soft ranks should be the teacher's ranks, the top ones above all.

    l = \frac{1}{n} \sum_i \frac{1}{\log_2(1 + \pi_i)} (\pi_i - r_i)^2

with \pi_i the rank of i by label (ties share their mean rank), and r_i its soft rank by score (see
:mod:`lorank.ranking.losses.approx`). Made for distilling the order that a large reranker returns without scores:
give its ranks, reversed, as labels.

Paper: F. Schlatt, M. Fröbe, H. Scells, S. Zhuang, B. Koopman, G. Zuccon, B. Stein, M. Potthast, M. Hagen,
Rank-DistiLLM: Closing the Effectiveness Gap Between Cross-Encoders and LLMs for Passage Re-Ranking, ECIR 2025.

*Deviations*: the paper's teacher ranks have no ties; grades, which do, are welcome here.
"""

from torch import Tensor

from lorank.ranking.losses.approx import soft_ranks
from lorank.ranking.losses.core.lists import check_positive, clean, discounts, label_ranks
from lorank.ranking.losses.core.registry import register_loss


@register_loss(
    "adr-mse",
    title="Rank-DistiLLM: Closing the Effectiveness Gap Between Cross-Encoders and LLMs for "
    "Passage Re-Ranking (approximate discounted rank MSE)",
)
def adr_mse(
    scores: Tensor,
    labels: Tensor,
    mask: Tensor | None = None,
    weights: Tensor | None = None,
    *,
    temperature: float = 1.0,
) -> Tensor:
    """Return the mean over lists of the mean discounted squared difference of ranks.

    Args:
        scores: [batch, list].
        labels: [batch, list]; only their order matters, the best document highest.
        mask: bool [batch, list], True where there is a document.
        weights: [batch] or [batch, list]; a document's weight multiplies its term.
        temperature: T of the soft ranks, above 0.

    Returns:
        A scalar, 0 or more.

    >>> import math, torch
    >>> value = adr_mse(torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0, 0.0]]))   # soft ranks are 1.5
    >>> math.isclose(value, (0.25 + 0.25 / math.log2(3)) / 2, rel_tol=1e-6)
    True
    """
    check_positive(temperature=temperature)
    lists = clean(scores, labels, mask, weights)
    wanted = label_ranks(lists)
    return lists.mean_of_documents(discounts(wanted) * (wanted - soft_ranks(lists, temperature)).square())
