"""A table of arms in which the best one is planted."""

import numpy as np

from lorank.ranking.routing import RoutingTable

SEEDS = (0, 1, 2)


def planted(seed: int, count: int = 300) -> RoutingTable:
    """Queries of three kinds: easy ones, which the cheap arm serves as well, and two that need each its own arm."""
    rng = np.random.default_rng([9, seed])
    kind = rng.integers(3, size=count)
    features = np.stack([np.eye(3)[kind] @ np.array([-2.0, 0.0, 2.0]), (kind == 1) * 2.0, rng.normal(size=count)], 1)
    features[:, :2] += 0.2 * rng.normal(size=(count, 2))
    quality = np.array([[0.8, 0.8, 0.8], [0.1, 0.9, 0.2], [0.1, 0.2, 0.9]])[kind] + 0.05 * rng.normal(size=(count, 3))
    return RoutingTable(["none", "bm25", "dense"], features, quality, np.array([0.0, 1.0, 2.0]))
