r"""Riemannian preconditioning: AdamW on gradients scaled by the other factor's Gram matrix.

    gA = (B^T B + d I)^-1 dL/dA,    gB = (dL/dB) (A A^T + d I)^-1,    d = ``damping``

Zhang, Pilanci, Riemannian Preconditioned LoRA for Fine-Tuning Foundation Models, 2024, arXiv:2402.02347.

*Deviations*: the moments stay as they are when a factor moves, as in the published code.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lorank.lowrank.adapter import Adapter
from lorank.lowrank.linalg import gram
from lorank.lowrank.rules.rule import Groups, Pair, Rates, Rule, needed_pairs, rule


class RiemannianAdamW(torch.optim.AdamW):
    """AdamW that preconditions the factors' gradients in place."""

    def __init__(self, groups: Groups, pairs: Sequence[Pair], rates: Rates, damping: float) -> None:
        super().__init__(groups, **rates.defaults())
        self.pairs, self.damping = list(pairs), damping

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:  # type: ignore[override]
        """Make one step."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for A, B in ((pair.A, pair.B) for pair in self.pairs):
            if A.grad is not None:
                A.grad.copy_(torch.linalg.solve(_add_ridge(B.t(), self.damping), A.grad))
            if B.grad is not None:
                B.grad.copy_(torch.linalg.solve(_add_ridge(A, self.damping), B.grad.t()).t())
        super().step()
        return loss


def _add_ridge(factor: Tensor, damping: float) -> Tensor:
    """Return F F^T + d I in the factor's dtype."""
    matrix = gram(factor)
    matrix.diagonal().add_(damping)
    return matrix.to(factor.dtype)


@rule("riemannian")
@dataclass
class Riemannian(Rule):
    """Scaled AdamW.

    State: ``2 * r * (out + width)`` values a pair.
    """

    lr = 0.001
    damping: float = 1e-2

    def optimizer(self, groups: Groups, adapter: Adapter, rates: Rates) -> torch.optim.Optimizer:
        return RiemannianAdamW(groups, needed_pairs(adapter, "riemannian"), rates, self.damping)
