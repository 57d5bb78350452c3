r"""FINEST: fine-tune on perturbed data, and keep the lists that the model gave before.

    l = l_0(s, y) + \lambda [ \frac{1}{|P|} \sum_{(i, j) \in P} \max(0, m - (s_i - s_j))
                              + \mu \frac{1}{|T|} \sum_{i \in T} (s_i - f_i)^2 ]

with f the reference model's scores, T the documents that a list keeps an eye on (the top of its reference list and a
sample of the others), and P the pairs f_i > f_j of T. ``perturb`` makes each round's data: some lists are left out and
some get the label of another document, as clicks that are lost or wrong would.

Paper: S. Oh, B. Ustun, J. McAuley, S. Kumar, FINEST: Stabilizing Recommendations by Rank-Preserving Fine-Tuning,
KDD 2024.

*Deviations*: reconstructed from the idea. Assumed: the hinge as the order's term, all pairs of T rather than
neighbours and a few others, and the paper's perturbation of a user's interactions as one of lists and labels.
"""

import torch
from torch import Tensor

from lorank.errors import UsageError
from lorank.ranking.losses.core.lists import check_positive, clean, ranks
from lorank.ranking.losses.core.registry import Loss, plain_loss, register_loss
from lorank.ranking.losses.hinge import hinge


@register_loss(
    "finest",
    area="robust",
    title="FINEST: Stabilizing Recommendations by Rank-Preserving Fine-Tuning",
    requires=("epoch", "lists", "reference"),
)
class Finest:
    """A loss on labels that are perturbed anew each epoch, with the rank-preserving term.

    What is lost, wrong or sampled depends on the lists and the epoch alone, so nothing has to be remembered.

    Args:
        base: Name of the loss l_0.
        strength: lambda, 0 and up; 0 is plain training on the perturbed labels.
        closeness: mu, 0 and up.
        margin: m above 0, in units of the scores.
        top: Documents from the top of the reference list that take part, 1 or more.
        sampled: Documents drawn from below it, 0 and up.
        lost: Share of lists that lose their labels, 0 to 1.
        wrong: Share of lists whose labels go to other documents, 0 to 1.

    >>> from lorank.ranking.losses import loss
    >>> scores, labels = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[1.0, 0.0, 0.0]])
    >>> value = loss("finest", lost=0.0, wrong=0.0)(
    ...     scores, labels, reference=scores, lists=torch.tensor([7]), epoch=torch.tensor(0))
    >>> bool(value == loss("softmax")(scores, labels))     # nothing has moved, and the margins hold
    True
    """

    def __init__(
        self,
        *,
        base: str = "softmax",
        strength: float = 1.0,
        closeness: float = 1.0,
        margin: float = 0.1,
        top: int = 20,
        sampled: int = 20,
        lost: float = 0.1,
        wrong: float = 0.1,
    ) -> None:
        if min(lost, wrong) < 0 or lost + wrong > 1:
            raise UsageError(f"lost and wrong must be 0 or more and at most 1 together; got {lost} and {wrong}")
        self.lost, self.wrong, self.seen = lost, wrong, torch.Generator()
        self.preserved = rank_preserving(
            plain_loss(base),
            strength=strength,
            closeness=closeness,
            margin=margin,
            top=top,
            sampled=sampled,
            generator=self.seen,
        )

    def __call__(
        self,
        scores: Tensor,
        labels: Tensor,
        mask: Tensor | None = None,
        weights: Tensor | None = None,
        *,
        reference: Tensor,
        lists: Tensor,
        epoch: Tensor,
    ) -> Tensor:
        """Return the loss of the perturbed labels and how far the lists moved from ``reference``.

        Args:
            scores: [batch, list].
            labels: [batch, list], 0 and up.
            mask: bool [batch, list], True where there is a document.
            weights: [batch] or [batch, list], of the base loss alone.
            reference: The scores of the model before [batch, list].
            lists: int64 [batch], what tells a query from the others.
            epoch: Which pass over the lists this is.
        """
        self.seen.manual_seed((int(epoch) * 1_000_003 + int(lists.sum())) % 2**62)
        everywhere = torch.ones_like(scores, dtype=torch.bool)
        changed = perturb(
            labels, everywhere if mask is None else mask, lost=self.lost, wrong=self.wrong, generator=self.seen
        )
        return self.preserved(scores, changed, mask, weights, reference=reference)


def rank_preserving(
    base: Loss,
    *,
    strength: float = 1.0,
    closeness: float = 1.0,
    margin: float = 0.1,
    top: int = 20,
    sampled: int = 20,
    generator: torch.Generator | None = None,
) -> Loss:
    """Return the loss with the rank-preserving term; it takes the reference's scores as ``reference``.

    Weights of lists and documents apply to the base loss alone.

    Args:
        base: Any loss of (scores, labels, mask, weights).
        strength: lambda, 0 and up; 0 is plain training.
        closeness: mu, 0 and up.
        margin: m above 0, in units of the scores.
        top: Documents from the top of the reference list that take part, 1 or more.
        sampled: Documents drawn from below it, 0 and up.
        generator: Where the draw comes from; None for the same draw at every call.

    >>> from lorank.ranking.losses import loss
    >>> function = rank_preserving(loss("softmax"), strength=1.0)
    >>> scores, labels = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[1.0, 0.0, 0.0]])
    >>> bool(function(scores, labels, reference=scores) == loss("softmax")(scores, labels))     # nothing has moved
    True
    """
    check_positive(margin=margin, top=top)
    if strength < 0 or closeness < 0 or sampled < 0:
        raise UsageError(f"strength, closeness and sampled must be 0 or more; got {strength}, {closeness}, {sampled}")

    def preserved(
        scores: Tensor,
        labels: Tensor,
        mask: Tensor | None = None,
        weights: Tensor | None = None,
        *,
        reference: Tensor,
    ) -> Tensor:
        value = base(scores, labels, mask, weights)
        watched = watch(reference, mask, top, sampled, generator)
        lists = clean(scores, reference.detach(), watched)
        order = hinge(scores, reference.detach(), watched, margin=margin)
        squares = torch.where(lists.mask, (lists.scores - lists.labels).square(), 0.0)
        return value + strength * (order + closeness * lists.mean(squares.sum(1) / lists.sizes))

    return preserved


def watch(
    reference: Tensor, mask: Tensor | None, top: int, sampled: int, generator: torch.Generator | None = None
) -> Tensor:
    """Return the documents that take part: the reference's top and a sample of the others, bool [batch, list].

    Args:
        reference: The scores [batch, list] that say which documents are at the top.
        mask: The bool [batch, list] grid, True where there is a document; None where every place holds one.
        top: The number of documents per list that always take part, 0 or more.
        sampled: The number of other documents per list that are drawn, 0 or more.
        generator: The source of the draws; None draws from seed 0.

    >>> watch(torch.tensor([[0.1, 0.9, 0.5, 0.2]]), None, top=2, sampled=0)
    tensor([[False,  True,  True, False]])
    """
    lists = clean(reference.detach(), torch.zeros_like(reference), mask)
    place = ranks(lists)
    first = lists.mask & (place <= top)
    source = torch.Generator().manual_seed(0) if generator is None else generator
    luck = torch.rand(place.shape, generator=source, device=source.device).to(place.device)
    luck = luck.masked_fill(~lists.mask | first, -1.0)
    drawn = luck.argsort(dim=1, descending=True).argsort(dim=1) < sampled
    return (first | (drawn & lists.mask))[:, : reference.shape[1]]


def perturb(
    labels: Tensor, mask: Tensor, *, lost: float = 0.1, wrong: float = 0.1, generator: torch.Generator
) -> Tensor:
    """Return labels of which some lists are lost (all 0) and some have their labels moved to other documents.

    Args:
        labels: [batch, list].
        mask: bool [batch, list], True where there is a document.
        lost: Chance that a list's labels all become 0.
        wrong: Chance that a list's labels are dealt anew among its documents.
        generator: Where the draws come from.

    >>> labels, mask = torch.eye(3), torch.ones(3, 3, dtype=torch.bool)
    >>> float(perturb(labels, mask, lost=1.0, wrong=0.0, generator=torch.Generator()).sum())
    0.0
    """
    fate = torch.rand(len(labels), 1, generator=generator).to(labels.device)
    luck = torch.rand(labels.shape, generator=generator).to(labels.device)
    first = mask.to(torch.uint8).argsort(dim=1, descending=True, stable=True)
    dealt = luck.masked_fill(~mask, 2.0).argsort(dim=1)
    moved = torch.zeros_like(labels).scatter(1, dealt, labels.gather(1, first))
    return torch.where(fate < lost, torch.zeros_like(labels), torch.where(fate < lost + wrong, moved, labels))
