r"""Inverse propensity scoring of a policy: phi_i = w_i r_i, unbiased where the log supports the policy.

Paper: D. Horvitz and D. Thompson, A Generalization of Sampling Without Replacement from a Finite Universe, JASA 1952;
for ranking L. Li et al., Counterfactual Estimation and Optimization of Click Metrics in Search Engines, WWW 2015.
"""

import numpy as np

from lorank.ranking.clicks.core.estimate import LoggedRows, estimator


@estimator("ips", title="Inverse propensity scoring")
def ips(rows: LoggedRows) -> np.ndarray:
    """Return w r.

    >>> ips(LoggedRows(np.array([1.0, 0.0]), np.array([2.0, 0.5]))).tolist()
    [2.0, 0.0]
    """
    influence: np.ndarray = rows.weights * rows.rewards
    return influence
