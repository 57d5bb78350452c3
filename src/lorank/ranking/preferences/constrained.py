r"""Several rewards, each bounded by the point where it stops to mean anything.

    \max_\pi J_0(\pi)  subject to  J_i(\pi) \le \theta_i:   A = A_0 - \sum_i \lambda_i A_i,
    \lambda_i \leftarrow \max(0, \lambda_i + \eta (J_i - \theta_i))

Proxy rewards rise with the true one up to a proxy point theta and lead away from it beyond. The multipliers go to 0
while a reward is below its point and grow once it is above; the policy follows the mixed advantages A. The points are
found by Nelder and Mead's search on evaluations of the true reward.

Paper: T. Moskovitz et al., Confronting Reward Model Overoptimization with Constrained RLHF, ICLR 2024.

*Deviations*: multipliers are projected to 0 and up, and bounded by ``most``; the paper squashes free numbers. J_0 is
whatever task reward is given.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from torch import Tensor

from lorank.catalogue import catalogued
from lorank.errors import UsageError


@catalogued(
    "constrained-rlhf",
    area="losses.preference",
    title="Confronting Reward Model Overoptimization with Constrained RLHF",
)
@dataclass
class Multipliers:
    """Lagrange multipliers of rewards with upper ``points``, moved by dual ascent.

    >>> multipliers = Multipliers([1.0, 5.0], rate=0.5)
    >>> multipliers.step([3.0, 2.0]).tolist()       # the first is above its point, the second below
    [1.0, 0.0]
    """

    points: Sequence[float]
    rate: float = 0.1
    most: float = 10.0

    def __post_init__(self) -> None:
        if not len(self.points) or not self.rate > 0 or not self.most > 0:
            raise UsageError(
                f"give a point for each reward, a rate and a bound above 0; got {list(self.points)}, "
                f"{self.rate}, {self.most}"
            )
        self.values = np.zeros(len(self.points))

    def step(self, rewards: Sequence[float]) -> np.ndarray:
        """Move by how far the mean ``rewards`` [k] of the policy are above their points; return the multipliers."""
        if len(rewards) != len(self.points):
            raise UsageError(f"{len(rewards)} rewards for {len(self.points)} points")
        excess = np.asarray(rewards, float) - np.asarray(self.points, float)
        self.values = np.clip(self.values + self.rate * excess, 0.0, self.most)
        return self.values


def mixed_advantages(task: Tensor, bounded: Tensor, multipliers: Sequence[float] | np.ndarray) -> Tensor:
    """Return A = A_0 - sum_i lambda_i A_i from the advantages ``task`` [n] and ``bounded`` [k, n].

    >>> import torch
    >>> mixed_advantages(torch.tensor([1.0]), torch.tensor([[2.0], [3.0]]), [0.5, 0.0])
    tensor([0.])
    """
    weights = task.new_tensor(np.asarray(multipliers, float))
    if bounded.shape != (len(weights), *task.shape):
        raise UsageError(f"bounded advantages must be {[len(weights), *task.shape]}; got {list(bounded.shape)}")
    return task - (weights @ bounded.flatten(1)).view(task.shape)


def best_points(
    true_reward: Callable[[np.ndarray], float], start: Sequence[float], *, evaluations: int = 60
) -> np.ndarray:
    """Return the points [k] with the highest true reward, by Nelder and Mead's search from ``start``.

    ``true_reward`` trains a policy under the points (or looks one up) and evaluates it; it is called about
    ``evaluations`` times.
    """
    found = minimize(
        lambda points: -true_reward(points),
        np.asarray(start, float),
        method="Nelder-Mead",
        options={"maxfev": evaluations},
    )
    return np.asarray(found.x)
