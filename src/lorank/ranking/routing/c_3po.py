r"""C-3PO: three roles between a retriever and a language model, which learn from trees of rollouts.

    role 1 decides whether to retrieve, role 2 by which query or engine, role 3 which documents are shown
    credit(v) = mean over the leaves below v of quality - price * cost
    each role goes up  E[(credit(child) - mean credit of the node's other children) \log \pi(child | node, query)]

An arm is a path through the roles: ``none`` retrieves nothing, and ``rewritten/top5`` asks by a rewritten query and
shows five documents; an arm with one part, such as ``bm25``, leaves its third role no choice. A rollout draws
``branches`` children of every node that it reaches, so that a decision is judged by all that can follow it. Retriever
and language model are never called: what they gave for each path is in the table, and they stay as they are.

Paper: Chen et al. 2025, *C-3PO: Compact Plug-and-Play Proxy Optimization to Achieve Human-like Retrieval-Augmented
Generation*, arXiv:2502.06205.

*Deviations*: the training code is not public; that a node's credit is the plain mean of its leaves is what the paper
says. The proxy is a linear policy per node over features of the query, in the place of a small language model; queries
are chosen among those that were written, and documents among the cuts that were tried. Children are drawn with
replacement.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lorank.errors import UsageError
from lorank.ranking.routing.router import Router, router
from lorank.ranking.routing.scaling import Scaling
from lorank.ranking.routing.table import RoutingTable
from lorank.registration import catalogued

NONE = "none"
ROLES = ("decide", "query", "documents")
"""The role of a node, by its depth."""


@dataclass(frozen=True)
class Visit:
    """What a rollout did at a node.

    For the queries ``rows`` int64 [n] the children ``picks`` int64 [n, branches] were drawn; ``credit`` [n, branches]
    is the mean of the leaves that lie below each draw, and ``leaves`` [n, branches] their number.
    """

    node: int
    rows: np.ndarray
    picks: np.ndarray
    credit: np.ndarray
    leaves: np.ndarray


@router("c-3po")
@catalogued(
    "c-3po",
    area="route",
    title="C-3PO: Compact Plug-and-Play Proxy Optimization to Achieve Human-like Retrieval-Augmented Generation",
    reach="lorank route train --method c-3po; routing trains no ranker of documents, so it has no recipe",
)
class ThreeRoles(Router):
    """Three policies in a row, each of which learns from the mean of what followed its decisions.

    Args:
        branches: The children that a rollout draws at each node, 2 or more.
        rounds: The rollouts of every query, 1 or more.
        rate: The size of a step up, above 0.
    """

    def __init__(self, branches: int = 2, rounds: int = 200, rate: float = 2.0) -> None:
        if branches < 2 or rounds < 1 or not rate > 0:
            raise UsageError(f"branches={branches}, rounds={rounds}, rate={rate}: give 2 and 1 or more, and above 0")
        self.branches, self.rounds, self.rate = branches, rounds, rate

    def fit(self, table: RoutingTable, price: float, rng: np.random.Generator) -> None:
        """Roll out a tree of every query and let each role step, ``rounds`` times; the price is part of it."""
        self.scaling, self.price = Scaling.of(table.features), price
        contexts, utility = self.scaling(table.features), table.utility(price)
        self.children = tree_of(table.arms)
        self.weights = [np.zeros((len(each), contexts.shape[1])) for each in self.children]
        spread = max(float(utility.std()), 1e-12)
        for _ in range(self.rounds):
            for visit in self.roll_out(contexts, utility, rng):
                self.weights[visit.node] += self.rate / spread * self._slope(visit, contexts)

    def roll_out(self, contexts: np.ndarray, utility: np.ndarray, rng: np.random.Generator) -> list[Visit]:
        """Return the visits of one rollout of every query.

        Args:
            contexts: The scaled features [queries, features].
            utility: What each arm gives less what it costs, [queries, arms].
            rng: The source of the draws.
        """
        visits: list[Visit] = []
        self._roll(0, np.arange(len(contexts)), contexts, utility, rng, visits)
        return visits

    def _roll(
        self,
        node: int,
        rows: np.ndarray,
        contexts: np.ndarray,
        utility: np.ndarray,
        rng: np.random.Generator,
        visits: list[Visit],
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the sum [n] and the number [n] of the leaves below a node, for the queries ``rows``."""
        ends = self._chances(node, contexts[rows]).cumsum(1)
        drawn = rng.random((len(rows), self.branches, 1)) * ends[:, None, -1:]
        picks = np.minimum((drawn >= ends[:, None]).sum(2), len(self.children[node]) - 1)
        sums, leaves = np.zeros(picks.shape), np.ones(picks.shape, np.int64)
        for child, (below, arm) in enumerate(self.children[node]):
            at = np.nonzero(picks == child)
            if arm >= 0:
                sums[at] = utility[rows[at[0]], arm]
            elif len(at[0]):
                sums[at], leaves[at] = self._roll(below, rows[at[0]], contexts, utility, rng, visits)
        visits.append(Visit(node, rows, picks, sums / leaves, leaves))
        return sums.sum(1), leaves.sum(1)

    def _slope(self, visit: Visit, contexts: np.ndarray) -> np.ndarray:
        """Return the mean of (credit - that of the other draws) grad log pi, float64 [children, features]."""
        context, count = contexts[visit.rows], self.branches
        ahead = (visit.credit - visit.credit.mean(1, keepdims=True)) * count / (count - 1)
        chances = self._chances(visit.node, context)
        taken = np.stack([(ahead * (visit.picks == c)).sum(1) for c in range(chances.shape[1])], 1)
        pull = taken - ahead.sum(1, keepdims=True) * chances
        return np.asarray(pull.T @ context / (len(context) * count))

    def _chances(self, node: int, contexts: np.ndarray) -> np.ndarray:
        scores = contexts @ self.weights[node].T
        weight = np.exp(scores - scores.max(1, keepdims=True))
        return np.asarray(weight / weight.sum(1, keepdims=True))

    def choose(self, features: np.ndarray, price: float) -> np.ndarray:
        """Return the arm to which the likeliest choices lead; the price must be the one that was learned with."""
        if abs(price - self.price) > 1e-9:
            raise UsageError(f"this router learned with price {self.price:g}, not {price:g}; train it with that price")
        contexts, chosen = self.scaling(features), np.full(len(features), -1, np.int64)
        at = np.zeros(len(features), np.int64)
        for _ in ROLES:
            for node in np.unique(at[chosen < 0]).tolist():
                rows = np.flatnonzero((at == node) & (chosen < 0))
                taken = np.array(self.children[node])[self._chances(node, contexts[rows]).argmax(1)]
                at[rows], chosen[rows] = taken[:, 0], taken[:, 1]
        return chosen

    def state(self) -> dict[str, np.ndarray]:
        """Return the tree, the weights of all nodes, the scaling and the price."""
        edges = [(node, *child) for node, each in enumerate(self.children) for child in each]
        return {
            "edges": np.array(edges, np.int64),
            "weights": np.concatenate(self.weights),
            "mean": self.scaling.mean,
            "std": self.scaling.std,
            "price": np.array([self.price]),
        }

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        """Restore what ``state`` gave."""
        self.scaling, self.price = Scaling(state["mean"], state["std"]), float(state["price"][0])
        edges = state["edges"]
        nodes = range(int(edges[:, 0].max()) + 1)
        self.children = [[(int(below), int(arm)) for _, below, arm in edges[edges[:, 0] == node]] for node in nodes]
        self.weights = [state["weights"][edges[:, 0] == node] for node in nodes]


def tree_of(arms: Sequence[str]) -> list[list[tuple[int, int]]]:
    """Return the children of each node: the number of a node, or -1, and of an arm, or -1. Node 0 decides.

    Args:
        arms: The names of the arms: ``none``, ENGINE, or ENGINE/DOCUMENTS.

    Raises:
        UsageError: For an arm with more parts, or with an empty one.

    >>> tree_of(["none", "bm25", "dense/top3", "dense/top9"])
    [[(-1, 0), (1, -1)], [(-1, 1), (2, -1)], [(-1, 2), (-1, 3)]]
    """
    children: list[list[tuple[int, int]]] = [[]]
    known: dict[tuple[str, ...], int] = {(): 0}
    for number, arm in enumerate(arms):
        parts = (arm,) if arm == NONE else ("retrieve", *arm.split("/"))
        if len(parts) > len(ROLES) or not all(parts):
            raise UsageError(f"arm {arm!r} is not none, ENGINE or ENGINE/DOCUMENTS, which are what three roles choose")
        for depth in range(1, len(parts)):
            path = parts[:depth]
            if path not in known:
                known[path] = len(children)
                children[known[path[:-1]]].append((known[path], -1))
                children.append([])
        children[known[parts[:-1]]].append((-1, number))
    return children
