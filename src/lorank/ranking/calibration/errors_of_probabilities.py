r"""How good probabilities are: calibration error, proper scores, and the reliability diagram's points.

    ECE = \sum_b (n_b / n) |mean of y in b - mean of p in b|,   b = 15 bins of equally many probabilities
    Brier = mean (p - y)^2,      log loss = mean -(y ln p + (1 - y) ln(1 - p))

The ECE of a perfect calibration is not 0 on a finite sample. ``ece_if_perfect`` is the 95th percentile of the ECE of
labels drawn from the probabilities themselves; an ECE below it may be that of a perfect calibration. Intervals
resample groups of queries.

Paper: C. Guo et al., On Calibration of Modern Neural Networks, ICML 2017; J. Broecker and L. Smith, Increasing the
Reliability of Reliability Diagrams, 2007 (labels drawn from the forecast).
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lorank.errors import UsageError
from lorank.ranking.calibration.labelled import Labelled
from lorank.ranking.metrics.groups import grouped_interval

BINS, LEAST = 15, 1e-6


@dataclass(frozen=True)
class Quality:
    """The quality of probabilities of n pairs; ``ece_interval`` is the 95 % bootstrap interval over groups."""

    ece: float
    ece_interval: tuple[float, float]
    ece_if_perfect: float
    brier: float
    log_loss: float

    def as_dict(self) -> dict[str, Any]:
        """Return the numbers, JSON-ready."""
        return asdict(self)


@dataclass(frozen=True)
class ReliabilityPoint:
    """A bin: mean probability, share that was relevant with its 95 % interval over groups, and number of pairs."""

    probability: float
    relevant: float
    low: float
    high: float
    pairs: int


def calibration_error(probabilities: np.ndarray, relevant: np.ndarray, bins: int = BINS) -> float:
    """Return the expected calibration error over bins of equally many pairs.

    Args:
        probabilities: The probabilities [n], from 0 to 1.
        relevant: The labels [n].
        bins: The number of bins, 1 or more.

    >>> round(calibration_error(np.array([0.2, 0.2, 0.9, 0.9]), np.array([0, 0, 1, 1]), bins=2), 4)   # (.2 + .1) / 2
    0.15
    """
    y, p = np.asarray(relevant, np.float64), np.asarray(probabilities, np.float64)
    at = bins_of(p, bins)
    return float(np.abs(np.bincount(at, weights=y - p)).sum() / len(p))


def bins_of(probabilities: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Return the bin of each probability, int64 [n]; equal ones share a bin."""
    return np.searchsorted(lower_edges(probabilities, bins), probabilities, side="right") - 1


def lower_edges(values: np.ndarray, bins: int) -> np.ndarray:
    """Return the lowest value of each of up to ``bins`` bins of equally many values, rising.

    >>> lower_edges(np.array([3.0, 1.0, 2.0, 4.0]), 2).tolist()
    [1.0, 3.0]
    """
    return np.unique(np.sort(values)[np.arange(bins) * len(values) // bins])


def brier_score(probabilities: np.ndarray, relevant: np.ndarray) -> float:
    """Return the mean squared difference of probabilities [n] and labels [n]."""
    return float(np.mean((np.asarray(probabilities, np.float64) - relevant) ** 2))


def log_loss(probabilities: np.ndarray, relevant: np.ndarray) -> float:
    """Return the mean negative log-likelihood; probabilities are kept 1e-6 away from 0 and 1."""
    p = np.clip(np.asarray(probabilities, np.float64), LEAST, 1 - LEAST)
    return float(-np.mean(np.where(relevant, np.log(p), np.log1p(-p))))


def measure_quality(
    probabilities: np.ndarray, data: Labelled, *, rng: np.random.Generator, resamples: int = 1000
) -> Quality:
    """Return the quality of the probabilities of ``data``.

    Args:
        probabilities: The probabilities [n] of the pairs.
        data: The pairs.
        rng: The source of resamples.
        resamples: The number of resamples, 1 or more.

    Raises:
        UsageError: For values that are no probabilities.
    """
    p = np.asarray(probabilities, np.float64)
    if p.shape != data.scores.shape or not ((p >= 0) & (p <= 1)).all():
        raise UsageError("probabilities must lie between 0 and 1, one per pair")
    perfect = [calibration_error(p, rng.random(len(p)) < p) for _ in range(min(resamples, 200))]
    return Quality(
        calibration_error(p, data.relevant),
        _error_interval(p, data, rng, resamples),
        float(np.quantile(perfect, 0.95)),
        brier_score(p, data.relevant),
        log_loss(p, data.relevant),
    )


def _error_interval(p: np.ndarray, data: Labelled, rng: np.random.Generator, resamples: int) -> tuple[float, float]:
    """Return the interval of the ECE from drawn groups; each draw sums the groups' excesses within the bins."""
    at = bins_of(p)
    groups = np.unique(data.group, return_inverse=True)[1].reshape(-1)
    count, bins = int(groups.max()) + 1, int(at.max()) + 1
    excess, sizes = np.zeros((count, bins)), np.bincount(groups).astype(np.float64)
    np.add.at(excess, (groups, at), data.relevant - p)
    times = rng.multinomial(count, np.full(count, 1 / count), size=resamples)
    errors = np.abs(times @ excess).sum(1) / (times @ sizes)
    low, high = np.quantile(errors, [0.025, 0.975])
    return float(low), float(high)


def reliability(
    probabilities: np.ndarray, data: Labelled, *, rng: np.random.Generator, bins: int = BINS, resamples: int = 1000
) -> list[ReliabilityPoint]:
    """Return the points of the reliability diagram, by rising probability.

    Args:
        probabilities: The probabilities [n] of the pairs.
        data: The pairs.
        rng: The source of resamples.
        bins: The number of bins, 1 or more.
        resamples: The number of resamples, 1 or more.
    """
    p = np.asarray(probabilities, np.float64)
    at, points = bins_of(p, bins), []
    for each in np.unique(at):
        rows = at == each
        member = np.unique(data.group[rows], return_inverse=True)[1].reshape(-1)
        y = data.relevant[rows].astype(np.float64)
        low, high = grouped_interval(y, member, rng=rng, resamples=resamples)
        points.append(ReliabilityPoint(float(p[rows].mean()), float(y.mean()), low, high, int(rows.sum())))
    return points
