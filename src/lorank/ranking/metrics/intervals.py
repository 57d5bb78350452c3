"""Bootstrap confidence intervals of means over queries, single and paired."""

from collections.abc import Callable

import numpy as np

_CHUNK = 1 << 21


def bootstrap_means(values: np.ndarray, *, rng: np.random.Generator, resamples: int = 10_000) -> np.ndarray:
    """Return the means of ``values`` [queries, columns] over resampled queries, [resamples, columns].

    Every column sees the same resamples, so the difference of two columns is the paired bootstrap.

    >>> bootstrap_means(np.ones((5, 2)), rng=np.random.default_rng(0), resamples=3).tolist()
    [[1.0, 1.0], [1.0, 1.0], [1.0, 1.0]]
    """
    count = len(values)
    means = np.empty((resamples, values.shape[1]))
    step = max(1, _CHUNK // count)
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        drawn = rng.integers(count, size=(rows, count)) + count * np.arange(rows)[:, None]
        times = np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count)
        means[start : start + rows] = times.astype(np.float64) @ values / count
    return means


def percentile(means: np.ndarray, values: np.ndarray, confidence: float) -> tuple[float, float]:
    """Return the percentile interval: the (1 - c)/2 and (1 + c)/2 quantiles of the resampled means."""
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def bca(means: np.ndarray, values: np.ndarray, confidence: float) -> tuple[float, float]:
    r"""Return the bias-corrected and accelerated interval.

    The quantiles are moved from a to \Phi(z_0 + (z_0 + z_a) / (1 - A (z_0 + z_a))), with the bias z_0 =
    \Phi^{-1}(share of resampled means below the mean, ties half) and the acceleration A from the jackknife.

    Paper: B. Efron, Better Bootstrap Confidence Intervals, 1987.
    """
    from scipy.special import ndtr, ndtri

    mean = values.mean()
    spread = values - mean
    if not np.any(np.abs(spread) > 1e-12 * max(1.0, abs(mean))) or len(values) < 2:
        return percentile(means, values, confidence)
    below = (np.count_nonzero(means < mean) + np.count_nonzero(means <= mean)) / (2 * len(means))
    bias = ndtri(np.clip(below, 1 / (2 * len(means)), 1 - 1 / (2 * len(means))))
    acceleration = (spread**3).sum() / (6 * (spread**2).sum() ** 1.5)
    z = bias + ndtri(np.array([(1 - confidence) / 2, (1 + confidence) / 2]))
    low, high = np.quantile(means, ndtr(bias + z / (1 - acceleration * z)))
    return float(low), float(high)


INTERVALS: dict[str, Callable[[np.ndarray, np.ndarray, float], tuple[float, float]]] = {
    "percentile": percentile,
    "bca": bca,
}


def interval(
    values: np.ndarray,
    *,
    rng: np.random.Generator,
    resamples: int = 10_000,
    confidence: float = 0.95,
    method: str = "percentile",
) -> tuple[float, float]:
    """Return the bootstrap interval of the mean of ``values`` [queries], e.g. of paired differences.

    Args:
        values: The values [queries].
        rng: The source of the resamples.
        resamples: The number of resamples, 1 or more.
        confidence: The share of the resampled means inside the interval, between 0 and 1.
        method: The name of a method in ``INTERVALS``.

    Returns:
        The lower and the upper bound.

    >>> interval(np.array([0.5, 0.5, 0.5]), rng=np.random.default_rng(0))
    (0.5, 0.5)
    """
    means = bootstrap_means(values[:, None], rng=rng, resamples=resamples)[:, 0]
    return INTERVALS[method](means, values, confidence)
