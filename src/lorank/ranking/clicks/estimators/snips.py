r"""Self-normalised inverse propensity scoring: V = sum_i w_i r_i / sum_i w_i, less variance for a bias that vanishes.

By the delta method phi_i = V + w_i (r_i - V) / mean(w).

Paper: A. Swaminathan and T. Joachims, The Self-Normalized Estimator for Counterfactual Learning, NeurIPS 2015.
"""

import numpy as np

from lorank.ranking.clicks.core.estimate import LoggedRows, estimator


@estimator("snips", title="The Self-Normalized Estimator for Counterfactual Learning")
def snips(rows: LoggedRows) -> np.ndarray:
    """Return V + w (r - V) / mean(w).

    >>> float(snips(LoggedRows(np.array([1.0, 0.0]), np.array([3.0, 1.0]))).mean())
    0.75
    """
    mean = rows.weights.mean()
    value = (rows.weights * rows.rewards).mean() / mean
    influence: np.ndarray = value + rows.weights * (rows.rewards - value) / mean
    return influence
