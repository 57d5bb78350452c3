r"""Trust bias: a click high up may be trust in the ranker rather than relevance, and counts by what it is worth.

    w_i = P(R = 1 | c = 1, k_i) / \alpha_{k_i} = \bar a / (\alpha_k \bar a + \beta_k (1 - \bar a)), relative to k = 1,

with alpha and beta of `lorank.ranking.clicks.models.trust`, fitted to the log before the first step, and a-bar the mean
relevance.

Paper: A. Agarwal et al., Addressing Trust Bias for Unbiased Learning-to-Rank, WWW 2019 (Bayes-IPS).

*Deviations*: the relevance in the posterior is the mean of the log, as in the paper's first estimator. Weights are
clipped at ``most``. They are never negative, unlike those of the affine correction, and unbiased only on average over
documents.
"""

import torch
from torch import Tensor

from lorank.errors import UsageError
from lorank.ranking.clicks.core.debiaser import (
    ClickBatch,
    Debiaser,
    Evidence,
    Weights,
    check_positive,
    debiaser,
    take,
)
from lorank.ranking.clicks.models.trust import TrustBias


@debiaser("trust", title="Addressing Trust Bias for Unbiased Learning-to-Rank", published=False)
class TrustDebiaser(Debiaser):
    """Weighs clicks by what they say of relevance; ``iterations`` are EM's, ``most`` bounds a weight."""

    what = "inverse of a click's worth"
    by_position = True

    def __init__(self, *, most: float = 20.0, iterations: int = 200) -> None:
        check_positive(most=most, iterations=iterations)
        self.most, self.iterations = most, iterations
        self.worth: Tensor = torch.ones(1)

    def prepare(self, evidence: Evidence) -> None:
        """Fit the model to the log; raise UsageError where no pair was seen at several positions."""
        if evidence.sessions is None:
            raise UsageError("trust is fitted to a click log; give one, or another debiaser for judged data")
        shown, _ = evidence.sessions.shown_and_clicked()
        if not ((shown > 0).sum(1) > 1).any():
            raise UsageError(
                "no document of a query was seen at two positions, so that trust cannot be told from relevance; take "
                "--debias dla, or a log with some lists shuffled"
            )
        model = TrustBias().fit(evidence.sessions, iterations=self.iterations)
        worth = model.click_weights()
        self.worth = torch.tensor(worth / worth[0], dtype=torch.float32).clamp(max=self.most)

    def weigh(self, batch: ClickBatch) -> Weights:
        """Return the worth of clicks, and 1 for other documents."""
        return Weights(torch.where(batch.clicked, take(self.worth, batch), 1.0))

    def curve(self) -> list[float]:
        """Return 1 / w."""
        return [float(1 / w) for w in self.worth]
