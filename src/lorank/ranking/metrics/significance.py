"""Are two systems different? Paired tests over queries, and Holm's correction for many of them."""

from collections.abc import Callable, Sequence

import numpy as np

EXACT_UP_TO = 16
"""With so many non-zero differences or fewer, all 2^n sign patterns are enumerated."""

_CHUNK = 1 << 22


def randomization_test(
    differences: np.ndarray, *, rng: np.random.Generator, resamples: int = 10_000
) -> np.ndarray | float:
    r"""Return the two-sided p of the paired randomisation (sign-flip) test of mean difference 0.

    p = P(|\sum_q e_q d_q| >= |\sum_q d_q|),   e_q = +1 or -1 with equal chance,

    exactly where at most 16 differences are not zero; otherwise from m random patterns, b of which reach the
    observed sum, as (b + 1) / (m + 1), which is never 0 (B. Phipson and G. K. Smyth, 2010).

    Args:
        differences: [queries], or [queries, comparisons] to test every column on the same patterns.
        rng: Where the patterns come from.
        resamples: m, the number of random patterns.

    Returns:
        p, or an array [comparisons].

    Paper: M. Smucker, J. Allan, B. Carterette, A Comparison of Statistical Significance Tests for Information
    Retrieval Evaluation, CIKM 2007.

    >>> randomization_test(np.array([0.1, 0.2, 0.3]), rng=np.random.default_rng(0))   # 2 of 8 patterns
    0.25
    """
    columns = differences[:, None] if differences.ndim == 1 else differences
    p = np.ones(columns.shape[1])
    few = (columns != 0).sum(0) <= EXACT_UP_TO
    for column in np.flatnonzero(few):
        values = columns[:, column]
        p[column] = _exact(values[values != 0])
    if not few.all():
        p[~few] = _monte_carlo(columns[:, ~few], rng, resamples)
    return float(p[0]) if differences.ndim == 1 else p


def _as_extreme(sums: np.ndarray, differences: np.ndarray) -> np.ndarray:
    slack = 1e-12 * np.abs(differences).sum(0)
    return np.asarray(np.abs(sums) >= np.abs(differences.sum(0)) - slack)


def _exact(values: np.ndarray) -> float:
    patterns = np.arange(2 ** len(values))[:, None] >> np.arange(len(values)) & 1
    return float(_as_extreme((1 - 2 * patterns) @ values, values).mean()) if len(values) else 1.0


def _monte_carlo(columns: np.ndarray, rng: np.random.Generator, resamples: int) -> np.ndarray:
    queries, total = len(columns), columns.sum(0)
    step = max(1, _CHUNK // queries)
    reached = np.zeros(columns.shape[1])
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        bits = np.unpackbits(rng.integers(256, size=(rows, -(-queries // 8)), dtype=np.uint8), axis=1)[:, :queries]
        reached += _as_extreme(total - 2 * (bits.astype(np.float64) @ columns), columns).sum(0)
    return (reached + 1) / (resamples + 1)


def t_test(
    differences: np.ndarray, *, rng: np.random.Generator | None = None, resamples: int = 0
) -> np.ndarray | float:
    """Return the two-sided p of the paired t test of mean difference 0; the last two arguments play no part.

    Where all differences are equal, p is 1 if they are 0 and 0 if not; with one query it is 1.

    >>> t_test(np.array([1.0, -1.0, 2.0, -2.0]))
    1.0
    """
    from scipy.special import stdtr

    columns = differences[:, None] if differences.ndim == 1 else differences
    count, mean = len(columns), columns.mean(0)
    if count < 2:
        p = np.ones(columns.shape[1])
    else:
        error = columns.std(0, ddof=1) / np.sqrt(count)
        same = error <= 1e-15 * np.abs(mean)
        t = np.abs(mean) / np.where(same, 1.0, error)
        p = np.where(same, np.where(mean == 0, 1.0, 0.0), 2 * stdtr(count - 1, -t))
    return float(p[0]) if differences.ndim == 1 else p


TESTS: dict[str, Callable[..., np.ndarray | float]] = {"randomization": randomization_test, "t": t_test}


def holm(p: Sequence[float]) -> list[float]:
    r"""Return p values adjusted by Holm's step-down method, in the order given.

    With p_(1) <= ... <= p_(m):  adjusted p_(i) = \max_{j <= i} \min(1, (m - j + 1) p_(j)).

    Paper: S. Holm, A Simple Sequentially Rejective Multiple Test Procedure, 1979.

    >>> holm([0.5, 0.25, 0.125])
    [0.5, 0.5, 0.375]
    """
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    steps = np.minimum(1.0, values[order] * np.arange(len(values), 0, -1))
    adjusted = np.empty_like(values)
    adjusted[order] = np.maximum.accumulate(steps) if len(values) else steps
    return [float(p) for p in adjusted]
