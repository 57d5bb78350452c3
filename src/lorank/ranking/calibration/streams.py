"""Cut-offs over a stream of queries: what each would have covered, had it been in use."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from lorank.errors import UsageError, unknown_name
from lorank.ranking.calibration.saocp import SAOCP
from lorank.ranking.calibration.sf_ogd import SFOGD

ONLINE: dict[str, Callable[[float, float, float], SFOGD | SAOCP]] = {"sf-ogd": SFOGD, "saocp": SAOCP}
"""Online cut-offs by name, made from (alpha, scale, start)."""


@dataclass(frozen=True)
class Followed:
    """The cut-offs float64 [n] that stood before each query came, and whether it was covered, bool [n]."""

    cutoffs: np.ndarray
    covered: np.ndarray

    @property
    def coverage(self) -> float:
        """The share of queries that were covered."""
        return float(self.covered.mean())

    def worst_window(self, size: int) -> float:
        """Return the lowest coverage of any ``size`` queries in a row; that of all where there are fewer."""
        size = min(size, len(self.covered))
        sums = np.convolve(self.covered.astype(np.float64), np.ones(size), "valid")
        return float(sums.min() / size)


def follow(name: str, observed: Sequence[float] | np.ndarray, alpha: float, scale: float, start: float) -> Followed:
    """Return what an online cut-off states before each observation, and what it covers.

    Args:
        name: ``sf-ogd`` or ``saocp``.
        observed: The nonconformity of each query, in the order of time.
        alpha: The share that may be missed, above 0 and below 1.
        scale: The range of the nonconformity, above 0.
        start: The first cut-off.

    >>> follow("saocp", [0.2] * 100, 0.1, 1.0, 0.5).coverage >= 0.85
    True
    """
    if name not in ONLINE:
        raise unknown_name("online cut-off", name, ONLINE)
    values = np.asarray(observed, np.float64)
    if not len(values):
        raise UsageError("the stream holds no query with a relevant document")
    cutoff = ONLINE[name](alpha, scale, start)
    stated = np.empty(len(values))
    for i, value in enumerate(values.tolist()):
        stated[i] = cutoff.value
        cutoff.update(value)
    return Followed(stated, values <= stated)
