r"""One number for each position, learned by descent of a softmax cross entropy over the positions of each list.

    L = - \frac{1}{n} \sum_{lists} \sum_i t_i \log softmax(\theta_{k})_i,   dL/d\theta_{k_i} = (1/n) (p_i \sum_j t_j -
    t_i)

with targets t [batch, list], 0 and up. The gradient is written out, so no graph is kept; Adam's moments are tensors.
"""

import torch
from torch import Tensor

from lorank.ranking.clicks.core.debiaser import ClickBatch

BETAS = (0.9, 0.999)


class CurveDescent:
    """The numbers ``values`` [k], all 0 at the start, and Adam's moments of them."""

    def __init__(self, positions: int, lr: float) -> None:
        self.lr = lr
        self.values, self.gradient = torch.zeros(positions), torch.zeros(positions)
        self.first, self.second, self.steps = torch.zeros(positions), torch.zeros(positions), torch.zeros(())

    def learn(self, batch: ClickBatch, targets: Tensor, share: float) -> None:
        """Add the gradient of a batch's loss times ``share``."""
        at = batch.positions.clamp(1, len(self.values)) - 1
        logits = self.values.to(batch.scores.device)[at].masked_fill(~batch.shown, -torch.inf)
        chances = torch.where(batch.shown, logits, -1e30).softmax(1)
        slope = torch.where(batch.shown, chances * targets.sum(1, keepdim=True) - targets, 0.0)
        counted = (targets.sum(1) > 0).sum().clamp(min=1)
        flat = torch.zeros(len(self.values), device=slope.device)
        flat.index_add_(0, at.reshape(-1), (slope / counted).reshape(-1).to(flat.dtype))
        self.gradient += share * flat.cpu()

    def step(self, factor: float) -> None:
        """Take a step of Adam at ``factor`` times the rate, and forget the gradient."""
        self.steps = self.steps + 1
        self.first = BETAS[0] * self.first + (1 - BETAS[0]) * self.gradient
        self.second = BETAS[1] * self.second + (1 - BETAS[1]) * self.gradient**2
        first = self.first / (1 - BETAS[0] ** self.steps)
        second = self.second / (1 - BETAS[1] ** self.steps)
        self.values = self.values - factor * self.lr * first / (second.sqrt() + 1e-8)
        self.gradient = torch.zeros_like(self.gradient)

    def state(self) -> dict[str, Tensor]:
        """Return values, moments and the number of steps."""
        return {"values": self.values, "first": self.first, "second": self.second, "steps": self.steps}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore them."""
        self.values, self.first, self.second, self.steps = (
            state[name].clone() for name in ("values", "first", "second", "steps")
        )
