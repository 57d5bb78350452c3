r"""Gradient-based weights: parts whose gradients agree most with the sum of all gain weight, by mirror descent.

    w \leftarrow softmax( \log w + \eta \bar{s} / \mu ),   s_k = \langle g_k, \sum_j g_j \rangle

g_k is the gradient of the objective of part k alone, and s is averaged over ``every`` steps. The weights stay on the
simplex.

Paper: Y. Lu et al., Learning to Optimize Multi-Objective Alignment Through Dynamic Reward Weighting, 2025.

*Deviations*: gradients are divided by the norm of their sum, so that s does not depend on the size of the model; with
``unit`` each is divided by its own norm too, so that the part of the largest scale does not win by its scale. eta is a
constant here; in published code it is the run's learning rate, which dies with its schedule.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from lorank.errors import UsageError
from lorank.ranking.policies.mixes.registry import RewardMix, reward_mix


@reward_mix("gradient")
class GradientMix(RewardMix):
    """Weights on the simplex, moved by mirror descent.

    Args:
        start: The weight of each part, above 0; they are divided by their sum.
        rate: eta / mu, above 0.
        every: Over how many steps the influence is averaged, 1 or more.
        unit: Whether each gradient is divided by its norm.
    """

    reads_gradients: ClassVar[bool] = True

    def __init__(self, start: Sequence[float], *, rate: float = 0.1, every: int = 1, unit: bool = False) -> None:
        super().__init__(start)
        if min(start) <= 0 or not rate > 0 or every < 1:
            raise UsageError(f"weights and rate must be above 0, every 1 or above; got {list(start)}, {rate}, {every}")
        self.rate, self.every, self.unit = rate, every, unit
        self.weights = self.start / self.start.sum()
        self.influence, self.seen = torch.zeros(len(start)), 0

    def __call__(self, parts: Tensor) -> Tensor:
        """Return the rewards [replies] of ``parts`` [replies, parts]."""
        return parts @ self.weights.to(parts)

    def observe_gradients(self, gradients: Sequence[Tensor]) -> None:
        """Add the influence of each part, and move the weights every ``every`` steps.

        >>> mix = GradientMix([1.0, 1.0], rate=1.0)
        >>> mix.observe_gradients([torch.tensor([2.0]), torch.tensor([0.0])])
        >>> bool(mix.weights[0] > 0.5), round(float(mix.weights.sum()), 4)
        (True, 1.0)
        """
        rows = torch.stack([each.detach().float().cpu() for each in gradients])
        if self.unit:
            rows = rows / rows.norm(dim=1, keepdim=True).clamp(min=1e-12)
        whole = rows.sum(0)
        self.influence += rows @ whole / whole.norm().clamp(min=1e-12) ** 2
        self.seen += 1
        if self.seen == self.every:
            self.weights = (self.weights.log() + self.rate * self.influence / self.every).softmax(0)
            self.influence, self.seen = torch.zeros_like(self.influence), 0

    def state_dict(self) -> dict[str, Tensor]:
        """Return the weights and the influence so far."""
        return {"weights": self.weights.clone(), "influence": self.influence.clone(), "seen": torch.tensor(self.seen)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take them up."""
        self.weights, self.influence = state["weights"].clone(), state["influence"].clone()
        self.seen = int(state["seen"])
