r"""Training curricula: documents that look hard weigh little at first, and as much as all others from epoch m on.

    w(e) = D + \frac{e}{m} (1 - D)   for e < m,     w(e) = 1   from m on

D in [0, 1] says how easy a document is for the label it has, by a heuristic E on the first stage's scores b:
D = E for a relevant document and 1 - E for another, with

    reciprocal-rank    E = 1 / r,  r the document's rank by b
    normalized         E = (b - min b) / (max b - min b)  over the list
    density            E = \frac{1}{n} \sum_j \Phi((b - b_j) / h),  the Gaussian kernel estimate of the share below b

The loss is any other of the registry with these weights of documents; :func:`pair_easiness` is for lists of two.

Paper: S. MacAvaney, F. M. Nardini, R. Perego, N. Tonellotto, N. Goharian, O. Frieder, Training Curricula for Open
Domain Answer Re-Ranking, SIGIR 2020.

*Deviations*: the width h is Scott's rule, n^{-1/5} times the standard deviation of the list's scores (assumed). In a
pairwise loss of longer lists a pair has the weight of its more relevant document, where the paper has the mean of both.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from lorank.errors import UsageError
from lorank.ranking.losses.core.lists import Lists, check_positive, choose, clean, ranks
from lorank.ranking.losses.core.pairs import pair_blocks
from lorank.ranking.losses.core.registry import plain_loss, register_loss


def _reciprocal_rank(lists: Lists) -> Tensor:
    return 1 / ranks(lists)


def _normalize(lists: Lists) -> Tensor:
    low = lists.fill(lists.scores, torch.inf).amin(1, keepdim=True)
    span = lists.fill(lists.scores, -torch.inf).amax(1, keepdim=True) - low
    return torch.where(lists.mask & (span > 0), (lists.scores - low) / torch.where(span > 0, span, 1.0), 0.5)


def _density(lists: Lists) -> Tensor:
    sizes = lists.sizes.to(lists.scores.dtype).unsqueeze(1)
    mean = lists.scores.sum(1, keepdim=True) / sizes
    variance = torch.where(lists.mask, (lists.scores - mean).square(), 0.0).sum(1, keepdim=True) / sizes
    width = sizes.pow(-0.2) * variance.sqrt()
    width = torch.where(width > 0, width, 1.0)
    share = torch.zeros_like(lists.scores)
    for block, rows in pair_blocks(lists.scores):
        own, others = lists.scores[block, rows].unsqueeze(2), lists.scores[block].unsqueeze(1)
        below = torch.special.ndtr((own - others) / width[block].unsqueeze(2))
        share[block, rows] = below.mul_(lists.mask[block].unsqueeze(1)).sum(2)
    return share / sizes


HEURISTICS: dict[str, Callable[[Lists], Tensor]] = {
    "reciprocal-rank": _reciprocal_rank,
    "normalized": _normalize,
    "density": _density,
}


def easiness(
    first_stage: Tensor, labels: Tensor, mask: Tensor | None = None, *, heuristic: str = "reciprocal-rank"
) -> Tensor:
    """Return D for every document, [batch, list], between 0 and 1; 1 where masked.

    Args:
        first_stage: Scores of the first stage [batch, list].
        labels: [batch, list]; above 0 is relevant.
        mask: bool [batch, list], True where there is a document.
        heuristic: ``reciprocal-rank``, ``normalized`` or ``density``.

    >>> easiness(torch.tensor([[9.0, 7.0, 3.0]]), torch.tensor([[0, 1, 0]]))   # ranks 1, 2, 3
    tensor([[0.0000, 0.5000, 0.6667]])
    """
    lists = clean(first_stage, labels, mask)
    looks_relevant = choose("heuristic", heuristic, HEURISTICS)(lists)
    return torch.where(lists.mask, torch.where(lists.labels > 0, looks_relevant, 1 - looks_relevant), 1.0)


def pair_easiness(each: Tensor) -> Tensor:
    """Return D of pairs, [batch], from D of their two documents, [batch, 2]: the mean.

    >>> pair_easiness(torch.tensor([[1.0, 0.5]]))
    tensor([0.7500])
    """
    return each.mean(1)


def curriculum_weights(easiness: Tensor, epoch: float, epochs: float) -> Tensor:
    """Return the weights of one epoch.

    Args:
        easiness: D, any shape, between 0 and 1.
        epoch: e, 0 and up; a fraction is welcome.
        epochs: m above 0, the length of the curriculum.

    >>> curriculum_weights(torch.tensor([0.0, 0.5, 1.0]), epoch=1, epochs=4)
    tensor([0.2500, 0.6250, 1.0000])
    """
    check_positive(epochs=epochs)
    if epoch < 0:
        raise UsageError(f"epoch must be 0 or more; got {epoch}")
    return easiness + min(1.0, epoch / epochs) * (1 - easiness)


@register_loss(
    "answer-rerank-curriculum",
    title="Training Curricula for Open Domain Answer Re-Ranking",
    requires=("epoch", "first_stage"),
)
class Curriculum:
    """Another loss, in which documents that look hard to the first stage weigh little at first.

    Args:
        base: Name of the loss.
        heuristic: ``reciprocal-rank``, ``normalized`` or ``density``.
        epochs: m above 0, the length of the curriculum.

    >>> from lorank.ranking.losses import loss
    >>> scores, labels, first = torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 2.0]])
    >>> function = Curriculum(base="ranknet", epochs=2)
    >>> [round(float(function(scores, labels, first_stage=first, epoch=torch.tensor(e)) / loss("ranknet")(
    ...     scores, labels)), 2) for e in range(3)]     # the relevant one is second: D = 1/2
    [0.5, 0.75, 1.0]
    """

    def __init__(self, *, base: str = "softmax", heuristic: str = "reciprocal-rank", epochs: float = 3.0) -> None:
        choose("heuristic", heuristic, HEURISTICS)
        check_positive(epochs=epochs)
        self.base, self.heuristic, self.epochs = plain_loss(base), heuristic, epochs

    def __call__(
        self,
        scores: Tensor,
        labels: Tensor,
        mask: Tensor | None = None,
        weights: Tensor | None = None,
        *,
        first_stage: Tensor,
        epoch: Tensor,
    ) -> Tensor:
        """Return the weighted loss.

        Args:
            scores: [batch, list].
            labels: [batch, list]; above 0 is relevant.
            mask: bool [batch, list], True where there is a document.
            weights: [batch] or [batch, list], times those of the curriculum.
            first_stage: Scores of the first stage [batch, list].
            epoch: e, which pass over the lists this is.
        """
        easy = easiness(first_stage, labels, mask, heuristic=self.heuristic)
        own = curriculum_weights(easy[:, : scores.shape[1]], float(epoch), self.epochs)
        if weights is not None:
            own = own * (weights if weights.dim() == 2 else weights.unsqueeze(1))
        return self.base(scores, labels, mask, own)
