r"""Expertise trees: regions of queries, in each of which arms are weighed as experts, split where that helps.

    leaf:    w_a ~ exp(\eta \sum_q u_{q a}),   \eta = \sqrt{8 \log(arms) / n}   (Hedge)
    split:   at the feature and the threshold with the largest
             gain = max_a \sum_{left} u + max_a \sum_{right} u - max_a \sum u,
             where gain > c \sqrt{ n \log(arms) }

Queries come one by one; a leaf looks for a split whenever its number of queries has doubled, and once at the end. With
one leaf this is expert advice over all queries.

Paper: Abels, Lenaerts, Trianni, Nowé 2023, *Expertise Trees Resolve Knowledge Limitations in Collective Decision-
Making*, arXiv:2305.01063.

*Deviations*: the utility of every arm is known for every query of the table, so leaves learn from all of them
(experts) and not from the one that was pulled (bandits). Thresholds are quantiles.
"""

from dataclasses import dataclass, field

import numpy as np

from lorank.errors import UsageError
from lorank.ranking.routing.router import Router, router
from lorank.ranking.routing.table import RoutingTable
from lorank.registration import catalogued

QUANTILES = np.linspace(0.1, 0.9, 9)


@dataclass
class Node:
    """A region: its split, or the queries that have come to it while it is a leaf."""

    rows: list[int] = field(default_factory=list)
    looked: int = 0
    feature: int = -1
    threshold: float = 0.0
    children: tuple[int, int] = (-1, -1)


@router("expertise-trees")
@catalogued(
    "expertise-trees",
    area="route",
    title="Expertise Trees Resolve Knowledge Limitations in Collective Decision-Making",
    reach="lorank route train --method expertise-trees; routing trains no ranker of documents, so it has no recipe",
)
class ExpertiseTree(Router):
    """An online decision tree over the features of queries, whose leaves weigh the arms.

    Args:
        caution: The factor c of the gain that a split needs, 0 or more; infinity never splits.
        least: The queries of a leaf before it looks for a split, 2 or more.
        most: The most leaves, 1 or more.
    """

    def __init__(self, caution: float = 0.15, least: int = 20, most: int = 16) -> None:
        if not caution >= 0 or least < 2 or most < 1:
            raise UsageError(f"caution={caution}, least={least}, most={most}: give 0, 2 and 1 or more")
        self.caution, self.least, self.most = caution, least, most

    def fit(self, table: RoutingTable, price: float, rng: np.random.Generator) -> None:
        """Let the queries come in a random order; the price is part of what is learned."""
        self.price, utility = price, table.utility(price)
        self.nodes = [Node()]
        self.regret = np.zeros(len(table))
        for number, row in enumerate(rng.permutation(len(table)).tolist()):
            leaf = self.nodes[self._leaf(table.features[row])]
            weights = _hedge(utility[leaf.rows], utility.shape[1])
            self.regret[number] = utility[row].max() - weights @ utility[row]
            leaf.rows.append(row)
            leaves = (len(self.nodes) + 1) // 2
            if len(leaf.rows) >= max(self.least, 2 * leaf.looked) and leaves < self.most:
                self._split(leaf, table.features, utility)
        for leaf in self.nodes:  # which grows: a last look at each leaf, those of new splits too
            if leaf.feature < 0 and len(leaf.rows) >= self.least and (len(self.nodes) + 1) // 2 < self.most:
                self._split(leaf, table.features, utility)
        self._finish(utility)

    def _leaf(self, features: np.ndarray) -> int:
        at = 0
        while self.nodes[at].feature >= 0:
            node = self.nodes[at]
            at = node.children[int(features[node.feature] > node.threshold)]
        return at

    def _split(self, leaf: Node, features: np.ndarray, utility: np.ndarray) -> None:
        leaf.looked, own, gains = len(leaf.rows), features[leaf.rows], utility[leaf.rows]
        whole, best = gains.sum(0).max(), (0.0, -1, 0.0)
        for feature in range(own.shape[1]):
            for threshold in np.unique(np.quantile(own[:, feature], QUANTILES)):
                right = own[:, feature] > threshold
                if self.least // 4 <= right.sum() <= len(right) - self.least // 4:
                    gain = gains[right].sum(0).max() + gains[~right].sum(0).max() - whole
                    best = max(best, (float(gain), feature, float(threshold)))
        if best[0] <= self.caution * np.sqrt(len(own) * np.log(max(2, utility.shape[1]))) or best[1] < 0:
            return
        _, leaf.feature, leaf.threshold = best
        leaf.children = (len(self.nodes), len(self.nodes) + 1)
        for side in (False, True):
            kept = [row for row in leaf.rows if bool(features[row, leaf.feature] > leaf.threshold) is side]
            self.nodes.append(Node(kept, len(kept)))
        leaf.rows = []

    def _finish(self, utility: np.ndarray) -> None:
        """Keep the tree as arrays; a leaf that nobody came to takes the arm that is best overall."""
        overall = int(utility.sum(0).argmax())
        self.split = np.array([[n.feature, *n.children] for n in self.nodes], np.int64)
        self.thresholds = np.array([n.threshold for n in self.nodes])
        self.arm = np.array([int(utility[n.rows].sum(0).argmax()) if n.rows else overall for n in self.nodes], np.int64)

    @property
    def leaves(self) -> int:
        """The number of regions."""
        return int((self.split[:, 0] < 0).sum())

    def choose(self, features: np.ndarray, price: float) -> np.ndarray:
        """Return the best arm of each query's region; the price must be the one that was learned with."""
        if abs(price - self.price) > 1e-9:
            raise UsageError(f"this router learned with price {self.price:g}, not {price:g}; train it with that price")
        at = np.zeros(len(features), np.int64)
        for _ in range(len(self.split)):
            inner = self.split[at, 0] >= 0
            if not inner.any():
                break
            value = features[np.arange(len(features)), np.maximum(self.split[at, 0], 0)]
            side = (value > self.thresholds[at]).astype(np.int64)
            at = np.where(inner, self.split[at, 1 + side], at)
        return np.asarray(self.arm[at])

    def state(self) -> dict[str, np.ndarray]:
        """Return the tree and the price."""
        price = np.array([self.price])
        return {"split": self.split, "thresholds": self.thresholds, "arm": self.arm, "price": price}

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        """Restore what ``state`` gave."""
        self.split, self.thresholds, self.arm = state["split"], state["thresholds"], state["arm"]
        self.price = float(state["price"][0])


def _hedge(utility: np.ndarray, arms: int) -> np.ndarray:
    """Return the weights of experts after the utilities [n, arms] that came."""
    if not len(utility):
        return np.full(arms, 1 / arms)
    total = np.sqrt(8 * np.log(max(2, arms)) / len(utility)) * utility.sum(0)
    weights = np.exp(total - total.max())
    return np.asarray(weights / weights.sum())
