r"""Estimates of what a new policy would be worth, from what another one logged.

Each row i of the log is one decision with a reward r_i (a click), and a weight

    w_i = \pi(a_i | x_i) / p(a_i | x_i),

the new policy's chance of the logged action over the logging policy's. An estimator returns its value and the influence
phi_i of each row on it, whose mean is the value; the interval is

    V \pm 1.96 sd(\phi) / \sqrt{n},

with rows of one group (a shown list) added up first. The effective sample size is (sum w)^2 / sum w^2.

Where the mean weight, which is 1 in expectation, is clearly below it, the new policy does what the logging one never
did, and nothing in the log says what that is worth: `estimate` refuses.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lorank.errors import LorankError, UsageError, unknown_name

LEAST_EFFECTIVE = 30.0
LEAST_SUPPORT = 0.9


@dataclass(frozen=True)
class LoggedRows:
    """Decisions of a log, seen from a new policy.

    Attributes:
        rewards: float64 [n].
        weights: float64 [n], 0 and up.
        groups: int64 [n], rows of one group are not independent; None means each is its own.
        predicted: float64 [n], a model's reward of the logged action.
        baseline: float64 [n], the model's expected reward under the new policy.
        known_mean: Whether the weights are 1 in expectation, as ratios of two policies are.
    """

    rewards: np.ndarray
    weights: np.ndarray
    groups: np.ndarray | None = None
    predicted: np.ndarray | None = None
    baseline: np.ndarray | None = None
    known_mean: bool = True

    @property
    def effective(self) -> float:
        """The effective sample size."""
        squares = float((self.weights**2).sum())
        return float(self.weights.sum()) ** 2 / squares if squares else 0.0


@dataclass(frozen=True)
class Estimate:
    """A value per row with its 95% interval.

    Attributes:
        method: The name of the estimator.
        value: The mean reward of a row under the new policy.
        low: The lower end of the interval.
        high: The upper end.
        rows: The number of rows.
        effective: Their effective number.
        mean_weight: The mean weight; the share of the new policy that the log supports, where weights have mean 1.
        logged: The mean reward of a row as it was logged.
    """

    method: str
    value: float
    low: float
    high: float
    rows: int
    effective: float
    mean_weight: float
    logged: float


Influence = Callable[[LoggedRows], np.ndarray]
"""``estimator(rows) -> phi [n]``, whose mean is the value"""

ESTIMATORS: dict[str, Influence] = {}
"""Every registered estimator under its name."""


def estimator(name: str, *, title: str) -> Callable[[Influence], Influence]:
    """Decorate an estimator to enter it in ``ESTIMATORS``."""

    def enter(function: Influence) -> Influence:
        function.title = title  # type: ignore[attr-defined]
        ESTIMATORS[name] = function
        return function

    return enter


def estimate(rows: LoggedRows, method: str = "snips", *, support: str = "error") -> Estimate:
    """Return what a new policy is worth by the estimator called ``method``.

    Args:
        rows: The log, seen from the new policy.
        method: A name in ``ESTIMATORS``.
        support: ``error`` refuses a policy that the log does not support, ``ignore`` estimates all the same.

    Raises:
        UsageError: For an unknown estimator, and values that cannot be.
        LorankError: Where the log has no support for the policy, or too little to say anything.
    """
    if method not in ESTIMATORS:
        raise unknown_name("estimator", method, ESTIMATORS)
    if support not in ("error", "ignore"):
        raise unknown_name("support", support, ("error", "ignore"))
    if not len(rows.rewards) or (rows.weights < 0).any() or not np.isfinite(rows.weights).all():
        raise UsageError("weights are finite numbers from 0 up, one for each row of at least one")
    if support == "error":
        check_support(rows)
    influence = ESTIMATORS[method](rows)
    value, error = float(influence.mean()), _standard_error(influence, rows.groups)
    return Estimate(
        method,
        value,
        value - 1.959964 * error,
        value + 1.959964 * error,
        len(rows.rewards),
        rows.effective,
        float(rows.weights.mean()),
        float(rows.rewards.mean()),
    )


def check_support(rows: LoggedRows) -> None:
    """Raise LorankError where the logging policy does not support the new one."""
    mean = float(rows.weights.mean())
    if mean == 0:
        raise LorankError(
            "the log has no row in which the logging policy did what this ranker would do, so that it says nothing "
            "of it; log with some randomisation"
        )
    if rows.effective < LEAST_EFFECTIVE:
        raise LorankError(
            f"the effective sample size is {rows.effective:.1f} of {len(rows.rewards):,} rows, below "
            f"{LEAST_EFFECTIVE:g}: the logging policy hardly ever did what this ranker would do; "
            "log more, or with more randomisation"
        )
    error = _standard_error(rows.weights, rows.groups)
    if rows.known_mean and mean < LEAST_SUPPORT and mean + 5 * error < 1:
        raise LorankError(
            f"the weights have mean {mean:.3f} and should have 1: the logging policy never does {1 - mean:.0%} of what "
            "this ranker would do, and the log says nothing of that part; log with full support, or take "
            "--support ignore"
        )


def _standard_error(values: np.ndarray, groups: np.ndarray | None) -> float:
    """Return the standard error of the mean, over groups where rows have them."""
    centred = values - values.mean()
    if groups is not None:
        _, at = np.unique(groups, return_inverse=True)
        centred = np.bincount(at, centred)
    count = len(centred)
    if count < 2:
        return float("inf")
    return float(np.sqrt(count / (count - 1) * (centred**2).sum()) / len(values))
