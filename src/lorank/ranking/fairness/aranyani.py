r"""Aranyani: an online forest of oblique soft trees that stays fair without keeping what it saw.

A node n of a tree routes by g_n(x) = \sigma(w_n x + b_n); a leaf has a value; f(x) = \sum_leaf p_leaf(x) v_leaf, the
forest is the mean. For each node and group the running mean of g_n is kept, \bar g_n^0 and \bar g_n^1. Demographic
parity of all decisions bounds that of the prediction, so each step adds to the gradient of the loss

    \lambda \nabla H_\delta(\bar g_n^0 - \bar g_n^1),    \nabla of g_n at x alone, H_\delta Huber's function,

which needs the aggregates, not the data: memory does not grow with the stream.

Paper: S. Basu Roy Chowdhury et al., Enhancing Group Fairness in Online Settings Using Oblique Decision Forests, ICLR
2024.
"""

from dataclasses import dataclass, field

import numpy as np
from scipy.special import expit

from lorank.catalogue import catalogued
from lorank.errors import UsageError


@catalogued(
    "aranyani",
    area="fair",
    title="Enhancing Group Fairness in Online Settings Using Oblique Decision Forests",
    reach="Python alone: it learns from a stream, one row at a time, where a run reads lists",
)
@dataclass
class Aranyani:
    """An online group-fair scorer of feature rows, for labels 0 and 1 and a sensitive attribute 0 or 1.

    Args:
        features: The number of features.
        rng: It draws the first weights.
        trees: The number of trees.
        depth: The depth of each, 1 or more.
        fairness: lambda, 0 or above.
        lr: The step size, above 0.
        delta: Of Huber's function, above 0.
    """

    features: int
    rng: np.random.Generator = field(repr=False)
    trees: int = 3
    depth: int = 3
    fairness: float = 0.1
    lr: float = 0.1
    delta: float = 0.01

    def __post_init__(self) -> None:
        if min(self.features, self.trees, self.depth) < 1 or self.fairness < 0 or not (self.lr > 0 and self.delta > 0):
            raise UsageError("features, trees and depth are 1 or more, fairness 0 or above, lr and delta above 0")
        nodes, leaves = 2**self.depth - 1, 2**self.depth
        self.weights = 0.1 * self.rng.normal(size=(self.trees, nodes, self.features))
        self.bias = np.zeros((self.trees, nodes))
        self.values = 0.1 * self.rng.normal(size=(self.trees, leaves))
        self.means = np.zeros((2, self.trees, nodes))
        self.counts = np.zeros(2, np.int64)
        self._routes = np.array([[self._turn(leaf, level) for level in range(self.depth)] for leaf in range(leaves)])
        self._nodes = np.array([[self._node(leaf, level) for level in range(self.depth)] for leaf in range(leaves)])

    def _turn(self, leaf: int, level: int) -> int:
        return leaf >> (self.depth - 1 - level) & 1

    def _node(self, leaf: int, level: int) -> int:
        return int(2**level - 1 + (leaf >> (self.depth - level)))

    def route(self, row: np.ndarray) -> np.ndarray:
        """Return g, [trees, nodes], the probability that each node sends a row to its right."""
        return np.asarray(expit(self.weights @ row + self.bias))

    def score(self, rows: np.ndarray) -> np.ndarray:
        """Return the probability of label 1 of each row, float64 [n]."""
        return np.array([float(expit(self._output(self.route(row))[0].mean())) for row in np.atleast_2d(rows)])

    def _output(self, g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the output of each tree, and the probability of each of its leaves."""
        taken = np.where(self._routes == 1, g[:, self._nodes], 1 - g[:, self._nodes])
        leaves = taken.prod(-1)
        return (leaves * self.values).sum(-1), leaves

    def update(self, row: np.ndarray, label: int, sensitive: int) -> None:
        """Learn from one row, its label and its sensitive attribute, and forget it."""
        g = self.route(row)
        self.counts[sensitive] += 1
        self.means[sensitive] += (g - self.means[sensitive]) / self.counts[sensitive]
        outputs, leaves = self._output(g)
        error = (float(expit(outputs.mean())) - label) / self.trees
        slope = np.zeros_like(g)  # of the output in g
        for level in range(self.depth):
            nodes, turns = self._nodes[:, level], self._routes[:, level]
            own = np.where(turns == 1, g[:, nodes], 1 - g[:, nodes])
            part = np.where(turns == 1, 1.0, -1.0) * leaves / np.maximum(own, 1e-12) * self.values
            for tree in range(self.trees):
                np.add.at(slope[tree], nodes, part[tree])
        gradient = error * slope + self.fairness * self._fair_slope(sensitive)
        through = gradient * g * (1 - g)
        self.weights -= self.lr * through[..., None] * row
        self.bias -= self.lr * through
        self.values -= self.lr * error * leaves

    def _fair_slope(self, sensitive: int) -> np.ndarray:
        """Return the slope of Huber's function of the groups' difference in the node's g of this row's group."""
        if not self.counts.all():
            return np.zeros_like(self.means[0])
        gap = self.means[0] - self.means[1]
        huber = np.clip(gap / self.delta, -1, 1)
        return np.asarray(huber if sensitive == 0 else -huber)

    def parity_gap(self, rows: np.ndarray, sensitive: np.ndarray) -> float:
        """Return the difference of the mean scores of both groups, 0 or above."""
        scores = self.score(rows)
        return float(abs(scores[sensitive == 1].mean() - scores[sensitive == 0].mean()))
