r"""What pairs that were seen at several positions say of examination, whatever their relevance is.

With n_{dk} the views and c_{dk} the clicks of a pair d (a query and a document) at position k, C_d all its clicks, and
theta_k the logarithm of how likely position k is examined, E[c_{dk}] = a_d n_{dk} e^{\theta_k}. Which of its views a
pair's clicks fall on does not depend on its attraction a_d:

    L(\theta) = - \sum_d \sum_k c_{dk} \log \pi_{dk},   \pi_{dk} = n_{dk} e^{\theta_k} / \sum_j n_{dj} e^{\theta_j},

and E[dL / d\theta_k] = \sum_d E[C_d \pi_{dk} - c_{dk}] = 0 at the truth, of any a. Around its minimum, L is

    L(\theta) ~ 1/2 (\theta - \hat\theta)^T H (\theta - \hat\theta),   H = \sum_d C_d (diag(\pi_d) - \pi_d \pi_d^T),

with no curvature between positions that share no pair, of which it says nothing.
"""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from lorank.ranking.clicks.core.sessions import Sessions

RIDGE = 0.1
"""The curvature that holds theta at 0 where no pair says anything, in clicks."""
NEWTON = 50
LONGEST = 2.0
"""The longest step of one theta."""


@dataclass(frozen=True)
class PairContrast:
    """The quadratic around the minimum.

    Attributes:
        peak: float64 [k], theta at the minimum, 0 at the first position.
        curvature: float64 [k, k], H, in clicks.
        clicks: The clicks of all pairs, seen at several positions or not.
        pairs: The number of pairs that were clicked.
        linked: bool [k], the positions that clicked pairs link with the one that has most clicks, directly or through
            others; theta of other positions is not known.
    """

    peak: np.ndarray
    curvature: np.ndarray
    clicks: float
    pairs: int
    linked: np.ndarray


def contrast_pairs(sessions: Sessions) -> PairContrast:
    """Return what the pairs of a log say of its positions.

    >>> from lorank.ranking.clicks.core.sessions import sessions_of
    >>> rows = [("q", ["a", "b"], [1, 0])] * 400 + [("q", ["b", "a"], [0, 1])] * 200 + [("q", ["b", "a"], [0, 0])] * 200
    >>> contrast_pairs(sessions_of(rows)).peak.round(2).tolist()  # log(1 / 2)
    [0.0, -0.69]
    """
    grid = np.broadcast_to(np.arange(sessions.positions), sessions.pairs.shape)
    return contrast_places(sessions, grid, sessions.positions)


def contrast_places(sessions: Sessions, grid: np.ndarray, places: int) -> PairContrast:
    """Return what pairs that were seen at several places say of them.

    A place is what examination depends on: a position, or a position and what happened above it.

    Args:
        sessions: The log.
        grid: int64 [n, k], the place of each shown document, from 0 to ``places`` - 1.
        places: How many places there are.
    """
    views, clicks = _tables(sessions, grid, places)
    clicked = np.asarray(clicks.sum(1)).ravel()
    several = (np.diff(views.indptr) > 1) & (clicked > 0)
    seen, hits, total = views[several], np.asarray(clicks[several].sum(0)).ravel(), clicked[several]
    theta, ridge = np.zeros(places), RIDGE * np.eye(places)
    for _ in range(NEWTON):
        slope, curvature = _derivatives(theta, seen, hits, total)
        step = np.linalg.solve(curvature + ridge, slope + RIDGE * theta)
        theta = theta - step * min(1.0, LONGEST / max(float(np.abs(step).max()), 1e-12))
        if np.abs(step).max() < 1e-9:
            break
    _, curvature = _derivatives(theta, seen, hits, total)
    linked = _linked_places(seen, np.asarray(clicks.sum(0)).ravel())
    return PairContrast(theta - theta[0], curvature, float(clicked.sum()), int((clicked > 0).sum()), linked)


def _tables(sessions: Sessions, grid: np.ndarray, places: int) -> tuple[csr_array, csr_array]:
    """Return the views and the clicks of each pair at each place, sparse [pairs, places]."""
    at = sessions.pairs[sessions.mask], grid[sessions.mask]
    weight = np.broadcast_to(sessions.counts[:, None], sessions.mask.shape)
    shape = len(sessions.names), places
    made = [csr_array((of[sessions.mask], at), shape=shape) for of in (weight, weight * sessions.clicks)]
    for each in made:
        each.sum_duplicates()
    return made[0], made[1]


def _derivatives(
    theta: np.ndarray, views: csr_array, hits: np.ndarray, total: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the gradient [k] and the matrix of second derivatives [k, k] of L.

    ``hits`` [k] are the clicks of places, ``total`` [pairs] those of pairs.
    """
    sizes = np.diff(views.indptr)
    looks = views.data * np.exp(theta)[views.indices]
    rows = np.repeat(np.arange(len(sizes)), sizes)
    chance = looks / np.bincount(rows, looks, len(sizes))[rows]
    shares = csr_array((chance, views.indices, views.indptr), shape=views.shape)
    scaled = csr_array((chance * total[rows], views.indices, views.indptr), shape=views.shape)
    expected = np.asarray(scaled.sum(0)).ravel()
    return expected - hits, np.diag(expected) - (scaled.T @ shares).toarray()


def _linked_places(seen: csr_array, clicks: np.ndarray) -> np.ndarray:
    """Return which places share pairs, directly or through others, with the one that has most clicks, bool [k]."""
    if not seen.shape[0]:
        return np.zeros(len(clicks), bool)
    _, component = connected_components(seen.T @ seen, directed=False)
    linked: np.ndarray = component == component[int(clicks.argmax())]
    return linked if linked.sum() > 1 else np.zeros(len(clicks), bool)
