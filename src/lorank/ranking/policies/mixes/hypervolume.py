r"""Hypervolume guidance: what extends the front of all parts counts more.

    scale       r_i = (0.5 + 1.5 \tanh \Delta) \sum_k w_k r_{ik}
    gradient    r_i = \sum_k w_k r_{ik},   w_k \propto \partial HV / \partial J_k = \prod_{j \ne k} (J_j - z_j)

Delta is the volume that the newest point J of dev adds to what the points before it dominate, above the reference point
z, the first point of the run less ``margin``. With ``scale``, the published rule, the weights stay and the steps shrink
where dev stands still. With ``gradient`` the weights lean to the part that lags behind, and a front that is curved
inwards can be climbed to its middle, which no constant weights can.

Paper: Y. Lu et al., Learning to Optimize Multi-Objective Alignment Through Dynamic Reward Weighting, 2025.

*Deviations*: ``gradient`` is not of the paper: it is the steepest ascent of the same volume for one point.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from lorank.errors import UsageError
from lorank.ranking.policies.mixes.registry import RewardMix, reward_mix

GUIDES = ("scale", "gradient")


def hypervolume(points: Sequence[Sequence[float]], reference: Sequence[float]) -> float:
    """Return the volume that the points dominate above the reference, by slices along the last part.

    >>> hypervolume([[1.0, 2.0], [2.0, 1.0]], [0.0, 0.0])
    3.0
    """
    above = [p for p in points if all(x > z for x, z in zip(p, reference, strict=True))]
    if not above:
        return 0.0
    if len(reference) == 1:
        return max(p[0] for p in above) - reference[0]
    total, floor = 0.0, reference[-1]
    for height in sorted({p[-1] for p in above}):
        slab = [p[:-1] for p in above if p[-1] >= height]
        total += (height - floor) * hypervolume(slab, reference[:-1])
        floor = height
    return total


@reward_mix("hypervolume")
class HypervolumeMix(RewardMix):
    """Scale the reward, or lean its weights, by the volume of dev's points.

    Args:
        start: The weight of each part.
        guide: ``scale`` or ``gradient``.
        margin: How far below the first point of dev the reference lies, above 0.
        floor: The reference in every part; None takes the first point less ``margin``.
    """

    def __init__(
        self, start: Sequence[float], *, guide: str = "scale", margin: float = 0.1, floor: float | None = None
    ) -> None:
        super().__init__(start)
        if guide not in GUIDES or not margin > 0:
            raise UsageError(f"guide must be one of {', '.join(GUIDES)} and margin above 0; got {guide!r}, {margin}")
        self.guide, self.margin, self.floor = guide, margin, floor
        self.points = torch.zeros(0, len(start), dtype=torch.float64)
        self.factor = 1.0
        self.weights = self.start.clone()

    def __call__(self, parts: Tensor) -> Tensor:
        """Return the rewards [replies] of ``parts`` [replies, parts]."""
        return self.factor * (parts @ self.weights.to(parts))

    def observe_dev(self, values: Sequence[float]) -> None:
        """Add a point of dev, and move the factor or the weights.

        >>> mix = HypervolumeMix([1.0, 1.0])
        >>> mix.observe_dev([0.2, 0.2]); mix.observe_dev([0.2, 0.2]); mix.factor    # nothing was gained
        0.5
        """
        before = self.points.tolist()
        point = torch.tensor([list(values)], dtype=torch.float64)
        self.points = torch.cat([self.points, point])
        reference = [x - self.margin if self.floor is None else self.floor for x in self.points[0].tolist()]
        if self.guide == "gradient":
            lead = [max(x - z, 1e-6) for x, z in zip(values, reference, strict=True)]
            share = torch.tensor([math.prod(lead) / each for each in lead])
            self.weights = (share / share.sum() * self.start.sum()).to(self.start)
            return
        added = hypervolume(self.points.tolist(), reference) - hypervolume(before, reference)
        self.factor = 0.5 + 1.5 * math.tanh(added)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the points, the factor and the weights."""
        factor = torch.tensor(self.factor, dtype=torch.float64)
        return {"points": self.points.clone(), "factor": factor, "weights": self.weights.clone()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take them up."""
        self.points, self.weights = state["points"].clone(), state["weights"].clone()
        self.factor = float(state["factor"])
