r"""Dual learning: propensities and ranker are learned together, each weighing the clicks by the other's inverse.

With f the ranker's scores and theta [k] one number for each position,

    p = softmax over the list of \theta_{k_i},   r = softmax over the list of f_i,
    w_i = p_1 / p_i = \exp(\theta_1 - \theta_{k_i}),   u_i = r_1 / r_i = \exp(f_1 - f_i),

index 1 being the document at the top. The ranker's loss weighs clicks by w; theta descends the cross entropy

    L_\theta = - \frac{1}{n} \sum_{lists} \sum_i c_i u_i \log p_i,

by Adam with moments that last the whole run, at a rate that falls linearly to 0; p is read off the mean of its steps.
At its minimum with r proportional to relevance, p is proportional to the examination of positions. How near p comes to
it is bounded by the clicks at low positions in the lists that the run sees (steps x batch), and by how well the ranker
fits the relevance of the *training* documents: E[c_i u_i] = p_i E[a_i r_1 / r_i] is p_i times a constant only where r
fits a.

Paper: Q. Ai et al., Unbiased Learning to Rank with Unbiased Propensity Estimation, SIGIR 2018.

*Deviations*: weights are clipped at ``most``; theta is free, where published code bounds it below by an ELU; the
published
code makes its optimizers anew at every step, so that each step has one length whatever the gradient: here moments last.
In the first ``warmup`` share of the run the ranker learns without weights, as it has nothing to weigh theta by before
that.
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


@debiaser("dla", title="Unbiased Learning to Rank with Unbiased Propensity Estimation")
class DualLearning(Debiaser):
    """Learns a propensity of each position beside the ranker.

    Options are the rate of theta, ``lr``, the largest weight, ``most``, and the share of the run that is ``warmup``.
    """

    learns = True

    def __init__(self, *, lr: float = 0.05, most: float = 20.0, warmup: float = 0.1) -> None:
        check_positive(lr=lr, most=most)
        self.most, self.warmup = most, warmup
        self.descent = CurveDescent(1, lr)
        self.warm = torch.zeros(())

    def prepare(self, evidence: Evidence) -> None:
        """Begin with even propensities for the positions there are."""
        self.descent = CurveDescent(evidence.positions, self.descent.lr)

    def weigh(self, batch: ClickBatch) -> Weights:
        """Return p_1 / p_i for clicked documents and 1 for others."""
        if self.warm < self.warmup:
            return Weights()
        theta = self.descent.settled
        weights = take((theta[0] - theta).exp().clamp(max=self.most), batch)
        return Weights(torch.where(batch.clicked, weights, 1.0))

    def learn(self, batch: ClickBatch, share: float) -> None:
        """Add the gradient of theta's loss."""
        top = batch.scores.masked_fill(batch.positions != 1, -torch.inf).amax(1, keepdim=True)
        highest = batch.scores.masked_fill(~batch.shown, -torch.inf).amax(1, keepdim=True)
        top = torch.where(top.isfinite(), top, highest)  # a list whose top is not known is measured by its best
        inverse = (top - batch.scores).exp().clamp(max=self.most)
        self.descent.learn(batch, torch.where(batch.clicked, batch.labels * inverse, 0.0), share)

    def step(self, progress: float) -> None:
        """Step theta."""
        self.warm = torch.tensor(progress)
        self.descent.step(1 - progress)

    def state(self) -> dict[str, Tensor]:
        """Return theta, its moments, and how far the warm-up is."""
        return {**self.descent.state(), "warm": self.warm}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore them."""
        self.warm = state["warm"].clone()
        self.descent.load_state(state)

    def curve(self) -> list[float]:
        """Return p_k / p_1."""
        return [float(p) for p in (self.descent.settled - self.descent.settled[0]).exp()]
