r"""APOLLO's channel scaling: the raw gradient, each channel scaled as the inner rule scaled its projection.

    D = scale * G diag(s),   s_j = ||N_:,j|| / (||R_:,j|| + 1e-8)

A channel is a column along the longer side; with ``per = "matrix"`` there is one s (APOLLO-Mini). ||D|| grows by
``limit`` from one step to the next at most. Nothing is projected back.

Zhu et al., APOLLO: SGD-like Memory, AdamW-level Performance, 2024, arXiv:2412.05270.
"""

from torch import Tensor

from lorank.lowrank.projected.inner.inner import Group
from lorank.lowrank.projected.projection import Projection
from lorank.lowrank.projected.projectors.projector import State
from lorank.lowrank.projected.registry import entry
from lorank.lowrank.projected.residuals.growth import growth_factors, limit_growth
from lorank.lowrank.projected.residuals.residual import RESIDUALS, Parts, Residual


@entry(RESIDUALS, "channel")
class ChannelScaling(Residual):
    """The scaled gradient, limited in growth.

    State: ``1`` value a matrix.
    """

    def combine(self, state: State, parts: Parts, group: Group, options: Projection) -> Tensor:
        factors = growth_factors(parts.direction, parts.reduced, options.per) * options.scale
        return limit_growth(state, parts.gradient * factors, options.limit)
