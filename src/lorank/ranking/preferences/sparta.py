r"""SPARTA: models duel, their peers vote with the weight of their reputation, and who won is what all learn from.

    v = \sum_j w_j [judge j prefers the left reply],   w_j \propto 10^{R_j / s} over all models but the two
    R_left \leftarrow R_left + K (v - e),   R_right \leftarrow R_right - K (v - e),
    e = 1 / (1 + 10^{(R_right - R_left) / s})

What one model gains the other loses, so the total reputation stays. A model that writes what most of its peers would
not choose loses its duels, and with them its say over the duels of others. :func:`duels` fights them;
:func:`lorank.training.methods.sparta.align_by_combat` tunes every model by DPO on the outcomes and goes on.

Paper: Y. Jiang, W. Ding, S. Feng, G. Durrett, Y. Tsvetkov, Sparta Alignment: Collectively Aligning Multiple Language
Models through Combat, NeurIPS 2025.

*Deviations*: reconstructed from the description. Assumed: Elo's rule with the weighted share of votes as the result and
Elo's odds as the weights, which stay above 0; the paper's reputation also has a deviation that shrinks the steps.
Judges vote by which reply they score higher, so their scales need not agree.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from lorank.errors import UsageError
from lorank.ranking.judges import Judge
from lorank.ranking.judges.session import Session
from lorank.ranking.preferences.perl import draw_replies
from lorank.ranking.scorers.causal import CausalRanker


class Contestant(Protocol):
    """A model that replies to prompts, and judges the replies of others."""

    def reply(self, prompt: str, seed: int) -> str:
        """Return one reply."""
        ...

    def judge(self, prompt: str, replies: Sequence[str]) -> Sequence[float]:
        """Return one score a reply, higher is better."""
        ...


@dataclass
class Policy:
    """A causal language model as a contestant: it draws its replies, and ``judging`` scores those of others."""

    model: CausalRanker
    judging: Judge
    max_tokens: int = 64

    def reply(self, prompt: str, seed: int) -> str:
        """Return one reply, drawn at temperature 1."""
        return draw_replies(self.model, prompt, 1, self.max_tokens, seed)[0]

    def judge(self, prompt: str, replies: Sequence[str]) -> Sequence[float]:
        """Return the answers to one pointwise question a reply."""
        return Session(self.judging, prompt, replies).points(range(len(replies)))


@dataclass
class Reputations:
    """One number a model, moved by duels; the sum never changes.

    >>> reputations = Reputations([0.0, 0.0, 0.0], rate=32.0)
    >>> reputations.settle(0, 1, 1.0)           # an even duel, won by every vote
    >>> reputations.values.tolist(), float(reputations.values.sum())
    ([16.0, -16.0, 0.0], 0.0)
    """

    values: np.ndarray | Sequence[float]
    rate: float = 32.0
    scale: float = 400.0

    def __post_init__(self) -> None:
        self.values: np.ndarray = np.array(self.values, float)
        if self.values.ndim != 1 or len(self.values) < 3 or not self.rate > 0 or not self.scale > 0:
            raise UsageError(
                f"a combat needs three models or more, and a rate and scale above 0; got "
                f"{self.values.shape}, {self.rate} and {self.scale}"
            )

    def expected_share(self, left: int, right: int) -> float:
        """Return the share of votes that ``left`` is expected to win against ``right``."""
        return float(1 / (1 + 10 ** ((self.values[right] - self.values[left]) / self.scale)))

    def weights(self, left: int, right: int) -> np.ndarray:
        """Return what each model's vote counts in a duel [models]; 0 for the two, the others sum to 1."""
        odds = 10 ** ((self.values - self.values.max()) / self.scale)
        odds[[left, right]] = 0.0
        return odds / odds.sum()

    def settle(self, left: int, right: int, share: float) -> None:
        """Move both by the share of votes, 0 to 1, that ``left`` won."""
        gain = self.rate * (share - self.expected_share(left, right))
        self.values[left] += gain
        self.values[right] -= gain


@dataclass(frozen=True)
class Duel:
    """Two models' replies to a prompt, and the ``share`` of the weighted vote that the left one won."""

    prompt: str
    models: tuple[int, int]
    replies: tuple[str, str]
    share: float
    votes: np.ndarray = field(repr=False)
    weights: np.ndarray = field(repr=False)

    @property
    def row(self) -> dict[str, str] | None:
        """The preference pair that it teaches; None where the vote is even or the replies are equal or empty."""
        if self.share == 0.5 or self.replies[0] == self.replies[1] or not all(map(str.strip, self.replies)):
            return None
        chosen, rejected = self.replies if self.share > 0.5 else self.replies[::-1]
        return {"query": self.prompt, "chosen": chosen, "rejected": rejected}


def duel(
    contestants: Sequence[Contestant],
    prompt: str,
    models: tuple[int, int],
    reputations: Reputations,
    seeds: tuple[int, int],
) -> Duel:
    """Let two models reply and all others vote.

    Args:
        contestants: All models.
        prompt: The text to which the two models reply.
        models: The positions of the two models among the contestants.
        reputations: The reputations that weigh the votes; they are not changed.
        seeds: The seeds of the two replies.
    """
    left, right = models
    replies = contestants[left].reply(prompt, seeds[0]), contestants[right].reply(prompt, seeds[1])
    votes = np.full(len(contestants), 0.5)
    for place, contestant in enumerate(contestants):
        if place not in models:
            first, second = contestant.judge(prompt, replies)
            votes[place] = 0.5 + 0.5 * np.sign(first - second)
    weights = reputations.weights(left, right)
    return Duel(prompt, models, replies, float(weights @ votes), votes, weights)


def draw_pair(reputations: Reputations, generator: np.random.Generator, near: int) -> tuple[int, int]:
    """Return two models: one at random, and one of the ``near`` others closest to it in reputation."""
    left = int(generator.integers(len(reputations.values)))
    apart = np.abs(reputations.values - reputations.values[left])
    apart[left] = np.inf
    order = np.lexsort((generator.random(len(apart)), apart))  # equal ones at random
    return left, int(generator.choice(order[: min(near, len(apart) - 1)]))


def duels(
    contestants: Sequence[Contestant],
    prompts: Sequence[str],
    reputations: Reputations,
    *,
    near: int = 3,
    generator: np.random.Generator,
) -> list[Duel]:
    """Fight one duel a prompt, in turn, and move ``reputations`` by each.

    Args:
        contestants: Three models or more.
        prompts: What they reply to.
        reputations: One a contestant; moved in place.
        near: Opponents are drawn among so many of the closest in reputation, 1 or more.
        generator: Where pairs and the seeds of replies come from.
    """
    if len(contestants) != len(reputations.values) or near < 1:
        raise UsageError(
            f"give one reputation a contestant and near of 1 or more; got {len(contestants)}, "
            f"{len(reputations.values)} and {near}"
        )
    fought = []
    for prompt in prompts:
        pair = draw_pair(reputations, generator, near)
        seeds = tuple(generator.integers(2**62, size=2).tolist())
        fought.append(duel(contestants, prompt, pair, reputations, seeds))
        reputations.settle(*pair, fought[-1].share)
    return fought
