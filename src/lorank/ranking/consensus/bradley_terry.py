"""Bradley-Terry strengths by Newman's iteration, with priors and Davidson's ties.

    P(i beats j) = pi_i / (pi_i + pi_j)

Newman's iteration for the strengths that make the counts w_ij (wins of i over j) most likely:

    pi_i <- [a / (pi_i + 1) + sum_j w_ij pi_j / (pi_i + pi_j)] / [a / (pi_i + 1) + sum_j w_ji / (pi_i + pi_j)]

where a is the prior: every item also won a duels against, and lost a to, a player of strength 1. With a = 0 this
is the maximum likelihood, which exists only if no group of items always beats the rest. Strengths are scaled to the
geometric mean 1; scores are log pi, with mean 0. Davidson's ties (1970), with one more parameter nu:

    P(tie) = 2 nu sqrt(pi_i pi_j) / D,  P(i beats j) = pi_i / D,  D = pi_i + pi_j + 2 nu sqrt(pi_i pi_j)
    pi_i <- [prior + sum_j u_ij (pi_j + nu r_ij) / D_ij] / [prior + sum_j u_ji (1 + nu r_ij / pi_i) / D_ij]
    nu   <- sum_{i<j} t_ij (pi_i + pi_j) / D_ij / sum_{i<j} (w_ij + w_ji) 2 r_ij / D_ij

with r_ij = sqrt(pi_i pi_j), t_ij the ties, u_ij = w_ij + t_ij / 2. Newman 2023, Efficient computation of rankings
from pairwise comparisons, JMLR 24(238), arXiv 2207.00076.

*Deviations*: Newman updates one item after another; here all are updated together, which is one pass over arrays.
Updated together, strengths can swing for ever (two items do); once the gradient stops shrinking, steps in log pi are
halved, which settles the swing and leaves the fixed point alone. With a prior, each group of items that were compared
also moves as a whole to where the prior likes it best, which one item at a time finds slowly.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from lorank.catalogue import catalogued
from lorank.errors import LorankError, UsageError, unknown_name
from lorank.ranking.consensus.profile import Floats, Integers, Pairs, Profile
from lorank.ranking.consensus.rules import rule

Ties = Literal["half", "davidson"]


@dataclass(frozen=True, eq=False)
class BradleyTerry:
    """A fit: ``strengths`` log pi [items] with mean 0, ``nu`` of Davidson's ties, the iterations, the gradient."""

    strengths: Floats
    nu: float
    iterations: int
    gradient: float


@rule("bradley-terry", aliases=("newman-bt",), on_unit_scale=True)
@catalogued("newman-bt", area="aggregate", title="Efficient computation of rankings from pairwise comparisons")
def bradley_terry(
    profile: Profile, *, prior: float = 1.0, ties: Ties = "half", tolerance: float = 1e-10, max_iterations: int = 20_000
) -> Floats:
    """Return log strengths with mean 0, float64 [items]; every ballot counts as duels of all its pairs.

    Args:
        profile: The ballots.
        prior: Duels won and lost, by every item, against a player of strength 1; 0 is maximum likelihood.
        ties: A tie is half a win each way, or has Davidson's probability.
        tolerance: Stop when no strength's derivative of the log likelihood, per duel of that item, is above this.
        max_iterations: Fail after so many.

    Raises:
        UsageError: ``prior=0`` and no maximum: some items always beat, or never meet, the rest.
    """
    return fit(
        profile.pairs(), len(profile.items), prior=prior, ties=ties, tolerance=tolerance, max_iterations=max_iterations
    ).strengths


def fit(
    pairs: Pairs,
    items: int,
    *,
    prior: float = 1.0,
    ties: Ties = "half",
    tolerance: float = 1e-10,
    max_iterations: int = 20_000,
    settled: bool = True,
) -> BradleyTerry:
    """Return the fit of pairwise counts.

    Args:
        pairs: The wins, losses and draws of each pair of items that met.
        items: The number of items.
        prior: The number of duels, 0 or more, that each item won and lost against one of strength 1.
        ties: A tie is half a win each way (``half``) or has Davidson's probability (``davidson``).
        tolerance: The fit stops when no strength's derivative of the log likelihood, per duel of its item, is above
            this.
        max_iterations: The most iterations.
        settled: False returns strengths that still move after ``max_iterations``; ``gradient`` says how far.

    Raises:
        UsageError: If ``prior`` or ``ties`` is not valid, or the counts have no finite fit.
    """
    if not 0 <= prior < np.inf:
        raise UsageError(f"prior is {prior}; it takes a number of duels from 0 up")
    if ties not in ("half", "davidson"):
        raise unknown_name("treatment of ties", ties, ["half", "davidson"])
    decided = pairs.wins + pairs.losses
    if ties == "davidson" and pairs.draws.any() and not (decided * (pairs.draws.sum() > 0)).any():
        raise UsageError("every duel is a tie, so Davidson's model has no finite fit; use ties='half'")
    if prior == 0:
        _must_be_linked(pairs, items)
    group = compared_groups(pairs, items)
    x, nu = np.zeros(items), 1.0 if ties == "davidson" and pairs.draws.any() else 0.0
    step, before = 1.0, np.inf
    for iteration in range(1, max_iterations + 1):
        up, down, next_nu = _sums(pairs, x, nu, prior)
        counted = np.maximum(up + down, np.finfo(float).tiny)
        gradient = float(np.max(np.abs(up - down) / counted, initial=0.0))
        if gradient <= tolerance and abs(next_nu - nu) <= tolerance * max(1.0, nu):
            return BradleyTerry(x - x.mean(), nu, iteration, gradient)
        if gradient > 0.9 * before:
            step = 0.5
        before = gradient
        moved = np.log(up / down, out=np.zeros(items), where=(up > 0) & (down > 0))
        x, nu = x + step * moved, next_nu
        x = x - x.mean() if prior == 0 else x + prior_shift(x, group)
    if not settled:
        return BradleyTerry(x - x.mean(), nu, max_iterations, gradient)
    raise LorankError(
        f"Bradley-Terry did not settle in {max_iterations} iterations (gradient {gradient:.1e} per "
        "duel); raise prior, tolerance or max_iterations"
    )


def _sums(pairs: Pairs, x: Floats, nu: float, prior: float) -> tuple[Floats, Floats, float]:
    """Return pi_i times the numerator's and the denominator's 1 / pi_i share, whose quotient moves pi_i, and nu."""
    i, j, wins, losses, draws = pairs
    half = np.exp(np.clip((x[j] - x[i]) / 2, -300, 300))
    whole = 1 / half + half + 2 * nu
    lower, upper = (half + nu) / whole, (1 / half + nu) / whole
    won, lost = wins + draws / 2, losses + draws / 2
    n = len(x)
    up: Floats = np.bincount(i, won * lower, n) + np.bincount(j, lost * upper, n)
    down: Floats = np.bincount(i, lost * upper, n) + np.bincount(j, won * lower, n)
    against = 1 / (1 + np.exp(-np.clip(x, -600, 600)))
    up, down = up + prior * (1 - against), down + prior * against
    if not nu:
        return up, down, 0.0
    return up, down, float((draws * (1 / half + half) / whole).sum() / ((wins + losses) * 2 / whole).sum())


def compared_groups(pairs: Pairs, items: int) -> Integers:
    """Return for each item the group of items that chains of comparisons link it to, int64 [items]."""
    graph = csr_array((np.ones(len(pairs.first)), (pairs.first, pairs.second)), shape=(items, items))
    return np.asarray(connected_components(graph, directed=False)[1], np.int64)


def prior_shift(x: Floats, group: Integers) -> Floats:
    """Return a Newton step, of at most 1, that moves each group's log strengths together to where the prior is best.

    Only the prior fixes where a group lies, so without this a small prior is felt slowly.
    """
    strength = 1 / (1 + np.exp(-np.clip(x, -600, 600)))
    slope = np.bincount(group, 1 - 2 * strength)
    bend = np.bincount(group, 2 * strength * (1 - strength))
    return np.clip(slope / np.maximum(bend, 1e-12), -1, 1)[group]


def _must_be_linked(pairs: Pairs, items: int) -> None:
    won, lost = pairs.wins + pairs.draws / 2 > 0, pairs.losses + pairs.draws / 2 > 0
    winner = np.concatenate([pairs.first[won], pairs.second[lost]])
    loser = np.concatenate([pairs.second[won], pairs.first[lost]])
    graph = csr_array((np.ones(len(winner)), (winner, loser)), shape=(items, items))
    groups, _ = connected_components(graph, directed=True, connection="strong")
    if groups > 1:
        raise UsageError(
            f"no maximum likelihood: the items fall into {groups} groups of which some always beat, or "
            "never meet, the others; give a prior above 0"
        )
