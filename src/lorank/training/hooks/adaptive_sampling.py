r"""Adaptive Sample with Reward: a policy learns from which distance negatives are drawn, by what that gains on dev.

    \pi = softmax(\theta) over the bins,  \theta = 0 at the start: the uniform sampler
    every ``EVERY`` steps:  r = RR(now) - RR(then) on dev queries,   for the bin b whose turn it was
        A = (r - \bar r) / \sigma_r,     \theta <- \theta + \eta A (1_b - \pi),     next turn: b ~ \pi

The gradient is REINFORCE's with a running mean as its baseline. Dev queries are searched in the documents' vectors,
which stand during training, so that a reward costs the encoding of ``JUDGED`` queries at most. \theta, the baseline and
the turn are part of every checkpoint.

Paper: J. X. Dou et al. 2022, *Sampling Through the Lens of Sequential Decision Making*, arXiv:2208.08056.

*Deviations*: the paper's bins are of distance and all of a batch's samples follow the policy's distribution; here bins
are of place, as distances of different queries do not compare, and the lists of a turn draw from one bin, so that a
reward belongs to a bin. Over turns a bin is drawn from as often as the policy says.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from lorank.data.collection import Split
from lorank.errors import UsageError
from lorank.ranking.dense_index.search import search_blocks
from lorank.registration import catalogued
from lorank.training.hooks.hook import Hook, Progress
from lorank.training.lists.binned import BINS, BinnedLists
from lorank.training.lists.lists import CandidateLists
from lorank.training.lists.negatives import query_vectors

EVERY = 4
"""The steps of a turn."""
JUDGED, DEPTH = 64, 100
"""The most dev queries that a reward looks at, and how deep."""
RATE, MEMORY = 0.3, 20
"""eta, and over how many turns the baseline and the deviation of rewards run."""


class BinPolicy:
    """A softmax over bins that learns by REINFORCE.

    Args:
        bins: The number of bins, 1 or more.
        rate: eta, from 0; at 0 it stays uniform.
    """

    def __init__(self, bins: int = BINS, rate: float = RATE) -> None:
        self.theta, self.rate = np.zeros(bins), rate
        self.mean, self.variance, self.count = 0.0, 0.0, 0

    @property
    def chances(self) -> np.ndarray:
        """The chance of each bin, float64 [bins]."""
        weight = np.exp(self.theta - self.theta.max())
        return np.asarray(weight / weight.sum())

    def choose(self, rng: np.random.Generator) -> int:
        """Return the bin of a turn."""
        return int(rng.choice(len(self.theta), p=self.chances))

    def learn(self, chosen: int, reward: float) -> None:
        """Step by the reward of a bin; the first rewards only say what is usual."""
        self.count += 1
        share = 1 / min(self.count, MEMORY)
        apart = reward - self.mean
        if self.count > 2 and self.variance > 0:
            advantage = float(np.clip(apart / self.variance**0.5, -3, 3))
            self.theta = self.theta + self.rate * advantage * (np.eye(len(self.theta))[chosen] - self.chances)
        self.mean += share * apart
        self.variance += share * (apart**2 - self.variance)


@catalogued(
    "asr-sampling",
    area="active",
    title="Sampling Through the Lens of Sequential Decision Making",
    reach="lorank train --negatives-from adaptive, or lists.negatives_from in a recipe",
)
class AdaptiveSampling(Hook):
    """Gives the lists their bin, and the policy its reward.

    Args:
        lists: The lists.
        measure: What dev retrieval is worth now.
        seed: The seed of the policy's choices.
        policy: The policy; None makes one.
    """

    def __init__(
        self, lists: BinnedLists, measure: Callable[[], float], seed: int, policy: BinPolicy | None = None
    ) -> None:
        self.lists, self.measure, self.seed = lists, measure, seed
        self.policy, self.turns, self.then = policy or BinPolicy(), 0, 0.0

    def before_step(self, progress: Progress, optimizer: torch.optim.Optimizer) -> None:
        """At the end of a turn, learn from it and choose the next one's bin."""
        if progress.step % EVERY:
            return
        now = self.measure()
        if self.turns:
            self.policy.learn(self.lists.turn, now - self.then)
        self.lists.turn = self.policy.choose(np.random.default_rng([self.seed, 17, self.turns]))
        self.turns, self.then = self.turns + 1, now

    def state(self) -> dict[str, Tensor]:
        """Return the policy, the turn and what dev was worth at its beginning."""
        own = [self.policy.mean, self.policy.variance, self.policy.count, self.turns, self.lists.turn, self.then]
        return {"theta": torch.tensor(self.policy.theta), "numbers": torch.tensor(own, dtype=torch.float64)}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take them back."""
        self.policy.theta = state["theta"].double().numpy().copy()
        mean, variance, count, turns, turn, then = state["numbers"].tolist()
        self.policy.mean, self.policy.variance, self.policy.count = mean, variance, int(count)
        self.turns, self.lists.turn, self.then = int(turns), int(turn), then


def make_adaptive_sampling(lists: CandidateLists, dev: Split, seed: int) -> AdaptiveSampling | None:
    """Return the hook of lists that draw from bins, None for any others.

    Raises:
        UsageError: Where dev has no query with a relevant document, or several processes train.
    """
    if not isinstance(lists, BinnedLists):
        return None
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        raise UsageError("adaptive negatives learn from one process's turns; train them in one process")
    position = lists.collection.position
    relevant = {q: {position[d] for d, grade in dev.qrels.get(q, {}).items() if grade > 0} for q in dev.queries}
    asked = [query for query, documents in relevant.items() if documents][:JUDGED]
    if not asked:
        raise UsageError("lists.negatives_from=adaptive learns from dev, which has no query with a relevant document")
    at = np.array([lists.query_at[query] for query in asked])

    def measure() -> float:
        assert lists.encoder is not None
        assert lists.inputs is not None
        assert lists.inputs.vectors is not None
        found = search_blocks(query_vectors(lists.encoder, lists.inputs, at), [lists.inputs.vectors], DEPTH)
        values = []
        for query, (documents, _) in zip(asked, found, strict=True):
            right = np.flatnonzero([document in relevant[query] for document in documents.tolist()])
            values.append(1 / (1 + right[0]) if len(right) else 0.0)
        return float(np.mean(values))

    return AdaptiveSampling(lists, measure, seed)
