r"""Bandits: arms that are tried while what they give is learned.

    epsilon-greedy   the best mean, or with probability \epsilon any arm
    ucb              \bar{r}_a + c \sqrt{ 2 \log t / n_a }
    thompson         a draw from N(\bar{r}_a, \sigma^2 / (n_a + 1))
    ridge            x^T w_a + c \sqrt{ x^T A_a^{-1} x },  A_a = \lambda I + \sum x x^T,  w_a = A_a^{-1} \sum r x

The last one sees a context x per round; the others do not use it. Every one learns from the arm that was pulled alone.

Papers: Auer, Cesa-Bianchi, Fischer 2002 (UCB1); Thompson 1933; Li, Chu, Langford, Schapire 2010, arXiv:1003.0146
(LinUCB).
"""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from lorank.errors import UsageError, unknown_name


class Bandit(Protocol):
    """What chooses arms and learns from the one that was pulled."""

    def choose(self, context: np.ndarray, rng: np.random.Generator) -> int:
        """Return the arm of a round."""
        ...

    def learn(self, context: np.ndarray, arm: int, reward: float) -> None:
        """Take in what the arm gave."""
        ...


class Means:
    """The mean reward of each arm, and how often it was pulled; ``policy`` says how arms are chosen by them."""

    def __init__(self, arms: int, policy: str, width: float) -> None:
        self.count, self.total, self.policy, self.width = np.zeros(arms), np.zeros(arms), policy, width

    def choose(self, context: np.ndarray, rng: np.random.Generator) -> int:
        """Return an arm that was never pulled while there is one, then that of the policy."""
        fresh = np.flatnonzero(self.count == 0)
        if len(fresh):
            return int(fresh[0])
        mean = self.total / self.count
        if self.policy == "epsilon-greedy":
            return int(rng.integers(len(mean))) if rng.random() < self.width else int(mean.argmax())
        if self.policy == "ucb":
            return int((mean + self.width * np.sqrt(2 * np.log(self.count.sum()) / self.count)).argmax())
        return int(rng.normal(mean, self.width / np.sqrt(self.count + 1)).argmax())

    def learn(self, context: np.ndarray, arm: int, reward: float) -> None:
        """Take in what the arm gave."""
        self.count[arm] += 1
        self.total[arm] += reward


class Ridge:
    """A ridge regression per arm, with a bonus for what is uncertain; any arm with probability ``epsilon``."""

    def __init__(self, arms: int, size: int, width: float, penalty: float = 1.0, epsilon: float = 0.0) -> None:
        self.inverse = np.tile(np.eye(size) / penalty, (arms, 1, 1))
        self.total, self.width, self.epsilon = np.zeros((arms, size)), width, epsilon

    @property
    def weights(self) -> np.ndarray:
        """The regression of each arm, [arms, size]."""
        return np.asarray(np.einsum("aij,aj->ai", self.inverse, self.total))

    def choose(self, context: np.ndarray, rng: np.random.Generator) -> int:
        """Return the arm of the highest bound, or any with probability ``epsilon``."""
        if self.epsilon and rng.random() < self.epsilon:
            return int(rng.integers(len(self.total)))
        spread = np.sqrt(np.maximum(np.einsum("i,aij,j->a", context, self.inverse, context), 0.0))
        return int((self.weights @ context + self.width * spread).argmax())

    def learn(self, context: np.ndarray, arm: int, reward: float) -> None:
        """Take in what the arm gave, by the formula of Sherman and Morrison."""
        moved = self.inverse[arm] @ context
        self.inverse[arm] -= np.outer(moved, moved) / (1 + context @ moved)
        self.total[arm] += reward * context


BANDITS: dict[str, tuple[float, Callable[[int, int, float], Bandit]]] = {
    "epsilon-greedy": (0.1, lambda arms, size, width: Means(arms, "epsilon-greedy", width)),
    "ucb": (0.5, lambda arms, size, width: Means(arms, "ucb", width)),
    "thompson": (0.5, lambda arms, size, width: Means(arms, "thompson", width)),
    "ridge": (0.3, lambda arms, size, width: Ridge(arms, size, width)),
    "epsilon-ridge": (0.1, lambda arms, size, width: Ridge(arms, size, 0.0, epsilon=width)),
}
"""By name: the usual width (epsilon, c or sigma), and what makes it of arms, the size of a context, and the width."""


def make_bandit(name: str, arms: int, size: int = 1, width: float | None = None) -> Bandit:
    """Return the bandit called ``name``.

    Args:
        name: A name in ``BANDITS``.
        arms: How many arms there are, 1 or more.
        size: The numbers of a context, 1 or more.
        width: epsilon, c or sigma, 0 or more; None is the bandit's own.

    Raises:
        UsageError: For a name that is not known, and for numbers that are out of their range.
    """
    if name not in BANDITS:
        raise unknown_name("bandit", name, BANDITS)
    usual, make = BANDITS[name]
    width = usual if width is None else width
    if arms < 1 or size < 1 or not width >= 0:
        raise UsageError(
            f"arms={arms}, size={size}, width={width}: give 1 or more of the first two, and a width from 0"
        )
    return make(arms, size, width)


def play(
    bandit: Bandit, contexts: np.ndarray, rewards: np.ndarray, rng: np.random.Generator, rounds: int | None = None
) -> dict[str, Any]:
    """Return the arms int64 [rounds] that a bandit pulls and its regret [rounds] against the best arm of each round.

    Args:
        bandit: The bandit, which learns.
        contexts: The contexts [n, size]; rounds go through them again and again.
        rewards: What each arm gives [n, arms].
        rng: The source of the draws.
        rounds: How many rounds there are; None takes one per context.
    """
    pulled, regret = [], []
    for number in range(len(contexts) if rounds is None else rounds):
        at = number % len(contexts)
        arm = bandit.choose(contexts[at], rng)
        bandit.learn(contexts[at], arm, float(rewards[at, arm]))
        pulled.append(arm)
        regret.append(float(rewards[at].max() - rewards[at, arm]))
    return {"arms": np.array(pulled, np.int64), "regret": np.array(regret)}
