r"""Refactorisation and momentum reset: W = B A, balanced now and then, with Adam begun anew.

    B A = U diag(s) V^T   ->   B <- U diag(sqrt s),   A <- diag(sqrt s) V^T,   moments of A and B <- 0

B A and so the outputs do not change; |B| = |A| and the condition of either factor is the root of B A's. The SVD is that
of the small R_B R_A^T [r, r], with B = Q_B R_B and A^T = Q_A R_A; nothing of W's size is formed. Moments that stood for
other axes are dropped, as they would push the new ones in a wrong direction.

Glentis et al., Scalable Parameter and Memory Efficient Pretraining for LLM: Recent Algorithmic Advances and
Benchmarking, 2025, arXiv:2505.22922.

*Deviations*: the published tree leaves the moments as they are where it refactors, and rebuilds the optimizers of all
weights where it resets; here both happen together and to A and B alone (``reset=False`` leaves the moments).
"""

from typing import Any

import torch
from torch import Tensor, nn

from lorank.catalogue import catalogued
from lorank.errors import UsageError
from lorank.lowrank.factored.core.layer import Pair, factored, reset_moments
from lorank.lowrank.linalg import working_dtype

EVENTS = 10
"""How often a run is refactored where nothing else is said."""


@factored("pretrain-refactor-reset")
@catalogued(
    "pretrain-refactor-reset",
    area="pretrain.lowrank",
    title="Scalable Parameter and Memory Efficient Pretraining for LLM: Recent Algorithmic Advances and Benchmarking",
)
class RefactoredLayer(Pair):
    """Two factors that are balanced every so many steps.

    Args:
        layer: The layer that is replaced.
        rank: The rank of B A.
        start: "random" or "svd".
        generator: It draws the random start.
        every: The steps from one refactorisation to the next, 1 or more; None makes ten of them in a run.
        reset: Whether the moments of A and B begin anew.
    """

    def __init__(
        self,
        layer: nn.Linear,
        rank: int,
        *,
        start: str,
        generator: torch.Generator,
        every: int | None = None,
        reset: bool = True,
    ) -> None:
        super().__init__(layer, rank, start=start, generator=generator)
        if every is not None and every < 1:
            raise UsageError(f"every={every}: refactor every 1 step or more")
        self.every, self.reset = every, reset

    def after_step(self, step: int, steps: int, optimizer: torch.optim.Optimizer, generator: torch.Generator) -> bool:
        """Refactor where it is due, but not after the last step."""
        every = self.every or max(1, steps // EVENTS)
        if step % every or step >= steps:
            return False
        with torch.no_grad():
            a, b = balance(self.A, self.B)
            self.A.copy_(a)
            self.B.copy_(b)
        if self.reset:
            for parameter in (self.A, self.B):
                reset_moments(optimizer, parameter)
        return True

    @classmethod
    def count(cls, out: int, width: int, rank: int, **options: Any) -> int:
        """Return r (out + in)."""
        return rank * (out + width)


def balance(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return factors of equal norms with the product of ``b`` [out, r] and ``a`` [r, in], r up to min(out, in).

    >>> a, b = balance(torch.tensor([[3.0, 4.0]]), torch.tensor([[20.0], [0.0]]))
    >>> [round(value, 4) for value in (float(a.norm()), float(b.norm()), float((b @ a)[0, 1]))]
    [10.0, 10.0, 80.0]
    """
    wide = working_dtype(a)
    left, small_b = torch.linalg.qr(b.to(wide))
    right, small_a = torch.linalg.qr(a.to(wide).t())
    U, s, Vh = torch.linalg.svd(small_b @ small_a.t())
    return s.sqrt().unsqueeze(1) * (Vh @ right.t()), left @ (U * s.sqrt())
