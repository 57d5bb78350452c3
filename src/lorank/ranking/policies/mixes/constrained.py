r"""Constrained parts: the first part is the task, and each further one is bounded by a point.

    r_i = r_{i0} - \sum_{k \ge 1} \lambda_k r_{ik},   \lambda_k \leftarrow \max(0, \lambda_k + \eta (J_k - \theta_k))

The multipliers (`lorank.ranking.preferences.constrained`) are 0 while a part is below its point and grow once it is
above. Points are chosen by hand, or by Nelder and Mead's search with `best_points` over whole runs.

Paper: T. Moskovitz et al., Confronting Reward Model Overoptimization with Constrained RLHF, ICLR 2024.

*Deviations*: rewards are mixed where the paper mixes advantages, which is the same for advantages that are linear in
the rewards (leave-one-out, centred, global mean).
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from lorank.errors import UsageError
from lorank.ranking.policies.mixes.registry import RewardMix, reward_mix
from lorank.ranking.preferences.constrained import Multipliers


@reward_mix("constrained")
class ConstrainedMix(RewardMix):
    """The first part less the bounded ones times their multipliers.

    Args:
        start: The weight of each part, of which the first is the task's; two parts or more.
        point: theta, of every bounded part.
        rate: eta, above 0.
        most: The largest multiplier.

    >>> mix = ConstrainedMix([1.0, 1.0], point=0.5, rate=1.0)
    >>> mix.observe_step([0.2, 2.0]); mix(torch.tensor([[1.0, 1.0]]))       # 1 - 1.5
    tensor([-0.5000])
    """

    def __init__(self, start: Sequence[float], *, point: float = 0.0, rate: float = 0.1, most: float = 10.0) -> None:
        super().__init__(start)
        if len(start) < 2:
            raise UsageError("mix 'constrained' takes a task and one or more parts to bound; join rewards with +")
        self.multipliers = Multipliers([point] * (len(start) - 1), rate, most)

    def __call__(self, parts: Tensor) -> Tensor:
        """Return the rewards [replies] of ``parts`` [replies, parts]."""
        bounded = torch.as_tensor(self.multipliers.values).to(parts)
        return self.start[0].to(parts) * parts[:, 0] - parts[:, 1:] @ bounded

    def observe_step(self, values: Sequence[float]) -> None:
        """Move the multipliers by dual ascent."""
        self.multipliers.step(list(values)[1:])

    def state_dict(self) -> dict[str, Tensor]:
        """Return the multipliers."""
        return {"multipliers": torch.as_tensor(self.multipliers.values).clone()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take them up."""
        self.multipliers.values = state["multipliers"].numpy().copy()
