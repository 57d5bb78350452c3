r"""Data diet: how hard each training list is, a few epochs in, and which lists to keep.

    EL2N  = E || p - q ||_2,   p = softmax(s),  q_i = y_i / \sum_j y_j
    GraNd = E || \nabla_\theta l(s(\theta), y) ||_2

with the mean over rankers trained from a few seeds. Lists of high value carry the signal, the very highest often false
labels; lists of low value can go.

Paper: M. Paul, S. Ganguli, G. K. Dziugaite, Deep Learning on a Data Diet: Finding Important Examples Early in Training,
NeurIPS 2021.

*Deviations*: an example of the paper is a list here, a class a document. As a loss of one run (``data-diet``), EL2N is
averaged over the first epochs of that run in place of several runs, and training goes on with the lists that are kept
in place of starting anew.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from lorank.errors import UsageError
from lorank.ranking.losses.core.lists import check_positive, clean, normalise
from lorank.ranking.losses.core.registry import Loss, plain_loss, register_loss


def el2n(scores: Tensor, labels: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return || p - q ||_2 of every list, [batch]; 0 for lists without a label above 0.

    Args:
        scores: [batch, list], of a ranker a few epochs in; average the values of several rankers.
        labels: [batch, list], 0 and up.
        mask: bool [batch, list], True where there is a document.

    >>> el2n(torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0, 0.0]]))   # (1/2, 1/2) from (1, 0)
    tensor([0.7071])
    """
    lists = clean(scores.detach(), labels, mask)
    chance = lists.shares(lists.scores)
    relevant = (lists.labels > 0).any(1, keepdim=True)
    gap = torch.where(lists.mask & relevant, chance - normalise(lists.labels), 0.0)
    return gap.square().sum(1).sqrt()


def grand(
    loss: Loss, scores: Tensor, labels: Tensor, mask: Tensor | None = None, *, parameters: Iterable[Tensor]
) -> Tensor:
    """Return the norm of the gradient of every list's loss by the parameters, [batch].

    Args:
        loss: Any loss of (scores, labels, mask).
        scores: [batch, list], computed from the parameters; one backward pass a list.
        labels: [batch, list].
        mask: bool [batch, list], True where there is a document.
        parameters: What the norm runs over; for an adapted model, the adapter's.

    >>> from lorank.ranking.losses import loss
    >>> w = torch.tensor([2.0], requires_grad=True)
    >>> grand(loss("mse"), torch.tensor([[1.0, 0.0]]) * w, torch.tensor([[1.0, 0.0]]), parameters=[w])   # 2 (2 - 1) / 2
    tensor([1.])
    """
    parameters, norms = list(parameters), []
    for b in range(len(scores)):
        one = slice(b, b + 1)
        value = loss(scores[one], labels[one], None if mask is None else mask[one])
        gradients = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
        norms.append(sum((g.square().sum() for g in gradients if g is not None), torch.zeros(())).sqrt())
    return torch.stack(norms) if norms else scores.new_zeros(0)


def keep_hardest(difficulty: Tensor, fraction: float, *, drop_extreme: float = 0.0) -> Tensor:
    """Return which lists to train on, bool [lists]: the hardest, less the most extreme.

    Args:
        difficulty: EL2N or GraNd [lists].
        fraction: Share of all lists to keep, above 0 up to 1.
        drop_extreme: Share of all lists to leave out at the very top, where false labels gather.

    >>> keep_hardest(torch.tensor([0.1, 0.9, 0.5, 0.7]), 0.5, drop_extreme=0.25)
    tensor([False, False,  True,  True])
    """
    if not 0 < fraction <= 1 or drop_extreme < 0 or fraction + drop_extreme > 1 + 1e-9:
        raise UsageError(
            f"fraction must be above 0 and together with drop_extreme at most 1; got {fraction} and {drop_extreme}"
        )
    order = difficulty.argsort(descending=True, stable=True)
    start = round(drop_extreme * len(difficulty))
    kept = torch.zeros_like(difficulty, dtype=torch.bool)
    kept[order[start : start + round(fraction * len(difficulty))]] = True
    return kept


@register_loss(
    "data-diet",
    area="active",
    title="Deep Learning on a Data Diet: Finding Important Examples Early in Training",
    requires=("epoch", "lists"),
)
class DataDiet:
    """Another loss, on all lists at first and then on the hardest by EL2N; lists left out are as good as absent.

    Args:
        base: Name of the loss.
        fraction: Share of the lists to keep, above 0 up to 1.
        drop_extreme: Share of the lists to leave out at the very top.
        epochs: Passes over all lists, in which EL2N is taken; 1 or more.

    >>> diet = DataDiet(fraction=0.5, epochs=1)
    >>> scores, labels = torch.tensor([[2.0, 0.0], [0.0, 2.0]]), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    >>> first = diet(scores, labels, lists=torch.tensor([4, 9]), epoch=torch.tensor(0))
    >>> later = diet(scores, labels, lists=torch.tensor([4, 9]), epoch=torch.tensor(1))
    >>> bool(later == diet.base(scores[1:], labels[1:]))     # the second list is the hard one
    True
    """

    def __init__(
        self, *, base: str = "softmax", fraction: float = 0.5, drop_extreme: float = 0.0, epochs: int = 1
    ) -> None:
        check_positive(epochs=epochs)
        keep_hardest(torch.zeros(1), fraction, drop_extreme=drop_extreme)
        self.base, self.fraction, self.drop_extreme, self.epochs = plain_loss(base), fraction, drop_extreme, epochs
        self.lists, self.total = torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.float64)

    def __call__(
        self,
        scores: Tensor,
        labels: Tensor,
        mask: Tensor | None = None,
        weights: Tensor | None = None,
        *,
        lists: Tensor,
        epoch: Tensor,
    ) -> Tensor:
        """Return the loss of the lists that count at this epoch.

        Args:
            scores: [batch, list].
            labels: [batch, list], 0 and up.
            mask: bool [batch, list], True where there is a document.
            weights: [batch] or [batch, list], of the base loss.
            lists: int64 [batch], what tells a query from the others, the same at every epoch.
            epoch: Which pass over the lists this is, from 0.
        """
        mask = torch.ones_like(scores, dtype=torch.bool) if mask is None else mask
        if int(epoch) < self.epochs:
            self._add(lists.cpu(), el2n(scores, labels, mask).cpu().double())
        else:
            mask = mask & self.kept_lists(lists.cpu()).to(mask.device).unsqueeze(1)
        return self.base(scores, labels, mask, weights)

    def kept_lists(self, lists: Tensor) -> Tensor:
        """Return which of ``lists`` [batch] are trained on after the first epochs; those never seen are."""
        if not len(self.lists):
            return torch.ones_like(lists, dtype=torch.bool)
        hard = keep_hardest(self.total, self.fraction, drop_extreme=self.drop_extreme)
        place = torch.searchsorted(self.lists, lists).clamp(max=len(self.lists) - 1)
        return hard[place] | (self.lists[place] != lists)

    def _add(self, lists: Tensor, difficulty: Tensor) -> None:
        known = self.lists
        self.lists = torch.cat([known, lists]).unique()
        total = torch.zeros(len(self.lists), dtype=torch.float64)
        total[torch.searchsorted(self.lists, known)] = self.total
        self.total = total.index_add(0, torch.searchsorted(self.lists, lists), difficulty)

    def state_dict(self) -> dict[str, Tensor]:
        """Return what was seen so far, for a checkpoint."""
        return {"lists": self.lists.clone(), "total": self.total.clone()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take up what ``state_dict`` gave."""
        self.lists, self.total = state["lists"].clone(), state["total"].clone()
