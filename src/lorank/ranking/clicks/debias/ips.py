r"""Inverse propensity scoring: a click counts by how rarely its position is looked at.

    w_i = min(1 / p_{k_i}, most)

with p the propensity of the position, the log's own or an estimated curve. In expectation over clicks of the
position-based model, a loss that is linear in its labels is then the loss on relevance.

Paper: T. Joachims, A. Swaminathan and T. Schnabel, Unbiased Learning-to-Rank with Biased Feedback, WSDM 2017.

*Deviations*: weights are clipped at ``most``, which is a bias; `lorank clicks fit --propensities` says how large. A
loss on single documents (bce) weighs those without a click 1.
"""

import numpy as np
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
from lorank.ranking.clicks.core.noise import AUTO, check_noise, click_noise


@debiaser("ips", title="Unbiased Learning-to-Rank with Biased Feedback", aliases=("ipw",), published=False)
class InversePropensity(Debiaser):
    """Weighs clicks by inverse propensities, at most ``most``, and takes ``noise`` off the labels of folded lists: how
    often an irrelevant document is clicked where it is looked at, auto for what the log says.

    >>> ips = InversePropensity(most=3.0)
    >>> ips.curve_of = torch.tensor([1.0, 0.5, 0.1])
    >>> grid = torch.ones(1, 3)
    >>> ips.weigh(ClickBatch(grid, grid, grid > 0, torch.tensor([[1, 2, 3]]))).clicked
    tensor([[1., 2., 3.]])
    """

    requires_curve = True
    by_position = True

    def __init__(self, *, most: float = 20.0, noise: float | str = AUTO) -> None:
        check_positive(most=most)
        check_noise(noise)
        self.most, self.asked, self.noise = most, noise, 0.0 if noise == AUTO else float(noise)
        self.curve_of: Tensor | None = None

    def prepare(self, evidence: Evidence) -> None:
        """Take the curve; where each impression brings propensities, they come first."""
        if evidence.curve is None and not evidence.has_propensities:
            raise UsageError(
                "ips takes propensities: a log that brings them, or debias.propensities, an estimator or a file"
            )
        if evidence.curve is not None:
            self.curve_of = torch.tensor(evidence.curve.curve, dtype=torch.float32)
            if self.asked == AUTO and evidence.sessions is not None:
                self.noise = click_noise(evidence.sessions, np.asarray(evidence.curve.curve))

    def weigh(self, batch: ClickBatch) -> Weights:
        """Return 1 / p for clicked documents and 1 for others."""
        chance = torch.ones_like(batch.scores) if self.curve_of is None else take(self.curve_of, batch)
        if batch.propensities is not None:
            chance = torch.where(batch.propensities > 0, batch.propensities, chance)
        weights = (1 / chance.clamp(min=1e-9)).clamp(max=self.most)
        return Weights(torch.where(batch.clicked, weights, 1.0), noise=self.noise * weights * chance)

    def curve(self) -> list[float] | None:
        """Return the curve, where there is one."""
        return None if self.curve_of is None else [float(p) for p in self.curve_of]
