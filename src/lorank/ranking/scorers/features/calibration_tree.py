r"""A small regression tree that turns what readers did after a click into grades, anchored on human ones.

    split minimises \sum_{left} (y - \bar y)^2 + \sum_{right} (y - \bar y)^2,    prediction = mean grade of the leaf

Rows are what a log knows of a result (clicked, dwell, skipped, ...), grades are human judgments of a sample; the tree
then grades the whole log, in place of the raw click. Leaves hold at least ``leaf`` judged rows, so that no grade rests
on a few.

Paper: L. Zou et al., Pre-trained Language Model based Ranking in Baidu Search, KDD 2021, section 4.2.
"""

from dataclasses import dataclass, field
from typing import Self

import numpy as np

from lorank.errors import UsageError
from lorank.ranking.scorers.features.rows import checked_rows


@dataclass
class CalibrationTree:
    """A tree of at most ``depth`` questions with at least ``leaf`` judged rows a leaf.

    >>> rows = np.repeat([[0.0], [1.0]], 30, axis=0)
    >>> tree = CalibrationTree(leaf=10).fit(rows, np.repeat([0, 3], 30))
    >>> tree.predict(np.array([[0.2], [0.9]])).tolist()
    [0.0, 3.0]
    """

    depth: int = 4
    leaf: int = 20
    features: list[int] = field(default_factory=list)
    """The column asked at each node, -1 at a leaf; a node's children are given by ``children``."""
    thresholds: list[float] = field(default_factory=list)
    children: list[int] = field(default_factory=list)
    """Where the node's left child stands; its right one follows."""
    means: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.depth < 0 or self.leaf < 1:
            raise UsageError(f"depth must be 0 or more and leaf 1 or more; got {self.depth} and {self.leaf}")

    def fit(self, rows: np.ndarray, grades: np.ndarray) -> Self:
        """Grow the tree on judged rows [n, features] and their human grades [n], and return it."""
        rows, grades = checked_rows(rows, None).astype(np.float64), np.asarray(grades, np.float64)
        if len(rows) != len(grades) or not len(rows):
            raise UsageError(f"{len(rows)} rows and {len(grades)} grades: give one grade for each judged row")
        self.features, self.thresholds, self.children, self.means = [-1], [0.0], [-1], [float(grades.mean())]
        pending = [(0, np.arange(len(rows)), 0)]
        while pending:
            node, at, depth = pending.pop()
            found = _best_split(rows[at], grades[at], self.leaf) if depth < self.depth else None
            if found is None:
                continue
            column, threshold = found
            self.features[node], self.thresholds[node], self.children[node] = column, threshold, len(self.means)
            below = rows[at, column] <= threshold
            for side in (at[below], at[~below]):
                pending.append((len(self.means), side, depth + 1))
                self.features.append(-1)
                self.thresholds.append(0.0)
                self.children.append(-1)
                self.means.append(float(grades[side].mean()))
        return self

    def predict(self, rows: np.ndarray) -> np.ndarray:
        """Return the grade of each row, float64 [n]."""
        if not self.means:
            raise UsageError("this tree has not been grown; call fit(rows, grades) with judged rows")
        rows = checked_rows(rows, None)
        node = np.zeros(len(rows), np.int64)
        features, thresholds, children = (np.array(part) for part in (self.features, self.thresholds, self.children))
        for _ in range(self.depth):
            inner = np.flatnonzero(features[node] >= 0)
            at = node[inner]
            node[inner] = children[at] + (rows[inner, features[at]] > thresholds[at])
        return np.array(self.means)[node]


def _best_split(rows: np.ndarray, grades: np.ndarray, leaf: int) -> tuple[int, float] | None:
    """Return the column and threshold of the split with the least squared error; None where none helps."""
    count, best, found = len(rows), 1e-12, None
    for column in range(rows.shape[1]):
        order = np.argsort(rows[:, column], kind="stable")
        values, sums = rows[order, column], np.cumsum(grades[order])
        left = np.arange(1, count)
        gain = sums[:-1] ** 2 / left + (sums[-1] - sums[:-1]) ** 2 / (count - left) - sums[-1] ** 2 / count
        open_here = (values[1:] > values[:-1]) & (left >= leaf) & (count - left >= leaf)
        gain = np.where(open_here, gain, -np.inf)
        if len(gain) and gain.max() > best:
            place = int(gain.argmax())
            best, found = float(gain[place]), (column, float((values[place] + values[place + 1]) / 2))
    return found
