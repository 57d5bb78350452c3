r"""One number for each position, learned by descent of a softmax cross entropy over the positions of each list.

    L = - \frac{1}{n} \sum_{lists} \sum_i t_i \log softmax(\theta_{k})_i,   dL/d\theta_{k_i} = (1/n) (p_i \sum_j t_j -
    t_i)

with targets t [batch, list], 0 and up. Sums and targets are taken by position, where each entry of a folded list counts
as its share of the impressions. The gradient is written out, so no graph is kept; Adam's moments are tensors.

The steps themselves wander with the noise of single batches, as few clicks fall on low positions. ``settled`` is their
mean with weights that grow with the step (polynomial decay, k = 8), about the last ninth of the run:

    \bar\theta_n = (1 - \frac{k + 1}{n + k}) \bar\theta_{n - 1} + \frac{k + 1}{n + k} \theta_n

Paper: O. Shamir and T. Zhang, Stochastic Gradient Descent for Non-smooth Optimization, ICML 2013 (the average).
"""

import torch
from torch import Tensor

from lorank.ranking.clicks.core.debiaser import ClickBatch

BETAS = (0.9, 0.999)
DECAY = 8
STATE = ("values", "settled", "first", "second", "steps")


class CurveDescent:
    """The numbers ``values`` [k], Adam's moments of them, and their mean, ``settled`` [k].

    All begin at 0 where ``begin`` does not say others.
    """

    def __init__(self, positions: int, lr: float) -> None:
        self.lr = lr
        self.values, self.gradient = torch.zeros(positions), torch.zeros(positions)
        self.settled = torch.zeros(positions)
        self.first, self.second, self.steps = torch.zeros(positions), torch.zeros(positions), torch.zeros(())

    def begin(self, values: Tensor) -> None:
        """Begin with ``values`` [k]."""
        self.values, self.settled = values.clone(), values.clone()

    def pull(self, peak: Tensor, curvature: Tensor, factor: float) -> None:
        """Add the gradient of a quadratic around ``peak`` [k] with ``curvature`` [k, k], times ``factor``."""
        self.gradient += factor * (curvature @ (self.values.double() - peak)).to(self.gradient.dtype)

    def learn(self, batch: ClickBatch, targets: Tensor, share: float) -> None:
        """Add the gradient of a batch's loss times ``share``."""
        at = batch.positions.clamp(1, len(self.values)) - 1
        empty = torch.zeros(len(targets), len(self.values), device=targets.device)
        summed = empty.scatter_add(1, at, torch.where(batch.shown, targets, 0.0).to(empty.dtype))
        views = batch.shown.to(empty.dtype) if batch.views is None else batch.views * batch.shown
        seen = empty.scatter_add(1, at, views)
        logits = torch.where(seen > 0, self.values.to(targets.device) + seen.clamp(min=1e-30).log(), -1e30)
        total = summed.sum(1, keepdim=True)
        slope = torch.where(seen > 0, logits.softmax(1) * total - summed, 0.0)
        self.gradient += share * (slope.sum(0) / (total > 0).sum().clamp(min=1)).cpu()

    def step(self, factor: float) -> None:
        """Take a step of Adam at ``factor`` times the rate, and forget the gradient."""
        self.steps = self.steps + 1
        self.first = BETAS[0] * self.first + (1 - BETAS[0]) * self.gradient
        self.second = BETAS[1] * self.second + (1 - BETAS[1]) * self.gradient**2
        first = self.first / (1 - BETAS[0] ** self.steps)
        second = self.second / (1 - BETAS[1] ** self.steps)
        self.values = self.values - factor * self.lr * first / (second.sqrt() + 1e-8)
        self.gradient = torch.zeros_like(self.gradient)
        share = (DECAY + 1) / (self.steps + DECAY)
        self.settled = self.settled + share * (self.values - self.settled)

    def state(self) -> dict[str, Tensor]:
        """Return values, moments and the number of steps."""
        return {name: getattr(self, name) for name in STATE}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore them."""
        for name in STATE:
            setattr(self, name, state[name].clone())
