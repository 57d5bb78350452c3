r"""Documents that stand for a whole corpus: clusters of their vectors, and from each a share of the sample.

    n_c = the share of cluster c in ``count``, by its size (largest remainders)
    P(d | c) ~ exp(cos(d, centre of c) / T),  n_c draws without replacement

Paper: Chandradevan, Dhole, Agichtein 2024, *DUQGen: Effective Unsupervised Domain Adaptation of Neural Rankers by
Diversifying Synthetic Query Generation*, arXiv:2404.02489.

*Deviations*: the paper takes the same number of documents from each cluster and as many clusters as queries; here a
cluster's share goes by its size, which is the same where both are equal on average. Its maximal marginal relevance,
which is off by default, is left out. Clusters are those of Lloyd's algorithm on unit vectors, begun as k-means++ does.
"""

import numpy as np

from lorank.errors import UsageError
from lorank.registration import catalogued

ROUNDS = 20
"""The most rounds of Lloyd's algorithm."""
BLOCK = 8192
"""The documents that are compared with all centres at once."""


@catalogued(
    "duqgen",
    area="retrieve",
    title="DUQGen: Effective Unsupervised Domain Adaptation of Neural Rankers by Diversifying Synthetic Query "
    "Generation",
    reach="lorank queries --data D --count N writes the training queries, lorank train --negatives-from bottom trains",
)
def sample_by_clusters(
    vectors: np.ndarray, count: int, rng: np.random.Generator, *, clusters: int | None = None, temperature: float = 1.0
) -> np.ndarray:
    """Return the positions int64 [count] of documents sampled from clusters in proportion to their sizes.

    Args:
        vectors: The vectors of the documents [n, dim]; their length is not used.
        count: How many are sampled, from 1 to n.
        rng: The source of the draws.
        clusters: How many clusters there are, from 1 to n; None takes ``count``.
        temperature: The number above 0 by which cosines are divided; a small one keeps to the centres.

    Raises:
        UsageError: For a number that is out of its range.

    >>> vectors = np.array([[1.0, 0.0]] * 6 + [[0.0, 1.0]] * 3)
    >>> found = sample_by_clusters(vectors, 3, np.random.default_rng(0), clusters=2)
    >>> int((found < 6).sum()), int((found >= 6).sum())
    (2, 1)
    """
    clusters = count if clusters is None else clusters
    for name, value in (("count", count), ("clusters", clusters)):
        if not 1 <= value <= len(vectors):
            raise UsageError(f"{name} is {value}; give a number from 1 to the {len(vectors)} documents that there are")
    if not temperature > 0:
        raise UsageError(f"temperature is {temperature:g}; give a number above 0")
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    centres, owner = find_clusters(unit.astype(np.float32), clusters, rng)
    near = (unit * centres[owner]).sum(1)
    sizes = np.bincount(owner, minlength=clusters)
    chosen = []
    for cluster, share in enumerate(shares(sizes, count)):
        members = np.flatnonzero(owner == cluster)
        weight = np.exp((near[members] - near[members].max(initial=0.0)) / temperature)
        if share:
            chosen.append(rng.choice(members, share, replace=False, p=weight / weight.sum()))
    return np.sort(np.concatenate(chosen))


def find_clusters(unit: np.ndarray, clusters: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return unit centres [clusters, dim] and the cluster of each vector, int64 [n].

    Args:
        unit: Vectors of unit length [n, dim].
        clusters: How many clusters there are, from 1 to n.
        rng: The source of the first centres.
    """
    centres = _first_centres(unit, clusters, rng)
    owner, near = _nearest(unit, centres)
    for _ in range(ROUNDS):
        sums = np.zeros_like(centres)
        np.add.at(sums, owner, unit)
        empty = np.flatnonzero(np.bincount(owner, minlength=clusters) == 0)
        sums[empty] = unit[np.argsort(near, kind="stable")[: len(empty)]]
        centres = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
        before = owner
        owner, near = _nearest(unit, centres)
        if np.array_equal(before, owner):
            break
    return centres, owner


def shares(sizes: np.ndarray, count: int) -> np.ndarray:
    """Return how many of ``count`` each cluster gives, int64 [clusters]: its share by size, by largest remainders.

    >>> shares(np.array([5, 3, 2]), 4).tolist()
    [2, 1, 1]
    """
    exact = sizes * (count / sizes.sum())
    found: np.ndarray = np.minimum(np.floor(exact).astype(np.int64), sizes)
    for cluster in np.argsort(-(exact - found), kind="stable"):
        if found.sum() < count and found[cluster] < sizes[cluster]:
            found[cluster] += 1
    return found


def _first_centres(unit: np.ndarray, clusters: int, rng: np.random.Generator) -> np.ndarray:
    """Return first centres: each drawn by its squared distance to those before it."""
    chosen = [int(rng.integers(len(unit)))]
    distance = np.full(len(unit), np.inf)
    while len(chosen) < clusters:
        distance = np.minimum(distance, np.maximum(1.0 - unit @ unit[chosen[-1]], 0.0).astype(np.float64))
        distance[chosen] = 0.0
        total = distance.sum()
        rest = np.setdiff1d(np.arange(len(unit)), chosen)
        chosen.append(int(rng.choice(len(unit), p=distance / total)) if total > 1e-9 else int(rng.choice(rest)))
    return unit[chosen].copy()


def _nearest(unit: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    owner, near = np.zeros(len(unit), np.int64), np.zeros(len(unit), np.float32)
    for first in range(0, len(unit), BLOCK):
        scores = unit[first : first + BLOCK] @ centres.T
        owner[first : first + BLOCK] = scores.argmax(1)
        near[first : first + BLOCK] = scores.max(1)
    return owner, near
