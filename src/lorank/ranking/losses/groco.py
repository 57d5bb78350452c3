r"""GroCo: sort the scores softly; every document should end in the block of places of its own grade.

    l = - \frac{1}{n} \sum_j \log \sum_{i \in B(j)} P_{ij}

with P the soft permutation of a differentiable sorting network (place i, document j; see
:mod:`lorank.ranking.losses.core.sorting_network`) and B(j) the places that documents of j's grade hold in the ideal
order: with m positives the first m places for a positive, the others for a negative.

Paper: N. Shvetsova, F. Petersen, A. Kukleva, B. Schiele, H. Kuehne, Learning by Sorting: Self-supervised Learning with
Group Ordering Constraints, ICCV 2023.

*Deviations*: any number of grades instead of positives and negatives; the sums over a block's places, not the
single entries of P, enter the cross entropy, since the order within a grade is free. Documents enter the network
grade by grade, best first, and within a grade by score, so that the loss does not depend on the order of input.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from lorank.ranking.losses.core.lists import canonicalise, check_positive, choose, clean
from lorank.ranking.losses.core.registry import register_loss
from lorank.ranking.losses.core.sorting_network import NETWORKS, send_back, swap_chances


@register_loss("groco", title="Learning by Sorting: Self-supervised Learning with Group Ordering Constraints")
def groco(
    scores: Tensor,
    labels: Tensor,
    mask: Tensor | None = None,
    weights: Tensor | None = None,
    *,
    network: str = "bitonic",
    steepness: float = 4.0,
) -> Tensor:
    """Return the mean over lists of the mean negative log chance that a document ends among its own grade.

    Args:
        scores: [batch, list].
        labels: [batch, list]; only their order matters. Memory grows with list times number of grades.
        mask: bool [batch, list], True where there is a document.
        weights: [batch] or [batch, list]; a document's weight multiplies its term.
        network: ``bitonic`` (few layers) or ``odd-even`` (one layer a document, for short lists).
        steepness: Above 0; large sorts sharply.

    Returns:
        A scalar, 0 or more.

    >>> import math
    >>> value = groco(torch.tensor([[2.0, 1.0]]), torch.tensor([[1.0, 0.0]]), steepness=3.0)   # one comparison
    >>> math.isclose(value, -math.log(1 / 2 + math.atan(3.0) / math.pi), rel_tol=1e-6)
    True
    """
    check_positive(steepness=steepness)
    build = choose("network", network, NETWORKS)
    lists = canonicalise(clean(scores, labels, mask, weights), by="label")
    layers = build(max(2, lists.scores.shape[1]))
    wires = 1 + max(max(layer.upper + layer.lower, default=0) for layer in layers)
    spare = (0, max(0, wires - lists.scores.shape[1]))
    chances = swap_chances(F.pad(lists.scores, spare), F.pad(lists.mask, spare), layers, steepness)
    own_block = _blocks_of_grades(lists.labels)
    ended = send_back(F.pad(own_block, (0, 0, *spare)), chances)[:, : own_block.shape[1]]
    at_home = (ended * own_block).sum(2).clamp(min=torch.finfo(ended.dtype).tiny)
    return lists.mean_of_documents(-at_home.log())


def _blocks_of_grades(labels: Tensor) -> Tensor:
    """Return [batch, list, grades]: 1 where the label, in descending order, belongs to the grade."""
    new = F.pad((labels[:, 1:] != labels[:, :-1]).long(), (1, 0))
    grade = new.cumsum(1)
    return F.one_hot(grade, int(grade.max()) + 1 if grade.numel() else 1).to(labels)
