r"""Fira's residual: the rest of the gradient, scaled as the inner rule scaled the subspace.

    D = scale * P N + S,   S = (G - P R) diag(phi),   phi_j = ||N_:,j|| / (||R_:,j|| + 1e-8)

||S|| grows by ``limit`` from one step to the next at most. The update has full rank, at the cost of one number.

Chen et al., Fira: Can We Achieve Full-rank Training of LLMs Under Low-rank Constraint?, 2024, arXiv:2410.01623.

*Deviations*: S is not multiplied by ``scale``, as in the published code.
"""

from torch import Tensor

from lorank.lowrank.projected.inner.inner import Group
from lorank.lowrank.projected.projection import Projection
from lorank.lowrank.projected.projectors.projector import State
from lorank.lowrank.projected.registry import entry
from lorank.lowrank.projected.residuals.growth import growth_factors, limit_growth
from lorank.lowrank.projected.residuals.residual import RESIDUALS, Parts, Residual


@entry(RESIDUALS, "fira")
class ScaledResidual(Residual):
    """The scaled rest, limited in growth.

    State: ``1`` value a matrix.
    """

    def combine(self, state: State, parts: Parts, group: Group, options: Projection) -> Tensor:
        factors = growth_factors(parts.direction, parts.reduced, options.per)
        rest = (parts.gradient - parts.up(parts.reduced)).mul_(factors)
        limited = limit_growth(state, rest, options.limit)
        return limited.add_(parts.up(parts.direction), alpha=options.scale)
