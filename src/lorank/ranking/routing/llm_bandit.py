r"""LLM Bandit: arms are vectors, so that a new one is routed to after it was tried on a few probe queries.

    identity of arm a:   v_a = (1, U^T (s_a - \bar{s}))   with s_a its quality on the probe queries and U the leading
                         right singular vectors of the arms' qualities there
    quality:             \hat{s}(q, a) = x_q^T M v_a,   M by ridge regression over all queries and arms
    choice under w:      argmax_a  w \hat{s}(q, a) - (1 - w) c_a

Paper: Li 2025, *LLM Bandit: Cost-Efficient LLM Generation via Preference-Conditioned Dynamic Routing*,
arXiv:2502.02743.

*Deviations*: the paper trains identities by item response theory and the policy by PPO; here identities are those of a
singular value decomposition and the preference enters the choice as it stands, so that its front is exact. The price
p of other routers is w = 1 / (1 + p), with which the choice is that of quality - p * cost.
"""

import numpy as np

from lorank.errors import UsageError
from lorank.ranking.routing.router import Router, router
from lorank.ranking.routing.scaling import Scaling
from lorank.ranking.routing.table import RoutingTable
from lorank.registration import catalogued


@router("llm-bandit")
@catalogued(
    "llm-bandit",
    area="route",
    title="LLM Bandit: Cost-Efficient LLM Generation via Preference-Conditioned Dynamic Routing",
    reach="lorank route train --method llm-bandit; routing trains no ranker of documents, so it has no recipe",
)
class PreferenceRouter(Router):
    """A bilinear model of quality over queries and arms, and a preference between quality and cost.

    Args:
        probes: How many queries tell an arm from another, 1 or more; all where there are fewer.
        rank: The numbers of an arm's identity, 1 or more.
        penalty: The ridge penalty, above 0.
    """

    def __init__(self, probes: int = 50, rank: int = 4, penalty: float = 1.0) -> None:
        if probes < 1 or rank < 1 or not penalty > 0:
            raise UsageError(f"probes={probes}, rank={rank}, penalty={penalty}: give 1 or more, and a penalty above 0")
        self.probes, self.rank, self.penalty = probes, rank, penalty

    def fit(self, table: RoutingTable, price: float, rng: np.random.Generator) -> None:
        """Learn identities and qualities; the price is given when arms are chosen."""
        self.scaling = Scaling.of(table.features)
        count = min(self.probes, len(table))
        self.probed = np.sort(rng.choice(len(table), count, replace=False))
        scores = table.quality[self.probed].T
        self.level = scores.mean(0)
        _, _, directions = np.linalg.svd(scores - self.level, full_matrices=False)
        self.directions = directions[: min(self.rank, len(directions))]
        self.vectors = self.identity(scores)
        self.cost = table.costs.mean(0)
        x = self.scaling(table.features)
        rows = np.einsum("qi,aj->qaij", x, self.vectors).reshape(len(table) * len(table.arms), -1)
        gram = rows.T @ rows + self.penalty * np.eye(rows.shape[1])
        self.matrix = np.linalg.solve(gram, rows.T @ table.quality.reshape(-1)).reshape(x.shape[1], -1)

    def identity(self, scores: np.ndarray) -> np.ndarray:
        """Return the identities [arms, rank + 1] of arms from their qualities [arms, probes] on the probe queries."""
        found = (scores - self.level) @ self.directions.T
        return np.concatenate([np.ones((len(found), 1)), found], 1)

    def add_arm(self, scores: np.ndarray, cost: float) -> int:
        """Add an arm by its qualities [probes] on the probe queries and its cost, and return its number."""
        if scores.shape != self.level.shape:
            raise UsageError(f"an arm is added by its quality on the {len(self.level)} probe queries")
        self.vectors = np.concatenate([self.vectors, self.identity(scores[None])])
        self.cost = np.append(self.cost, cost)
        return len(self.cost) - 1

    def choose(self, features: np.ndarray, price: float) -> np.ndarray:
        """Return the arm of the highest expected quality - price * cost; of an infinite price the cheapest."""
        if np.isinf(price):
            return np.full(len(features), int(self.cost.argmin()))
        return np.asarray((self.expected(features) - price * self.cost).argmax(1))

    def choose_by(self, features: np.ndarray, preference: float) -> np.ndarray:
        """Return the arm of the highest w * quality - (1 - w) * cost, for a ``preference`` w from 0 to 1."""
        if not 0 <= preference <= 1:
            raise UsageError(f"preference is {preference:g}; give a number from 0 (cheapest) to 1 (best)")
        return self.choose(features, np.inf if preference == 0 else (1 - preference) / preference)

    def expected(self, features: np.ndarray) -> np.ndarray:
        """Return the expected quality [queries, arms]."""
        return np.asarray(self.scaling(features) @ self.matrix @ self.vectors.T)

    def state(self) -> dict[str, np.ndarray]:
        """Return the identities, the regression, the probes and the costs."""
        names = ("probed", "level", "directions", "vectors", "cost", "matrix")
        return {name: getattr(self, name) for name in names} | {"mean": self.scaling.mean, "std": self.scaling.std}

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        """Restore what ``state`` gave."""
        self.scaling = Scaling(state["mean"], state["std"])
        for name in ("probed", "level", "directions", "vectors", "cost", "matrix"):
            setattr(self, name, state[name])
