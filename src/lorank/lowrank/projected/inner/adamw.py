r"""Adam's moments in the subspace.

    M <- b1 M + (1 - b1) R,   V <- b2 V + (1 - b2) R^2,   N = M / (1 - b1^t) / (sqrt(V / (1 - b2^t)) + eps)

Kingma, Ba, Adam: A Method for Stochastic Optimization, 2015, arXiv:1412.6980; weight decay is decoupled (AdamW).
"""

import torch
from torch import Tensor

from lorank.lowrank.projected.inner.inner import INNERS, Group, Inner
from lorank.lowrank.projected.projectors.projector import State
from lorank.lowrank.projected.registry import entry


@entry(INNERS, "adamw")
class AdamW(Inner):
    """Two moments.

    State: ``2 * rank * long`` values a matrix.
    """

    moments = ("exp_avg", "exp_avg_sq")

    def direction(self, state: State, reduced: Tensor, group: Group, dtype: torch.dtype) -> Tensor:
        b1, b2 = group["betas"]
        step = float(state["step"])
        first = self.read(state, "exp_avg", reduced, dtype).lerp_(reduced, 1 - b1)
        second = self.read(state, "exp_avg_sq", reduced, dtype).mul_(b2).addcmul_(reduced, reduced, value=1 - b2)
        unbiased = 1 - b1**step  # both corrections in one pass over the root
        root = second.sqrt().mul_(unbiased / (1 - b2**step) ** 0.5).add_(group["eps"] * unbiased)
        self.write(state, "exp_avg", first)
        self.write(state, "exp_avg_sq", second)
        return torch.div(first, root, out=root)

    def rotate(self, state: State, change: Tensor) -> None:
        for name, matrix in (("exp_avg", change), ("exp_avg_sq", change.square())):
            if name in state:
                state[name] = (matrix @ state[name].to(matrix.dtype)).to(state[name].dtype)
