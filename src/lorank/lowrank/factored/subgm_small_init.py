r"""The sub-gradient method from a small start: factors of too high a rank that find the rank that is there.

    A ~ scale N(0, 1 / in) [r, in],    B ~ scale N(0, 1 / out) [out, r]
    gamma = max(|dL/dA|_F / |B|_F, |dL/dB|_F / |A|_F)
    A <- A - eta dL/dA / gamma,    B <- B - eta dL/dB / gamma,    eta = speed * learning rate

With G = dL/dW, dL/dA = B^T G and dL/dB = G A^T, so that from near 0 the components along the leading directions of G
grow first, exponentially, and the superfluous ones stay near the start's scale while the rate falls: the result does
not depend on r. Under an l1 loss gross outliers change G little, where squares give them all the weight; gamma, a lower
bound of |G|_2, makes a step a share eta of the factors whatever the size of the loss. Growth from the start takes about
log(1 / scale) / eta steps, so that a smaller scale asks for a longer run. No moments are kept; all other parameters
step by AdamW.

Ma and Fattahi, Global Convergence of Sub-gradient Method for Robust Matrix Recovery: Small Initialization, Noisy
Measurements, and Over-parameterization, 2022, arXiv:2202.08788.

*Deviations*: two factors in place of U U^T; steps fall with the run's learning rate in place of a geometric series, and
are measured by gamma in place of the loss. The loss is that of the model: of masked tokens it is the cross-entropy,
whose slope is bounded as that of l1 is. From "svd", for a trained weight, the start is not small.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lorank.catalogue import catalogued
from lorank.errors import UsageError
from lorank.lowrank.factored.core.layer import Pair, factored
from lorank.lowrank.rules.factor_optimizer import FactorOptimizer, Group, decay
from lorank.lowrank.rules.rule import Pair as Factors
from lorank.lowrank.rules.rule import Rates


class SubgradientOptimizer(FactorOptimizer):
    """Sub-gradient steps of pairs of factors, relative to their size; AdamW for all else.

    Args:
        groups: Parameters or groups that hold the factors.
        pairs: The factors.
        rates: The rates; a step moves a factor by the share ``speed`` times ``lr``, 1 at most.
        speed: The factor of the rate.
    """

    def __init__(self, groups: Any, pairs: Iterable[Factors], rates: Rates, speed: float) -> None:
        super().__init__(groups, list(pairs), rates)
        self.speed = speed

    def step_pair(self, pair: Factors, group: Group) -> None:
        """Step both factors."""
        slope_a, slope_b = pair.gradients()
        gamma = torch.maximum(_ratio(slope_a, pair.B), _ratio(slope_b, pair.A))
        share = min(self.speed * group["lr"], 1.0)
        for factor, slope in ((pair.A, slope_a), (pair.B, slope_b)):
            decay(factor, group)
            factor.sub_((slope.double() * (share / gamma)).to(factor))


def _ratio(slope: Tensor, other: Tensor) -> Tensor:
    """Return |slope|_F / |other|_F, and a number above 0 where the slope is 0."""
    least = torch.finfo(torch.float64).tiny
    ratio: Tensor = slope.double().norm() / other.double().norm().clamp_min(least)
    return ratio.clamp_min(least)


@factored("subgm-small-init")
@catalogued(
    "subgm-small-init",
    area="pretrain.lowrank",
    title="Global Convergence of Sub-gradient Method for Robust Matrix Recovery: Small Initialization, Noisy "
    "Measurements, and Over-parameterization",
)
class SmallPair(Pair):
    """Two factors of any rank from a small start, which step by sub-gradients.

    Args:
        layer: The layer that is replaced.
        rank: The rank of B A, which may be far above what is needed.
        start: "random": small; or "svd".
        generator: It draws the start.
        scale: The length of the rows of A and the columns of B at a random start, above 0.
        speed: A step moves the factors by ``speed`` times the learning rate, relative to their size; above 0.
    """

    def __init__(
        self,
        layer: nn.Linear,
        rank: int,
        *,
        start: str,
        generator: torch.Generator,
        scale: float = 0.01,
        speed: float = 30.0,
    ) -> None:
        super().__init__(layer, rank, start=start, generator=generator)
        if not scale > 0 or not speed > 0:
            raise UsageError(f"scale={scale:g} and speed={speed:g} are above 0")
        self.speed = speed
        if start == "random":
            with torch.no_grad():
                self.A.copy_(torch.randn(self.A.shape, generator=generator) * (scale / self.in_features**0.5))
                self.B.copy_(torch.randn(self.B.shape, generator=generator) * (scale / self.out_features**0.5))

    def optimizer_of(self, groups: Any, layers: Mapping[str, Any], rates: Mapping[str, Any]) -> SubgradientOptimizer:
        """Return the optimizer that steps all such layers, and everything else by AdamW."""
        pairs = [Factors(path, layer.A, layer.B, 1.0) for path, layer in layers.items()]
        return SubgradientOptimizer(groups, pairs, Rates(**{"lr": 1e-3, **rates}), self.speed)
