"""Any loss of scores, labels, mask and weights, with its documents weighed by a debiaser."""

from collections.abc import Callable

import torch
from torch import Tensor

from lorank.errors import UsageError
from lorank.ranking.clicks.core.debiaser import ClickBatch, Debiaser

Loss = Callable[..., Tensor]


FOLDED = ("clicked_at", "columns", "shown_at")
"""What a loss over folded lists requires in the place of positions."""


class DebiasedLoss:
    """A loss that asks a debiaser for weights first; it requires ``positions``, and ``propensities`` where the log has
    them, or what folded lists have in their place.

    ``last`` is the batch of the latest call, from which the debiaser may learn.
    """

    def __init__(
        self, base: Loss, requires: frozenset[str], debiaser: Debiaser, *, propensities: bool, folded: bool = False
    ) -> None:
        if "slow" in requires:
            raise UsageError("ofs-dpo trains a second module on its own and cannot be debiased; take another loss")
        self.base, self.debiaser, self.needs = base, debiaser, requires
        if folded:
            self.requires = requires | frozenset(FOLDED)
        else:
            self.requires = requires | {"positions"} | ({"propensities"} if propensities else frozenset())
        self.last: ClickBatch | None = None

    def __call__(
        self,
        scores: Tensor,
        labels: Tensor,
        mask: Tensor | None = None,
        weights: Tensor | None = None,
        *,
        positions: Tensor | None = None,
        propensities: Tensor | None = None,
        columns: Tensor | None = None,
        shown_at: Tensor | None = None,
        clicked_at: Tensor | None = None,
        **extras: Tensor,
    ) -> Tensor:
        """Return the debiased loss of a batch, a scalar.

        Args:
            scores: [batch, list].
            labels: [batch, list], clicks or gains; of folded lists they are made anew.
            mask: bool [batch, list].
            weights: [batch] or [batch, list]; the debiaser's weights multiply them.
            positions: int64 [batch, list], counted from 1; 0 for a document that was not shown.
            propensities: [batch, list], the log's own; 0 where it says nothing.
            columns: int64 [batch, n], where the n documents of a folded list stand in the grid; -1 for none.
            shown_at: [batch, n, k], in how many impressions each of them stood at each position, up to a factor.
            clicked_at: [batch, n, k], the clicks that it had there, up to the same factor.
            extras: What the loss itself requires.
        """
        mask = torch.ones_like(scores, dtype=torch.bool) if mask is None else mask
        if columns is not None and shown_at is not None and clicked_at is not None:
            self.last = unfold(scores.detach().float(), columns, shown_at, clicked_at)
            found = self.debiaser.weigh(self.last)
            clicks = self.last.labels if found.clicked is None else self.last.labels * found.clicked
            if found.noise is not None and self.last.views is not None:
                clicks = clicks - found.noise * self.last.views
            own = clicks.view(shown_at.shape).sum(2).clamp(min=0)
            labels = torch.zeros_like(scores).scatter_add(1, columns.clamp(min=0), own.to(scores.dtype))
            return self.base(scores, labels, mask, weights, **extras)
        assert positions is not None
        batch = ClickBatch(scores.detach().float(), labels, mask, positions, propensities)
        given, self.last = self.debiaser.weigh(batch), batch
        counts = weights
        if given.clicked is not None:
            stated = 1.0 if weights is None else weights if weights.dim() == 2 else weights.unsqueeze(1)
            counts = given.clicked.to(scores.dtype) * stated
        if given.shift is not None:
            scores = scores + given.shift.to(scores.dtype)
        if "positions" in self.needs:
            extras = {**extras, "positions": positions}
        return self.base(scores, labels, mask, counts, **extras)


def unfold(scores: Tensor, columns: Tensor, shown_at: Tensor, clicked_at: Tensor) -> ClickBatch:
    """Return the entries of folded lists as a batch: a column for each document and position, [batch, n * k].

    Args:
        scores: [batch, list].
        columns: int64 [batch, n], where the documents of a list stand in the grid; -1 for none.
        shown_at: [batch, n, k], the impressions up to a factor.
        clicked_at: [batch, n, k], the clicks up to the same factor.
    """
    own = scores.gather(1, columns.clamp(min=0)).unsqueeze(2).expand(shown_at.shape)
    positions = torch.arange(1, shown_at.shape[2] + 1, device=scores.device).expand(shown_at.shape)
    views = shown_at.flatten(1)
    return ClickBatch(own.flatten(1), clicked_at.flatten(1), views > 0, positions.flatten(1), views=views)
