r"""MBA-RAG: an arm's expected reward from the query, learned by pulling one arm per query.

    r = quality - price * cost,   \hat{r}_a(q) = w_a^T x_q,   a = argmax \hat{r}, or with probability \epsilon any arm;
    w_a minimises the squared error on the queries for which a was pulled

Paper: Tang et al. 2025, *MBA-RAG: a Bandit Approach for Adaptive Retrieval-Augmented Generation through Question
Complexity*, arXiv:2412.01572.

*Deviations*: the encoder is not trained: x_q are features of the query, and the regression is exact (ridge). The
published environment has rewards of 1, 0.9 and 1 - steps / 10 where the answer is right, which ``price`` states.
``policy`` may be any contextual bandit; with ``ridge`` exploration goes by uncertainty (LinUCB).
"""

import numpy as np

from lorank.errors import UsageError
from lorank.ranking.routing.bandits import Ridge, make_bandit, play
from lorank.ranking.routing.linear import LinearRouter
from lorank.ranking.routing.router import router
from lorank.ranking.routing.scaling import Scaling
from lorank.ranking.routing.table import RoutingTable
from lorank.registration import catalogued

POLICIES = ("epsilon-ridge", "ridge")


@router("mba-rag")
@catalogued(
    "mba-rag",
    area="route",
    title="MBA-RAG: a Bandit Approach for Adaptive Retrieval-Augmented Generation through Question Complexity",
    reach="lorank route train --method mba-rag; routing trains no ranker of documents, so it has no recipe",
)
class BanditRouter(LinearRouter):
    """A contextual bandit whose best arm is chosen once it has learned.

    Args:
        policy: How it explores, ``epsilon-ridge`` or ``ridge``.
        width: epsilon, or the width of the bound; None is the policy's own.
        epochs: How often the queries are gone through, 1 or more.
    """

    def __init__(self, policy: str = "epsilon-ridge", width: float | None = None, epochs: int = 5) -> None:
        if policy not in POLICIES or epochs < 1:
            raise UsageError(f"policy={policy!r}, epochs={epochs}: choose one of {', '.join(POLICIES)}, and 1 or more")
        self.policy, self.width, self.epochs = policy, width, epochs
        self.regret = np.zeros(0)

    def fit(self, table: RoutingTable, price: float, rng: np.random.Generator) -> None:
        """Pull one arm per query, ``epochs`` times over; the price is part of what is learned."""
        self.scaling = Scaling.of(table.features)
        contexts, rewards = self.scaling(table.features), table.utility(price)
        bandit = make_bandit(self.policy, len(table.arms), contexts.shape[1], self.width)
        assert isinstance(bandit, Ridge)
        regrets = []
        for _ in range(self.epochs):
            order = rng.permutation(len(table))
            regrets.append(play(bandit, contexts[order], rewards[order], rng)["regret"])
        self.weights, self.price, self.regret = bandit.weights, price, np.concatenate(regrets)
