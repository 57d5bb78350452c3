r"""Distillation of a list: the divergence of the scores' softmax from a teacher's.

    l = T^2 \sum_i p_i (\log p_i - \log q_i),   p = softmax(y / T),  q = softmax(s / T)

with the teacher's scores as labels. The gradient is that of softmax cross entropy with soft targets; T^2 keeps its
size as T grows.

Paper: G. Hinton, O. Vinyals, J. Dean, Distilling the Knowledge in a Neural Network, 2015; for rankers Z. Lin et al.,
In-Batch Negatives for Knowledge Distillation with Tightly-Coupled Teachers, 2021.
"""

from torch import Tensor

from lorank.errors import UsageError
from lorank.ranking.losses.core.lists import check_positive, clean
from lorank.ranking.losses.core.registry import register_loss

HOTTEST = 1e4


@register_loss(
    "kl",
    title="Distilling the Knowledge in a Neural Network (divergence from a teacher's list)",
    aliases=("distill-kl",),
)
def kl(
    scores: Tensor,
    labels: Tensor,
    mask: Tensor | None = None,
    weights: Tensor | None = None,
    *,
    temperature: float = 1.0,
) -> Tensor:
    """Return the mean over lists of the divergence of the students' distribution from the teacher's.

    Args:
        scores: [batch, list].
        labels: The teacher's scores [batch, list], any real numbers.
        mask: bool [batch, list], True where there is a document.
        weights: [batch] or [batch, list]; a document's weight multiplies its own term of the sum.
        temperature: T above 0, at most 10,000, of both distributions.

    Returns:
        A scalar, 0 or more (without documents' weights).

    >>> import math, torch
    >>> value = kl(torch.tensor([[0.0, 0.0]]), torch.tensor([[math.log(3.0), 0.0]]))   # (3/4, 1/4) from (1/2, 1/2)
    >>> math.isclose(value, 0.75 * math.log(1.5) + 0.25 * math.log(0.5), rel_tol=1e-5)
    True
    """
    check_positive(temperature=temperature)
    if temperature > HOTTEST:
        raise UsageError(f"temperature is {temperature:g}, and its square scales the loss; give at most {HOTTEST:g}")
    lists = clean(scores, labels, mask, weights)
    teacher, student = (lists.log_shares(values, temperature) for values in (lists.labels, lists.scores))
    terms = lists.weigh(teacher.exp() * (teacher - student))
    return lists.mean(terms.sum(1) * temperature**2)
