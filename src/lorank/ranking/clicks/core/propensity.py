r"""Propensities of positions: how likely a document is looked at where it stands, relative to the first position.

    weight of a click at k = 1 / p_k,   p_1 = 1

A click that is weighted so counts, in expectation, as if every position were looked at like the first. Clipping p_k
from below bounds the weight and biases it: `Clipping` says by how much, and what the weights leave of the sample,
ESS = (sum w)^2 / sum w^2.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lorank.errors import UsageError, unknown_name
from lorank.ranking.clicks.core.sessions import Sessions


@dataclass(frozen=True)
class Clipping:
    """What clipping does to the weights of a log's clicks.

    Attributes:
        minimum: The least propensity.
        clipped: The share of the clicks whose weight is cut.
        bias: The share of the total weight that is cut away; 0 without bias.
        clicks: The number of clicks.
        effective: Their effective number under the clipped weights.
    """

    minimum: float
    clipped: float
    bias: float
    clicks: float
    effective: float


@dataclass(frozen=True)
class Propensities:
    """The curve of a log: ``curve`` float64 [k], 1 at the first position; ``method`` says where it comes from.

    ``details`` are what the method found beside the curve.

    >>> Propensities(np.array([1.0, 0.5]), "given").at(np.array([1, 2, 7])).tolist()
    [1.0, 0.5, 0.5]
    """

    curve: np.ndarray
    method: str
    details: dict[str, Any] = field(default_factory=dict)

    def at(self, positions: np.ndarray) -> np.ndarray:
        """Return the propensity of positions, counted from 1; beyond the last one, that of the last."""
        found: np.ndarray = self.curve[np.clip(positions, 1, len(self.curve)) - 1]
        return found

    def clipped(self, minimum: float) -> "Propensities":
        """Return the curve with values below ``minimum`` raised to it."""
        return Propensities(np.maximum(self.curve, minimum), self.method, self.details)

    def clipping(self, sessions: Sessions, minimum: float) -> Clipping:
        """Return what clipping at ``minimum`` does to the clicks of a log."""
        weight = (sessions.counts[:, None] * sessions.clicks * sessions.mask).sum(0)
        curve = self.at(np.arange(1, sessions.positions + 1))
        full, cut = 1 / np.maximum(curve, 1e-12), 1 / np.maximum(curve, minimum)
        clicks, total = float(weight.sum()), float((weight * full).sum())
        if not clicks:
            return Clipping(minimum, 0.0, 0.0, 0.0, 0.0)
        kept = float((weight * cut).sum())
        effective = kept**2 / float((weight * cut**2).sum())
        return Clipping(minimum, float(weight[curve < minimum].sum()) / clicks, 1 - kept / total, clicks, effective)


Estimator = Callable[..., Propensities]
"""``estimator(sessions, **options) -> Propensities``"""

PROPENSITIES: dict[str, Estimator] = {}
"""Every registered estimator of propensities under its name."""


def propensity(name: str, *, title: str) -> Callable[[Estimator], Estimator]:
    """Decorate an estimator of propensities to enter it in ``PROPENSITIES``."""

    def enter(function: Estimator) -> Estimator:
        function.title = title  # type: ignore[attr-defined]
        PROPENSITIES[name] = function
        return function

    return enter


def estimate_propensities(sessions: Sessions, method: str = "harvest", **options: Any) -> Propensities:
    """Return the propensities of a log by the estimator called ``method``; raise UsageError for an unknown one."""
    if method not in PROPENSITIES:
        raise unknown_name("estimator of propensities", method, PROPENSITIES)
    return PROPENSITIES[method](sessions, **options)


def relative(curve: np.ndarray) -> np.ndarray:
    """Return a curve relative to its first value; raise UsageError where that is not above 0."""
    if not np.isfinite(curve).all() or curve[0] <= 0:
        raise UsageError(
            "the first position has no clicks, or some position was never shown, so that propensities relative to the "
            "first cannot be said; give a log that starts at position 1"
        )
    found: np.ndarray = curve / curve[0]
    return found
