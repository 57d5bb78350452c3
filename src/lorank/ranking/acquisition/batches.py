r"""Batches to judge: the best candidates by their informativeness, with noise that keeps a batch from being all alike.

    top        the K highest s_i
    power      the K highest  \log s_i + g_i / \beta           P(first is i) ~ s_i^\beta
    softmax    the K highest  s_i + g_i / \beta                P(first is i) ~ \exp(\beta s_i)
    softrank   the K highest  -\log r_i + g_i / \beta          P(first is i) ~ r_i^{-\beta},  r_i the rank of s_i
    random     any K

with g_i independent standard Gumbel draws, so that K candidates are drawn without replacement at the price of a sort.

Paper: Kirsch, Farquhar, Atighehchian, Jesson, Branchaud-Charron, Gal 2023, *Stochastic Batch Acquisition: A Simple
Baseline for Deep Active Learning*, arXiv:2106.12059.

*Deviations*: none known; a score of 0 is never taken by ``power`` before one above 0.
"""

import numpy as np

from lorank.errors import UsageError, unknown_name
from lorank.registration import catalogued

STRATEGIES = ("power", "softmax", "softrank", "top", "random")


@catalogued(
    "stochastic-batch-acquisition",
    area="active",
    title="Stochastic Batch Acquisition: A Simple Baseline for Deep Active Learning",
    reach="lorank label --strategy power; it proposes what to judge and trains nothing, so it has no recipe",
)
def choose_batch(
    scores: np.ndarray, count: int, strategy: str, rng: np.random.Generator, *, beta: float = 1.0
) -> np.ndarray:
    """Return the positions int64 [min(count, n)] of the candidates to judge, in the order of their draw.

    Args:
        scores: How informative each candidate is [n], 0 or more for ``power``.
        count: How many are taken, 0 or more.
        strategy: A name in ``STRATEGIES``.
        rng: The source of the draws.
        beta: How much scores count against chance, 0 (not at all) to infinity (they alone).

    Raises:
        UsageError: For a strategy that is not known, and for numbers that are out of their range.

    >>> scores = np.array([0.1, 0.9, 0.5])
    >>> choose_batch(scores, 2, "power", np.random.default_rng(0), beta=float("inf")).tolist()
    [1, 2]
    """
    if strategy not in STRATEGIES:
        raise unknown_name("strategy", strategy, STRATEGIES)
    if count < 0 or not beta >= 0 or not np.isfinite(scores).all():
        raise UsageError(f"count={count}, beta={beta:g}: give 0 or more, and scores that are finite")
    if strategy == "power" and (scores < 0).any():
        raise UsageError("power takes scores of 0 or more; use softmax or softrank")
    noise = rng.gumbel(size=len(scores))
    keys = _keys(scores, strategy)
    if strategy == "random" or (beta == 0 and strategy != "top"):
        keys = noise
    elif strategy != "top" and np.isfinite(beta):
        keys = keys + noise / beta
    return np.argsort(-keys, kind="stable")[:count]


def _keys(scores: np.ndarray, strategy: str) -> np.ndarray:
    """Return what the noise is added to."""
    if strategy == "power":
        return np.asarray(np.log(np.maximum(scores, 1e-300)))
    if strategy == "softrank":
        return np.asarray(-np.log(1.0 + np.argsort(np.argsort(-scores, kind="stable"), kind="stable")))
    return scores
