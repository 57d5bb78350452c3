r"""A2FM: a router of modes (instant, reasoning, agentic) that learns from forced and from free samples of each query.

    route   W goes up  \log \pi(mode of the highest quality | q),          \pi(. | q) = softmax(W x_q)
    align   a group of each query: ``forced`` samples of every mode, and ``free`` ones drawn from \pi(. | q)
            r = quality - price * cost,    A = (r - mean of the group) / deviation of the group
            W goes up  \sum_free A \log \pi(mode | q)

Forced samples hold every mode equally often, so that a group compares all modes even where the router always takes one:
then its free samples alone would all have the same reward, and it would learn nothing. They are the baseline; what the
router is credited with is its own draws.

Paper: Q. Chen et al. 2025, *A^2FM: An Adaptive Agent Foundation Model for Tool-Aware Hybrid Reasoning*,
arXiv:2510.12838.

*Deviations*: the paper trains one language model that names its mode and then works in it. Here what each mode gave is
in the table, and the router is a linear policy over features of the query; aligning the modes themselves is left to
whoever runs them. The paper's cost is a penalty for another mode than instant where instant is right; here it is the
price times what the mode costs. Arms may have any names and be any number.
"""

import numpy as np

from lorank.errors import UsageError
from lorank.ranking.routing.linear import LinearRouter
from lorank.ranking.routing.router import router
from lorank.ranking.routing.scaling import Scaling
from lorank.ranking.routing.table import RoutingTable
from lorank.registration import catalogued


@router("a2fm")
@catalogued(
    "a2fm",
    area="route",
    title="A^2FM: An Adaptive Agent Foundation Model for Tool-Aware Hybrid Reasoning",
    reach="lorank route train --method a2fm; routing trains no ranker of documents, so it has no recipe",
)
class ModeRouter(LinearRouter):
    """A policy over modes that is first taught the best mode, and then learns by its own draws what modes are worth.

    Args:
        forced: The samples of every mode in a group, 1 or more.
        free: The samples of a group that the policy draws, 1 or more.
        warmup: The steps of the supervised stage, 0 or more.
        rounds: The groups of every query, 1 or more.
        rate: The size of a step up, above 0.
    """

    def __init__(self, forced: int = 1, free: int = 3, warmup: int = 50, rounds: int = 300, rate: float = 1.0) -> None:
        if min(forced, free, rounds) < 1 or warmup < 0 or not rate > 0:
            raise UsageError(
                f"forced={forced}, free={free}, warmup={warmup}, rounds={rounds}, rate={rate}: give 1 or more samples "
                "and rounds, a warm-up from 0, and a rate above 0"
            )
        self.forced, self.free, self.warmup, self.rounds, self.rate = forced, free, warmup, rounds, rate

    def fit(self, table: RoutingTable, price: float, rng: np.random.Generator) -> None:
        """Learn the modes of highest quality, then what they are worth at the price, group by group."""
        self.scaling, self.price = Scaling.of(table.features), price
        contexts, rewards = self.scaling(table.features), table.utility(price)
        self.weights = np.zeros((len(table.arms), contexts.shape[1]))
        best = (table.quality >= table.quality.max(1, keepdims=True) - 1e-12).astype(float)
        best /= best.sum(1, keepdims=True)
        for _ in range(self.warmup):
            self._step(contexts, best - self.chances(contexts))
        for _ in range(self.rounds):
            picks, advantage = self.sample_groups(self.chances(contexts), rewards, rng)
            taken = np.stack([(advantage * (picks == mode)).sum(1) for mode in range(len(table.arms))], 1)
            self._step(contexts, (taken - advantage.sum(1, keepdims=True) * self.chances(contexts)) / self.free)

    def sample_groups(
        self, chances: np.ndarray, rewards: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the modes that were drawn freely, int64 [queries, free], and their advantages in their groups.

        Args:
            chances: The policy, float64 [queries, modes].
            rewards: What each mode is worth, float64 [queries, modes].
            rng: The source of the draws.
        """
        ends = chances.cumsum(1)
        drawn = rng.random((len(chances), self.free, 1)) * ends[:, None, -1:]
        picks = np.minimum((drawn >= ends[:, None]).sum(2), chances.shape[1] - 1)
        own = np.take_along_axis(rewards, picks, 1)
        group = np.concatenate([np.repeat(rewards, self.forced, 1), own], 1)
        spread = group.std(1, keepdims=True)
        return picks, (own - group.mean(1, keepdims=True)) / np.where(spread > 1e-9, spread, np.inf)

    def chances(self, contexts: np.ndarray) -> np.ndarray:
        """Return the chance of each mode, float64 [queries, modes], from scaled features."""
        scores = contexts @ self.weights.T
        weight = np.exp(scores - scores.max(1, keepdims=True))
        return np.asarray(weight / weight.sum(1, keepdims=True))

    def _step(self, contexts: np.ndarray, pull: np.ndarray) -> None:
        self.weights += self.rate * pull.T @ contexts / len(contexts)
