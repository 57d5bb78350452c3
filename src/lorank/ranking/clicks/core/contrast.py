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
    """

    peak: np.ndarray
    curvature: np.ndarray
    clicks: float
    pairs: int


def contrast_pairs(sessions: Sessions) -> PairContrast:
    """Return what the pairs of a log say.

    >>> from lorank.ranking.clicks.core.sessions import sessions_of
    >>> rows = [("q", ["a", "b"], [1, 0])] * 400 + [("q", ["b", "a"], [0, 1])] * 200 + [("q", ["b", "a"], [0, 0])] * 200
    >>> contrast_pairs(sessions_of(rows)).peak.round(2).tolist()  # log(1 / 2)
    [0.0, -0.69]
    """
    shown, clicked = sessions.shown_and_clicked()
    several = ((shown > 0).sum(1) > 1) & (clicked.sum(1) > 0)
    views, clicks = shown[several], clicked[several]
    theta, ridge = np.zeros(sessions.positions), RIDGE * np.eye(sessions.positions)
    for _ in range(NEWTON):
        slope, curvature = _derivatives(theta, views, clicks)
        step = np.linalg.solve(curvature + ridge, slope + RIDGE * theta)
        theta = theta - step * min(1.0, LONGEST / max(float(np.abs(step).max()), 1e-12))
        if np.abs(step).max() < 1e-9:
            break
    _, curvature = _derivatives(theta, views, clicks)
    return PairContrast(theta - theta[0], curvature, float(clicked.sum()), int((clicked.sum(1) > 0).sum()))


def _derivatives(theta: np.ndarray, views: np.ndarray, clicks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the gradient [k] and the matrix of second derivatives [k, k] of L."""
    looks = views * np.exp(theta)
    chance = looks / looks.sum(1, keepdims=True)
    total = clicks.sum(1, keepdims=True)
    expected = (total * chance).sum(0)
    return expected - clicks.sum(0), np.diag(expected) - (total * chance).T @ chance
