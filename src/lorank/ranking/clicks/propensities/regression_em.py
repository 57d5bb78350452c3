r"""Regression EM: the position-based model with relevance as a function of features, for pairs that were seen once.

    P(c_k = 1) = \theta_k \sigma(w x_{q d} + b)

The E-step is that of the position-based model. The M-step sets theta_k to its mean posterior, and takes steps of
Newton on the logistic regression of the posterior relevance on the features x [pairs, f] (standardised).

Paper: X. Wang et al., Position Bias Estimation for Unbiased Learning to Rank in Personal Search, WSDM 2018.

*Deviations*: the paper draws binary relevances from the posterior and fits boosted trees; here the posterior itself is
the target of a ridge logistic regression, in which nothing is random.
"""

import numpy as np

from lorank.errors import UsageError
from lorank.ranking.clicks.core.model import ratio
from lorank.ranking.clicks.core.propensity import Propensities, propensity, relative
from lorank.ranking.clicks.core.sessions import Sessions


@propensity("regression-em", title="Position Bias Estimation for Unbiased Learning to Rank in Personal Search")
def regression_em(
    sessions: Sessions, *, features: np.ndarray | None = None, iterations: int = 100, ridge: float = 1e-3
) -> Propensities:
    """Return propensities with a logistic regression for relevance.

    Args:
        sessions: The log.
        features: float [pairs, f], a row for each pair's number.
        iterations: Steps of EM.
        ridge: The penalty of squared weights, relative to the number of pairs, above 0.

    Raises:
        UsageError: Where there are no features.
    """
    if features is None:
        raise UsageError("regression-em takes a row of features for each document, and the log has none; use harvest")
    rows = np.asarray(features, np.float64)
    spread = rows.std(0)
    rows = (rows - rows.mean(0)) / np.where(spread > 0, spread, 1)
    rows = np.hstack([rows, np.ones((len(rows), 1))])
    shown, clicked = sessions.shown_and_clicked()
    weights, theta = np.zeros(rows.shape[1]), 1 / (1 + 0.1 * np.arange(sessions.positions))
    for _ in range(iterations):
        a = 1 / (1 + np.exp(-(rows @ weights)))[:, None]
        no = 1 - theta * a
        skipped = shown - clicked
        examined = clicked + skipped * ratio(theta * (1 - a), no)
        attracted = clicked + skipped * ratio(a * (1 - theta), no)
        theta = ratio(examined.sum(0), shown.sum(0))
        for _ in range(3):
            weights = _newton(rows, weights, attracted.sum(1), shown.sum(1), ridge)
    return Propensities(relative(theta), "regression-em", {"features": int(rows.shape[1] - 1)})


def _newton(rows: np.ndarray, weights: np.ndarray, yes: np.ndarray, views: np.ndarray, ridge: float) -> np.ndarray:
    """Return the weights after a step of Newton on sum_i yes_i log s_i + (views_i - yes_i) log(1 - s_i) less the
    ridge."""
    chance = 1 / (1 + np.exp(-np.clip(rows @ weights, -30, 30)))
    penalty = np.full(len(weights), ridge * views.sum())
    penalty[-1] = 1e-9 * views.sum()
    slope = rows.T @ (yes - views * chance) - penalty * weights
    curve = (rows * (views * chance * (1 - chance))[:, None]).T @ rows + np.diag(penalty)
    moved: np.ndarray = weights + np.linalg.solve(curve, slope)
    return moved
