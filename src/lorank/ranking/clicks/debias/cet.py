r"""Coupled estimation of relevance and selection: a document that nobody labelled is no certain negative.

A label needs both: the document was selected (looked at, pooled, judged) and it is relevant, P(y = 1) = s r. With
theta one number for each bucket of ranks (1, 2, 3-4, 5-8, ...) and f the ranker's scores,

    s_i = \min(1, \exp(\theta_{b_i} - \theta_{b_1})),   r_j = \min(1, \exp(f_j - \bar f_+)),

f-bar the mean score of the list's labelled documents. A labelled document counts w_i = s_1 / s_i. An unlabelled one is
a negative of weight

    v_j = P(not relevant | unlabelled) = (1 - r_j) / (1 - r_j s_j):

1 where it would surely have been labelled, near 0 where it scores like the labelled ones in a place that is rarely
labelled.
theta descends a cross entropy like that of DLA, its targets weighed by 1 / r. In the first ``warmup`` share of the run
the ranker learns without weights.

Paper: Y. Cai et al., Hard Negatives or False Negatives: Correcting Pooling Bias in Training Neural Ranking Models,
CIKM 2022.

*Deviations*: reconstructed, for no code is public. Assumed: selection depends on the rank at the first stage alone (or
on the position, for a log); v is the posterior, entered as a shift of the score.
"""

import torch
from torch import Tensor

from lorank.ranking.clicks.core.debiaser import (
    ClickBatch,
    Debiaser,
    Evidence,
    Weights,
    check_positive,
    debiaser,
    take,
)
from lorank.ranking.clicks.core.descent import CurveDescent


def bucket_of(ranks: Tensor) -> Tensor:
    """Return the bucket of ranks, counted from 1 both; 0 stays 0.

    >>> bucket_of(torch.tensor([0, 1, 2, 3, 4, 5, 9])).tolist()
    [0, 1, 2, 3, 3, 4, 5]
    """
    found = (ranks.clamp(min=1).double() - 0.5).log2().ceil().long() + 1
    return torch.where(ranks > 0, found.clamp(min=1), 0)


@debiaser(
    "cet-pooling-bias",
    title="Hard Negatives or False Negatives: Correcting Pooling Bias in Training Neural Ranking Models",
    aliases=("cet",),
)
class CoupledEstimation(Debiaser):
    """Learns how likely each bucket of ranks is labelled, and discounts unlabelled documents that score like labelled
    ones.

    Options are the rate of theta, ``lr``, the largest weight, ``most``, the least weight of a negative, ``least``, and
    the share of the run that is ``warmup``.
    """

    learns = True
    judged = True
    what = "selection"

    def __init__(self, *, lr: float = 0.02, most: float = 5.0, least: float = 0.02, warmup: float = 0.2) -> None:
        check_positive(lr=lr, most=most, least=least)
        self.most, self.least, self.warmup = most, least, warmup
        self.descent = CurveDescent(1, lr)
        self.warm = torch.zeros(())

    def prepare(self, evidence: Evidence) -> None:
        """Begin with even selection in each bucket."""
        self.descent = CurveDescent(int(bucket_of(torch.tensor(evidence.positions))), self.descent.lr)

    def weigh(self, batch: ClickBatch) -> Weights:
        """Return s_1 / s_i for labelled documents, and a shift of log v_j for the others."""
        if self.warm < self.warmup:
            return Weights()
        bucketed = self._bucketed(batch)
        selected = take((self.descent.values - self.descent.values[0]).exp().clamp(max=1.0), bucketed)
        relevant = self._relevance(batch)
        shown, clicked = batch.shown, batch.clicked
        least = (1 - relevant) / (1 - relevant * selected).clamp(min=1e-6)
        shift = least.clamp(self.least, 1.0).log()
        counts = (1 / selected).clamp(max=self.most)
        return Weights(torch.where(clicked, counts, 1.0), torch.where(shown & ~clicked, shift, 0.0))

    def learn(self, batch: ClickBatch, share: float) -> None:
        """Add the gradient of theta's loss."""
        inverse = (1 / self._relevance(batch)).clamp(max=self.most)
        self.descent.learn(self._bucketed(batch), torch.where(batch.clicked, inverse, 0.0), share)

    def step(self, progress: float) -> None:
        """Step theta."""
        self.warm = torch.tensor(progress)
        self.descent.step(1 - progress)

    def _bucketed(self, batch: ClickBatch) -> ClickBatch:
        return ClickBatch(batch.scores, batch.labels, batch.mask, bucket_of(batch.positions), None)

    def _relevance(self, batch: ClickBatch) -> Tensor:
        count = batch.clicked.sum(1, keepdim=True).clamp(min=1)
        level = torch.where(batch.clicked, batch.scores, 0.0).sum(1, keepdim=True) / count
        return (batch.scores - level).exp().clamp(1e-6, 1.0)

    def state(self) -> dict[str, Tensor]:
        """Return theta, its moments, and how far the warm-up is."""
        return {**self.descent.state(), "warm": self.warm}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore them."""
        self.warm = state["warm"].clone()
        self.descent.load_state(state)

    def curve(self) -> list[float]:
        """Return s of each bucket."""
        return [float(s) for s in (self.descent.values - self.descent.values[0]).exp()]
