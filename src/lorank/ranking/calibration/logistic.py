r"""Logistic regression by Newton's method: the fit that Platt's, temperature's and Beta's forms share.

    minimise  L(w) = -\sum_i t_i \log \sigma(x_i w) + (1 - t_i) \log(1 - \sigma(x_i w)),   t_i in [0, 1]

Each step is w - (X^T D X + \epsilon I)^{-1} X^T (p - t), D = diag(p (1 - p)), halved until L falls.
"""

import numpy as np
from scipy.special import expit

STEPS, RIDGE = 100, 1e-9


def fit_logistic(columns: np.ndarray, targets: np.ndarray, offset: np.ndarray | float = 0.0) -> np.ndarray:
    """Return the weights float64 [k] of the least cross-entropy.

    Args:
        columns: The columns X [n, k].
        targets: The targets t [n], from 0 to 1.
        offset: What is added to X w, [n] or one number.

    >>> fit_logistic(np.ones((4, 1)), np.array([1.0, 1.0, 1.0, 0.0])).round(4)    # the logit of 3/4
    array([1.0986])
    """
    weights = np.zeros(columns.shape[1])
    value = cross_entropy(columns @ weights + offset, targets)
    for _ in range(STEPS):
        p = expit(columns @ weights + offset)
        slope = columns.T @ (p - targets)
        curvature = columns.T @ (columns * (p * (1 - p))[:, None])
        ridge = RIDGE * max(float(np.trace(curvature)), 1e-12) * np.eye(len(weights))
        step, length = np.linalg.solve(curvature + ridge, slope), 1.0
        while length > 1e-10:
            trial = weights - length * step
            reached = cross_entropy(columns @ trial + offset, targets)
            if reached <= value:
                break
            length /= 2
        else:
            return weights
        done = value - reached <= 1e-12 * max(1.0, value)
        weights, value = trial, reached
        if done:
            break
    return weights


def cross_entropy(logits: np.ndarray, targets: np.ndarray) -> float:
    """Return the summed cross-entropy of targets in [0, 1] and logits, both [n]."""
    return float(np.sum(np.logaddexp(0.0, logits) - targets * logits))
