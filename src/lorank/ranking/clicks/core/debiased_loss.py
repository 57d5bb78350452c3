"""Any loss of scores, labels, mask and weights, with its documents weighed by a debiaser."""

from collections.abc import Callable

import torch
from torch import Tensor

from lorank.errors import UsageError
from lorank.ranking.clicks.core.debiaser import ClickBatch, Debiaser

Loss = Callable[..., Tensor]


class DebiasedLoss:
    """A loss that asks a debiaser for weights first; it requires ``positions``, and ``propensities`` where the log has
    them.

    ``last`` is the batch of the latest call, from which the debiaser may learn.
    """

    def __init__(self, base: Loss, requires: frozenset[str], debiaser: Debiaser, *, propensities: bool) -> None:
        if "slow" in requires:
            raise UsageError("ofs-dpo trains a second module on its own and cannot be debiased; take another loss")
        self.base, self.debiaser, self.needs = base, debiaser, requires
        self.requires = requires | {"positions"} | ({"propensities"} if propensities else frozenset())
        self.last: ClickBatch | None = None

    def __call__(
        self,
        scores: Tensor,
        labels: Tensor,
        mask: Tensor | None = None,
        weights: Tensor | None = None,
        *,
        positions: Tensor,
        propensities: Tensor | None = None,
        **extras: Tensor,
    ) -> Tensor:
        """Return the debiased loss of a batch, a scalar.

        Args:
            scores: [batch, list].
            labels: [batch, list], clicks or gains.
            mask: bool [batch, list].
            weights: [batch] or [batch, list]; the debiaser's weights multiply them.
            positions: int64 [batch, list], counted from 1; 0 for a document that was not shown.
            propensities: [batch, list], the log's own; 0 where it says nothing.
            extras: What the loss itself requires.
        """
        mask = torch.ones_like(scores, dtype=torch.bool) if mask is None else mask
        batch = ClickBatch(scores.detach().float(), labels, mask, positions, propensities)
        found, self.last = self.debiaser.weigh(batch), batch
        counts = weights
        if found.clicked is not None:
            given = 1.0 if weights is None else weights if weights.dim() == 2 else weights.unsqueeze(1)
            counts = found.clicked.to(scores.dtype) * given
        if found.shift is not None:
            scores = scores + found.shift.to(scores.dtype)
        own = extras
        if "positions" in self.needs:
            own = {**own, "positions": positions}
        return self.base(scores, labels, mask, counts, **own)
