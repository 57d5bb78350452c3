r"""Is one system better by enough to matter? A Bayesian comparison with a region of practical equivalence.

The posterior of a mean over groups is drawn by the Bayesian bootstrap: weights over the groups come from a flat
Dirichlet(1, ..., 1),

    m = \sum_g u_g S_g / \sum_g u_g C_g,   u ~ Dirichlet(1, ..., 1),

which is the posterior under the improper Dirichlet(0, ..., 0) prior on the distribution of groups. The seeds of a
system are taken as normal with the Jeffreys prior p(\mu, \sigma^2) ~ 1 / \sigma^2, so that their mean moves by
t_{S-1} s / \sqrt{S}; the bootstrap over three seeds would claim far too much.

The correlated t test of Benavoli et al. is not used: its correlation is that of overlapping training sets in a
cross-validation, while groups of test queries are independent by construction.

Papers: D. Rubin, The Bayesian Bootstrap, 1981; A. Benavoli, G. Corani, J. Demsar, M. Zaffalon, Time for a Change: a
Tutorial for Comparing Multiple Classifiers Through Bayesian Analysis, 2017 (the region of practical equivalence).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lorank.ranking.metrics.groups import sums
from lorank.ranking.metrics.hierarchical import Floats, Integers

_CHUNK = 1 << 22


@dataclass(frozen=True)
class Probabilities:
    """The posterior chances that a system is ``worse``, ``equivalent`` or ``better``; they sum to 1."""

    worse: float
    equivalent: float
    better: float


def posterior_means(
    systems: Sequence[Floats], member: Integers, *, rng: np.random.Generator, draws: int = 10_000
) -> Floats:
    """Return draws from the posterior of each system's mean; all systems see the same weights of the groups.

    Args:
        systems: The values [queries, seeds] of each system, with seeds of its own.
        member: The int64 [queries] group of each query, from 0.
        rng: The source of the draws.
        draws: The number of draws, 1 or more.

    Returns:
        The means [draws, systems].

    >>> posterior_means([np.ones((2, 1))], np.array([0, 1]), rng=np.random.default_rng(0), draws=2).round(4).tolist()
    [[1.0], [1.0]]
    """
    counts = np.bincount(member).astype(np.float64)
    totals = np.column_stack([sums(values.mean(1, keepdims=True), member) for values in systems])
    out = np.empty((draws, len(systems)))
    step = max(1, _CHUNK // len(counts))
    for start in range(0, draws, step):
        weights = rng.standard_exponential((min(step, draws - start), len(counts)))
        out[start : start + step] = (weights @ totals) / (weights @ counts)[:, None]
    for column, values in enumerate(systems):
        seeds = values.shape[1]
        if seeds > 1:
            error = values.mean(0).std(ddof=1) / np.sqrt(seeds)
            out[:, column] += error * rng.standard_t(seeds - 1, size=draws)
    return out


def practical_probabilities(differences: Floats, rope: float) -> Probabilities:
    """Return the chances that a difference lies below, within and above the region from -``rope`` to ``rope``.

    Args:
        differences: Draws from the posterior of the difference [draws].
        rope: The half-width of the region of practical equivalence, in the unit of the measure, 0 or more.

    >>> practical_probabilities(np.array([-0.2, 0.0, 0.005, 0.3]), 0.01)
    Probabilities(worse=0.25, equivalent=0.5, better=0.25)
    """
    worse, better = float((differences < -rope).mean()), float((differences > rope).mean())
    return Probabilities(worse, float((np.abs(differences) <= rope).mean()), better)
