r"""Doubly robust: a model's expected reward, corrected by weighted residuals; right where the weights or the model are.

    \phi_i = \sum_a \pi(a | x_i) \hat q(x_i, a) + w_i (r_i - \hat q(x_i, a_i))

Paper: M. Dudik, J. Langford and L. Li, Doubly Robust Policy Evaluation and Learning, ICML 2011.
"""

import numpy as np

from lorank.errors import UsageError
from lorank.ranking.clicks.core.estimate import LoggedRows, estimator


@estimator("dr", title="Doubly Robust Policy Evaluation and Learning")
def doubly_robust(rows: LoggedRows) -> np.ndarray:
    """Return baseline + w (r - predicted); raise UsageError where the rows have no model's rewards."""
    if rows.predicted is None or rows.baseline is None:
        raise UsageError("dr takes a model's rewards; give predicted and baseline")
    influence: np.ndarray = rows.baseline + rows.weights * (rows.rewards - rows.predicted)
    return influence
