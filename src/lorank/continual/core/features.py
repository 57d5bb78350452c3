"""Features of queries by which a stream tells collections apart, and two ways to do it: prototypes and a selector.

A bi-encoder's features are its untuned vectors; those of any other ranker count hashed words. Both have length 1.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lorank.errors import UsageError
from lorank.ranking.scorers.bi_encoder import BiEncoder

WIDTH = 1024
_WORD = re.compile(r"\w+")


def query_features(ranker: Any, queries: Sequence[str]) -> np.ndarray:
    """Return features [queries, width], float64, each of length 1 (0 of a query without a word).

    Args:
        ranker: The untuned ranker.
        queries: The texts.
    """
    found = hashed_words(queries)
    if isinstance(ranker, BiEncoder):
        found = np.asarray(ranker.encode(list(queries), query=True), np.float64)
    length = np.linalg.norm(found, axis=1, keepdims=True)
    return found / np.where(length > 0, length, 1.0)


def hashed_words(texts: Sequence[str], width: int = WIDTH) -> np.ndarray:
    """Return how often each bucket's words occur [texts, width], rooted; the same in every process.

    >>> hashed_words(["moon moon", ""]).sum(1).round(4).tolist()
    [1.4142, 0.0]
    """
    counts = np.zeros((len(texts), width))
    for row, text in enumerate(texts):
        for word in _WORD.findall(text.lower()):
            counts[row, int.from_bytes(hashlib.blake2b(word.encode(), digest_size=4).digest()) % width] += 1
    return np.sqrt(counts)


@dataclass(frozen=True)
class Prototypes:
    """The centres [k, width] of a task's features, and the mean distance of its held-out queries to the nearest one."""

    centres: np.ndarray
    own: float

    @classmethod
    def of(cls, features: np.ndarray, held_out: np.ndarray, count: int, seed: int) -> "Prototypes":
        """Return at most ``count`` centres of ``features`` [n, width], by k-means from a drawn start.

        Args:
            features: Those of the training queries, one at least.
            held_out: Those of other queries of the task, by which ``own`` is measured.
            count: k, 1 or more.
            seed: The seed of the start.
        """
        rng = np.random.default_rng(seed)
        centres = features[rng.permutation(len(features))[:count]].copy()
        for _ in range(10):
            nearest = squared_distances(features, centres).argmin(1)
            for k in range(len(centres)):
                if (nearest == k).any():
                    centres[k] = features[nearest == k].mean(0)
        return cls(centres, float(nearest_distances(held_out, centres).mean()))

    def relatedness(self, features: np.ndarray) -> float:
        """Return how far ``features`` [n, width] lie from the nearest centres, in units of the task's own distance."""
        return float(nearest_distances(features, self.centres).mean()) / max(self.own, 1e-12)


def squared_distances(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Return ||one_i - two_j||^2 [n, m]."""
    cross: np.ndarray = (one**2).sum(1)[:, None] - 2 * one @ two.T + (two**2).sum(1)[None]
    return cross.clip(0)


def nearest_distances(features: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Return the distance [n] of each of ``features`` to the nearest of ``centres``."""
    nearest: np.ndarray = np.sqrt(squared_distances(features, centres).min(1))
    return nearest


@dataclass(frozen=True)
class Selector:
    """A linear classifier of features: the expert of the largest w_e . x + b_e.

    It is the ridge regression of one-hot targets, each expert's queries weighing as much together as another's.
    """

    weights: np.ndarray
    """[width + 1, experts], the last row the offsets."""

    @classmethod
    def fit(cls, features: np.ndarray, experts: np.ndarray, ridge: float = 1e-2) -> "Selector":
        """Return the selector of ``features`` [n, width] with their ``experts`` [n], counted from 0.

        Raises:
            UsageError: For no features.
        """
        if not len(features):
            raise UsageError("a selector is fitted to features, and there are none")
        x = np.concatenate([features, np.ones((len(features), 1))], 1)
        targets = np.eye(int(experts.max()) + 1)[experts]
        share = 1.0 / np.bincount(experts)[experts]
        gram = x.T @ (x * share[:, None]) + ridge * np.eye(x.shape[1])
        return cls(np.linalg.solve(gram, x.T @ (targets * share[:, None])))

    def choose(self, features: np.ndarray) -> np.ndarray:
        """Return the expert of each of ``features`` [n, width], int64 [n]."""
        chosen: np.ndarray = (features @ self.weights[:-1] + self.weights[-1]).argmax(1)
        return chosen
