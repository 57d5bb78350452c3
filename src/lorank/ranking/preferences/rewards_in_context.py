r"""Rewards-in-Context: the rewards that a reply should have stand in the prompt.

    prompt <R1> r_1 <R2> r_2 ...,   r_i = (reward_i - mean_i) / deviation_i
    target_i(w) = low_i + (high_i - low_i) z_i,
    z = argmax { \sum_i w_i z_i : ||z||_p \le 1, z \ge 0 } = w_i^{q - 1} / (\sum_j w_j^q)^{1 / p},   1/p + 1/q = 1

A model tuned on replies with their own rewards in the prompt writes for the rewards that it is given. What to give it
follows from weights of preference in closed form, when the front of what is attainable is taken for a ball of a p-norm
between the lowest and the highest rewards seen: p = 2 is a circle, p towards 1 a straight line, on which only the
heaviest reward is asked for, and p towards infinity a square, on which all are.
:func:`lorank.training.methods.rewards_in_context.condition_on_rewards` tunes the model.

Paper: R. Yang et al., Rewards-in-Context: Multi-objective Alignment of Foundation Models with Dynamic Preference
Adjustment, ICML 2024.

*Deviations*: reconstructed from the description. Assumed: rewards are standardised and written with one decimal; the
highest and lowest are quantiles of the offline rewards; near the front is a reply that no other one beats in every
reward by more than a slack.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lorank.errors import UsageError


@dataclass(frozen=True)
class RewardScale:
    """Where rewards lie: ``mean`` and ``deviation`` of each, and ``low`` and ``high`` in units of these; all [k]."""

    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    @classmethod
    def fit(cls, rewards: np.ndarray, outer: float = 0.05) -> "RewardScale":
        """Return the scale of ``rewards`` [n, k]; a share ``outer`` lies beyond the lowest and the highest each.

        >>> RewardScale.fit(np.array([[0.0], [2.0]]), outer=0.0)
        RewardScale(mean=(1.0,), deviation=(1.0,), low=(-1.0,), high=(1.0,))
        """
        rewards = np.asarray(rewards, float)
        if rewards.ndim != 2 or not len(rewards) or not np.isfinite(rewards).all() or not 0 <= outer < 0.5:
            raise UsageError(
                f"give finite rewards [replies, rewards], and outer from 0 to below 0.5; got "
                f"{list(rewards.shape)} and {outer}"
            )
        mean, deviation = rewards.mean(0), rewards.std(0)
        if not (deviation > 0).all():
            raise UsageError(f"reward {int(np.argmin(deviation)) + 1} is the same for every reply; leave it out")
        low, high = np.quantile((rewards - mean) / deviation, [outer, 1 - outer], axis=0)
        return cls(*(tuple(part.tolist()) for part in (mean, deviation, low, high)))

    def standardise(self, rewards: np.ndarray) -> np.ndarray:
        """Return ``rewards`` [..., k] in units of this scale."""
        return (np.asarray(rewards, float) - self.mean) / self.deviation

    def targets(self, weights: Sequence[float], p: float = 2.0) -> np.ndarray:
        """Return the standardised rewards [k] to ask for.

        Args:
            weights: How much each reward counts, 0 and up, not all 0; only their ratios matter.
            p: Of the norm whose ball the attainable rewards are taken for, above 1.

        >>> scale = RewardScale((0.0, 0.0), (1.0, 1.0), (-1.0, 0.0), (1.0, 1.0))
        >>> scale.targets([3, 4]).round(3).tolist()      # z = 0.6, 0.8
        [0.2, 0.8]
        """
        w = np.asarray(weights, float)
        if w.shape != (len(self.mean),) or (w < 0).any() or not w.sum() > 0 or not p > 1:
            raise UsageError(
                f"give {len(self.mean)} weights from 0 up, not all 0, and p above 1; got {weights} and {p}"
            )
        w, q = w / w.max(), p / (p - 1)
        z = w ** (q - 1) / (w**q).sum() ** (1 / p)
        low, high = np.array(self.low), np.array(self.high)
        return np.asarray(low + (high - low) * z)


def condition_prompt(prompt: str, rewards: Sequence[float]) -> str:
    """Return the prompt that asks for a reply with these standardised rewards.

    >>> condition_prompt("Say hello.", [1.25, -0.04])
    'Say hello. <R1> 1.2 <R2> 0.0'
    """
    return prompt + "".join(f" <R{i}> {round(float(r), 1) + 0.0:.1f}" for i, r in enumerate(rewards, 1))


def near_front(rewards: np.ndarray, slack: float = 0.0) -> np.ndarray:
    """Return which of ``rewards`` [n, k] no other row beats by more than ``slack`` in every one, bool [n].

    >>> near_front(np.array([[0.0, 1.0], [1.0, 0.0], [-0.1, 0.8], [-1.0, -1.0]]), slack=0.15).tolist()
    [True, True, True, False]
    """
    rewards = np.asarray(rewards, float)
    margin = (rewards[:, None, :] - rewards[None, :, :]).min(2)  # [i, j]: by how much i beats j in every reward
    return np.asarray(~(margin > slack).any(0))
