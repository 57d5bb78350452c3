r"""Position-based estimate of another order of shown lists: a click moves with its document, and counts by where it
goes.

    w_i = \theta_{k'_i} / \theta_{k_i}

with k the logged and k' the new position of the document, and theta the examination of positions. Under the
position-based
model the mean of w_i c_i is the new order's click rate: documents and users need no randomisation, only known theta.
The weights are not 1 on average.

Paper: S. Li et al., Offline Evaluation of Ranking Policies with Click Models, KDD 2018 (PBM estimator).
"""

import numpy as np

from lorank.ranking.clicks.core.estimate import LoggedRows, estimator


@estimator("position", title="Offline Evaluation of Ranking Policies with Click Models (position-based)")
def position(rows: LoggedRows) -> np.ndarray:
    """Return w c, with the weights of `position_weights`."""
    influence: np.ndarray = rows.weights * rows.rewards
    return influence


def position_weights(old: np.ndarray, new: np.ndarray, curve: np.ndarray, most: float = 100.0) -> np.ndarray:
    """Return theta at the new over theta at the old positions, at most ``most``.

    Args:
        old: int64 [n], logged positions from 1.
        new: int64 [n], positions under the new order.
        curve: float64 [k], theta; beyond its end the last value.
        most: The largest weight.

    >>> position_weights(np.array([2]), np.array([1]), np.array([1.0, 0.5])).tolist()
    [2.0]
    """
    last = len(curve)
    weights: np.ndarray = curve[np.clip(new, 1, last) - 1] / curve[np.clip(old, 1, last) - 1]
    cut: np.ndarray = np.minimum(weights, most)
    return cut
