r"""Dual learning: propensities and ranker are learned together, each weighing the clicks by the other's inverse.

With f the ranker's scores and theta [k] one number for each position,

    p = softmax over the list of \theta_{k_i},   r = softmax over the list of f_i,
    w_i = p_1 / p_i = \exp(\theta_1 - \theta_{k_i}),   u_i = r_1 / r_i = \exp(f_1 - f_i),

index 1 being the document at the top (in a folded list exp(f_1) is the mean over those that stood there). The ranker's
loss weighs clicks by w; theta descends the cross entropy

    L_\theta = - \frac{1}{n} \sum_{lists} \sum_i c_i u_i \log p_i,

by Adam with moments that last the whole run, at a rate that falls linearly to 0; p is read off the mean of its steps.
At its minimum with r proportional to relevance, p is proportional to the examination of positions. How near p comes to
it is bounded by the clicks at low positions in the lists that the run sees (steps x batch), and by how well the ranker
fits the relevance of the *training* documents: E[c_i u_i] = p_i E[a_i r_1 / r_i] is p_i times a constant only where r
fits a.

Over the pairs of one log that misfit does not average out. What the log itself says of pairs that it shows at several
positions needs no ranker (`lorank.ranking.clicks.core.contrast`), and theta descends both: with m the mean of
\sum_i c_i u_i over lists, C the clicks of the log and P the pairs that were clicked,

    L_\theta + m / \min(\nu P, C) * 1/2 (\theta - \hat\theta)^T H (\theta - \hat\theta),

so that all that the ranker says of one pair counts like \nu clicks at the most. A log without such pairs has H = 0.

Paper: Q. Ai et al., Unbiased Learning to Rank with Unbiased Propensity Estimation, SIGIR 2018.

*Deviations*: the second term, which ``ranker_clicks = inf`` leaves out; theta begins at its minimum. Weights are
clipped at ``most``; theta is free, where published code bounds it below by an ELU; the published code makes its
optimizers anew at every step, so that each step has one length whatever the gradient: here moments last. In the first
``warmup`` share of the run the ranker learns without weights where there is nothing to weigh by before that.
"""

import math

import numpy as np
import torch
from torch import Tensor

from lorank.ranking.clicks.core.contrast import PairContrast, contrast_pairs
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
from lorank.ranking.clicks.core.noise import AUTO, check_noise, click_noise

AVERAGED = 100
"""About how many steps the mean of the targets goes back."""


@debiaser("dla", title="Unbiased Learning to Rank with Unbiased Propensity Estimation")
class DualLearning(Debiaser):
    """Learns a propensity of each position beside the ranker.

    Options are the rate of theta, ``lr``, the largest weight, ``most``, the share of the run that is ``warmup``,
    ``ranker_clicks``, nu: how many clicks on a pair the ranker's word on it is worth, inf for the ranker alone, and
    ``noise``, how often an irrelevant document is clicked where it is looked at; auto reads it from pairs at several
    positions (`lorank.ranking.clicks.core.noise`).
    """

    learns = True
    by_position = True

    def __init__(
        self,
        *,
        lr: float = 0.05,
        most: float = 20.0,
        warmup: float = 0.1,
        ranker_clicks: float = 0.25,
        noise: float | str = AUTO,
    ) -> None:
        check_positive(lr=lr, most=most, ranker_clicks=ranker_clicks)
        check_noise(noise)
        self.asked, self.noise = noise, 0.0 if noise == AUTO else float(noise)
        self.most, self.warmup, self.ranker_clicks = most, warmup, ranker_clicks
        self.descent = CurveDescent(1, lr)
        self.warm, self.target, self.seen = torch.zeros(()), torch.zeros(()), torch.zeros(())
        self.contrast: PairContrast | None = None
        self.known = False

    def prepare(self, evidence: Evidence) -> None:
        """Begin with what pairs at several positions say, and with even propensities where there are none."""
        self.descent = CurveDescent(evidence.positions, self.descent.lr)
        if evidence.sessions is not None and math.isfinite(self.ranker_clicks):
            self.contrast = contrast_pairs(evidence.sessions)
            self.known = bool(self.contrast.peak.any())
            self.descent.begin(torch.from_numpy(self.contrast.peak).float())
            if self.asked == AUTO and self.contrast.linked.all():
                self.noise = click_noise(evidence.sessions, np.exp(self.contrast.peak))

    def weigh(self, batch: ClickBatch) -> Weights:
        """Return p_1 / p_i for clicked documents and 1 for others."""
        if self.warm < self.warmup and not self.known:
            return Weights()
        theta = self.descent.settled
        weights = (theta[0] - theta).exp().clamp(max=self.most)
        noise = take(self.noise * weights * (theta - theta[0]).exp(), batch)
        return Weights(torch.where(batch.clicked, take(weights, batch), 1.0), noise=noise)

    def learn(self, batch: ClickBatch, share: float) -> None:
        """Add the gradient of theta's loss."""
        at_top = batch.shown & (batch.positions == 1)
        top = batch.scores.masked_fill(~at_top, -torch.inf)
        if batch.views is not None:  # several documents stood there: the mean of their exp(f)
            of_top = batch.views / (batch.views * at_top).sum(1, keepdim=True).clamp(min=1e-30)
            top = top + of_top.clamp(min=1e-30).log()
        top = top.logsumexp(1, keepdim=True)
        highest = batch.scores.masked_fill(~batch.shown, -torch.inf).amax(1, keepdim=True)
        top = torch.where(top.isfinite(), top, highest)  # a list whose top is not known is measured by its best
        inverse = (top - batch.scores).exp().clamp(max=self.most)
        targets = torch.where(batch.clicked, batch.labels * inverse, 0.0)
        self.descent.learn(batch, targets, share)
        counted = (targets.sum(1) > 0).sum().clamp(min=1)
        self.seen = self.seen + share * (targets.sum() / counted).cpu()

    def step(self, progress: float) -> None:
        """Step theta."""
        self.warm = torch.tensor(progress)
        if self.contrast is not None:
            self._pull(self.contrast)
        self.descent.step(1 - progress)

    def _pull(self, contrast: PairContrast) -> None:
        """Add the gradient of what pairs at several positions say."""
        steps = float(self.descent.steps) + 1
        self.target = self.target + (self.seen - self.target) / min(steps, AVERAGED)
        self.seen = torch.zeros(())
        most = max(1.0, min(self.ranker_clicks * contrast.pairs, contrast.clicks))
        peak, curvature = torch.from_numpy(contrast.peak), torch.from_numpy(contrast.curvature)
        self.descent.pull(peak, curvature, float(self.target) / most)

    def state(self) -> dict[str, Tensor]:
        """Return theta, its moments, and how far the warm-up is."""
        return {**self.descent.state(), "warm": self.warm, "target": self.target}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore them."""
        self.warm, self.target = state["warm"].clone(), state["target"].clone()
        self.descent.load_state(state)

    def curve(self) -> list[float]:
        """Return p_k / p_1."""
        return [float(p) for p in (self.descent.settled - self.descent.settled[0]).exp()]
