r"""Flora's residual: the current gradient is not compressed, only its momentum is.

    D = scale * (P N + (1 - b1) (G - P R))

With N = b1 M + (1 - b1) R this is (1 - b1) G + b1 P M: what was remembered comes back from the subspace, what is here
enters as it is. G is what the inner rule prepared.

Hao, Cao, Mou, Flora: Low-Rank Adapters Are Secretly Gradient Compressors, ICML 2024, arXiv:2402.03293.
"""

from torch import Tensor

from lorank.lowrank.projected.inner.inner import Group
from lorank.lowrank.projected.projection import Projection
from lorank.lowrank.projected.projectors.projector import State
from lorank.lowrank.projected.registry import entry
from lorank.lowrank.projected.residuals.residual import RESIDUALS, Parts, Residual


@entry(RESIDUALS, "current")
class CurrentGradient(Residual):
    """The share of the current gradient that the momentum lost.

    State: ``0`` values a matrix.
    """

    def combine(self, state: State, parts: Parts, group: Group, options: Projection) -> Tensor:
        rest = parts.gradient - parts.up(parts.reduced)
        return rest.mul_(1 - group["betas"][0]).add_(parts.up(parts.direction)).mul_(options.scale)
