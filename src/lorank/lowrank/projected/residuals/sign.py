r"""FRUGAL's residual: the sign of the rest of the gradient, which needs no state.

    D = scale * P N + rest_rate * sign(G - P R)

Zmushko et al., FRUGAL: Memory-Efficient Optimization by Reducing State Overhead for Scalable Training, 2024,
arXiv:2411.07837.
"""

from torch import Tensor

from lorank.lowrank.projected.inner.inner import Group
from lorank.lowrank.projected.projection import Projection
from lorank.lowrank.projected.projectors.projector import State
from lorank.lowrank.projected.registry import entry
from lorank.lowrank.projected.residuals.residual import RESIDUALS, Parts, Residual


@entry(RESIDUALS, "sign")
class SignOfRest(Residual):
    """The sign of the rest. Entries that lie in the subspace up to rounding count as 0.

    State: ``0`` values a matrix.
    """

    def combine(self, state: State, parts: Parts, group: Group, options: Projection) -> Tensor:
        rest = parts.gradient - parts.up(parts.reduced)
        rest[rest.abs() <= 1e-5 * parts.gradient.abs().max()] = 0
        return rest.sign_().mul_(options.rest_rate).add_(parts.up(parts.direction), alpha=options.scale)
