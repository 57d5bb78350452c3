"""Rules that walk from losers to winners: PageRank and rank centrality.

With p_ij the weight of ballots that prefer i to j, a tie counting half:

    PageRank         s = (1 - d) / n + d (P^T s),  P_ji = p_ij / sum_k p_kj; one that never lost walks anywhere
    rank centrality  s = P^T s,  P_ij = (1 / d_max) (p_ji + e) / (p_ij + p_ji + 2 e) for compared i and j, where
                     d_max is the largest number of opponents and P_ii is what is left

(Page et al. 1999; Negahban, Oh and Shah 2017, Rank Centrality, Operations Research.) For win shares that follow
Bradley-Terry exactly and e = 0, rank centrality gives the strengths themselves.

*Deviations*: rank centrality is 1 / n for all where d_max is 0. Its published regularised form adds e to both sides.
"""

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from lorank.errors import LorankError, UsageError
from lorank.ranking.consensus.profile import Floats, Pairs, Profile
from lorank.ranking.consensus.rules import rule


@rule("pagerank", on_unit_scale=True)
def pagerank(profile: Profile, *, damping: float = 0.85, tolerance: float = 1e-13) -> Floats:
    """Return each item's share of a walk that follows defeats, float64 [items], adding up to 1.

    ``damping`` in [0, 1) is the chance to follow a defeat rather than to jump to any item.
    """
    if not 0 <= damping < 1:
        raise UsageError(f"damping is {damping}; it takes 0 up to, but not including, 1")
    return walk(profile.pairs(), len(profile.items), damping, tolerance)


def walk(counts: Pairs, n: int, damping: float = 0.85, tolerance: float = 1e-13) -> Floats:
    """Return PageRank's shares of ``n`` items from pairwise counts, float64 [n].

    Args:
        counts: The wins, losses and draws of each pair of items that met.
        n: The number of items.
        damping: The probability, from 0 up to but not including 1, that the walk follows a duel.
        tolerance: The precision, above 0, that sets the number of steps.
    """
    to = np.concatenate([counts.first, counts.second])
    out_of = np.concatenate([counts.second, counts.first])
    moves = csr_array(
        (np.concatenate([counts.wins, counts.losses]) + np.tile(counts.draws / 2, 2), (to, out_of)), shape=(n, n)
    )
    lost = moves.sum(axis=0)
    scale = np.divide(1.0, lost, out=np.zeros(n), where=lost > 0)
    share = np.full(n, 1 / n)
    for _ in range(1 + int(np.log(tolerance) / np.log(damping)) if damping else 1):
        walked = moves @ (scale * share) + share[lost == 0].sum() / n
        share = damping * walked + (1 - damping) / n
    return share


@rule("rank-centrality", on_unit_scale=True)
def rank_centrality(profile: Profile, *, regularise: float = 1.0) -> Floats:
    """Return the stationary distribution of the walk, float64 [items], adding up to 1.

    ``regularise`` (e, from 0 up) is added to the wins of both sides of every compared pair.

    Raises:
        UsageError: Items that no chain of comparisons links; with e = 0 also items that cannot reach each other.
    """
    if not regularise >= 0:
        raise UsageError(f"regularise is {regularise}; it takes numbers from 0 up")
    preferred = profile.preferences()
    met = preferred + preferred.T
    n = len(met)
    if n == 1:
        return np.ones(1)
    won = np.divide(preferred + regularise, met + 2 * regularise, out=np.zeros_like(met), where=met > 0)
    groups, _ = connected_components(csr_array(won > 0), directed=True, connection="strong")
    if groups > 1:
        remedy = "read ballots with missing='last'" if regularise else "set regularise above 0"
        raise UsageError(f"the items fall into {groups} groups that no comparisons link both ways; {remedy}")
    walk = won.T / (met > 0).sum(axis=1).max()
    np.fill_diagonal(walk, 1 - walk.sum(axis=1))
    system = walk.T - np.eye(n)
    system[-1] = 1.0
    share = np.linalg.solve(system, np.eye(n)[-1])
    if not np.isfinite(share).all():
        raise LorankError("rank centrality: the walk's stationary distribution is too uneven to compute")
    return share
