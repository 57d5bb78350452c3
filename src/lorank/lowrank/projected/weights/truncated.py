r"""Projected gradient descent on matrices of low rank: after each step the change of W is cut to rank r.

    D <- SVD_r(D - lr G),   W = W_0 + D        D = 0 at the start

A W that starts at 0 is itself of rank r or less throughout. D is kept as factors, W_0 is never stored. The step is cut
at rank r; the gradient is not projected.

Lee, Lyu, Yao, Supervised Dictionary Learning with Auxiliary Covariates, 2022, arXiv:2206.06774 (LPGD: the dictionary
and the classifier, lifted to one factor of rank r).

*Deviations*: covariates are columns of the same matrix or parameters of their own, which step plainly.
"""

import torch
from torch import Tensor

from lorank.lowrank.linalg import top_k_svd
from lorank.lowrank.projected.inner.inner import Group
from lorank.lowrank.projected.projection import Projection
from lorank.lowrank.projected.projectors.projector import State
from lorank.lowrank.projected.registry import entry
from lorank.lowrank.projected.weights.plain import WEIGHTS, PlainWeight


@entry(WEIGHTS, "truncated")
class TruncatedWeight(PlainWeight):
    """A change of rank r.

    State: ``rank * (rows + columns)`` values a matrix.
    """

    def apply(
        self,
        state: State,
        weight: Tensor,
        update: Tensor,
        group: Group,
        options: Projection,
        generator: torch.Generator | None,
    ) -> None:
        before = torch.zeros_like(update)
        if "change_left" in state:
            before = state["change_left"].to(update.dtype) @ state["change_right"].to(update.dtype)
        U, s, Vh = top_k_svd(before - group["lr"] * update, group["rank"])
        root = s.sqrt()
        left, right = (U * root).to(weight.dtype), (root[:, None] * Vh).to(weight.dtype)
        weight.add_((left.to(update.dtype) @ right.to(update.dtype) - before).to(weight.dtype))
        state["change_left"], state["change_right"] = left, right
