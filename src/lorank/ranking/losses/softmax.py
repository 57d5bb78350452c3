r"""Softmax cross entropy over a list: ListNet's top-one loss.

    l = -\sum_i P_i \log \frac{\exp(s_i / T)}{\sum_j \exp(s_j / T)}

with the target P that ``target`` names: ``normalized``, P_i = y_i / \sum_j y_j; ``softmax``, P = softmax(y), as
ListNet has it; ``labels``, P_i = y_i, as rax has it. With one relevant document, the first and the last are the
contrastive (InfoNCE) loss.

Paper: Z. Cao, T. Qin, T.-Y. Liu, M.-F. Tsai, H. Li, Learning to Rank: From Pairwise Approach to Listwise
Approach, ICML 2007; S. Bruch et al., An Analysis of the Softmax Cost Function for Learning to Rank, ICTIR 2019.

*Deviations*: ListNet's own target is ``softmax``; the default is ``normalized``, which gives irrelevant documents
no mass. A list whose labels are all equal counts 0 under every target.
"""

from collections.abc import Callable

from torch import Tensor

from lorank.ranking.losses.core.lists import Lists, check_label_size, check_positive, choose, clean, normalise
from lorank.ranking.losses.core.registry import register_loss


def _normalize(lists: Lists) -> Tensor:
    return normalise(lists.labels)


def _softmax(lists: Lists) -> Tensor:
    return lists.shares(lists.labels)


def _labels(lists: Lists) -> Tensor:
    return lists.labels.clamp(min=0)


TARGETS: dict[str, Callable[[Lists], Tensor]] = {"normalized": _normalize, "softmax": _softmax, "labels": _labels}


@register_loss(
    "softmax",
    title="Learning to Rank: From Pairwise Approach to Listwise Approach (ListNet, top-one)",
    aliases=("listnet",),
)
def softmax(
    scores: Tensor,
    labels: Tensor,
    mask: Tensor | None = None,
    weights: Tensor | None = None,
    *,
    target: str = "normalized",
    temperature: float = 1.0,
) -> Tensor:
    """Return the mean over lists of the cross entropy between the target and the softmax of the scores.

    Args:
        scores: [batch, list].
        labels: [batch, list]; a label below 0 counts as 0 but for ``softmax``, which takes any.
        mask: bool [batch, list], True where there is a document.
        weights: [batch] or [batch, list]; a document's weight multiplies its own term of the sum.
        target: ``normalized``, ``softmax`` or ``labels``.
        temperature: T above 0; small values sharpen the softmax of the scores (0.05 suits cosines).

    Returns:
        A scalar.

    >>> import math, torch
    >>> value = softmax(torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[1.0, 0.0, 0.0]]))
    >>> math.isclose(value, math.log(1 + math.exp(-1) + math.exp(-2)), rel_tol=1e-6)
    True
    """
    check_positive(temperature=temperature)
    lists = clean(scores, labels, mask, weights)
    if target == "labels":
        check_label_size(lists, scores)
    return cross_entropy(lists, choose("target", target, TARGETS)(lists), temperature)


def cross_entropy(lists: Lists, wanted: Tensor, temperature: float = 1.0, counted: Tensor | None = None) -> Tensor:
    r"""Return the mean over lists of - \sum_i P_i \log softmax(s / T)_i, a scalar.

    Args:
        lists: The batch.
        wanted: P [batch, list], of any sum, 0 where masked; documents' weights come on top.
        temperature: T above 0.
        counted: The lists that count, bool [batch]; None for those with signal.
    """
    wanted = wanted * lists.parts(counted).unsqueeze(1)  # here, not on each list's sum: fewer steps to go back
    if lists.item_weights is not None:
        wanted = wanted * lists.item_weights
    return -(wanted * lists.log_shares(lists.scores, temperature)).sum()
