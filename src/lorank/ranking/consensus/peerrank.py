"""PeerRank: grade the graders by the grades they get (Walsh 2014, The PeerRank Method for Peer Assessment, ECAI).

A_ij in [0, 1] is the grade that j gives i. From X_i = mean_j A_ij iterate to the fixed point of

    X_i <- (1 - a - b) X_i + a sum_j X_j A_ij / sum_j X_j + b mean_j (1 - |A_ji - X_j|)

The second term weights grades by the grader's own; the third (generalised PeerRank, b > 0) rewards i for grades
A_ji that agree with what j ends up with. Sums and means are over the grades that were given.
"""

import numpy as np

from lorank.catalogue import catalogued
from lorank.errors import LorankError, UsageError
from lorank.ranking.consensus.profile import Floats, Profile
from lorank.ranking.consensus.rules import rule
from lorank.ranking.consensus.scores import needed_scores


@catalogued("peerrank", area="aggregate", title="The PeerRank Method for Peer Assessment")
def peer_rank(
    grades: Floats, *, a: float = 0.5, b: float = 0.0, tolerance: float = 1e-12, max_iterations: int = 10_000
) -> Floats:
    """Return the fixed point X, float64 [agents] in [0, 1].

    Args:
        grades: ``grades[i, j]`` in [0, 1] is what j gives i; NaN where j does not grade i.
        a: Weight of the others' grades, above 0.
        b: Weight of the reward for accurate grading, from 0 up; a + b at most 1.
        tolerance: Stop when no X moves by more.
        max_iterations: Fail after so many.

    Raises:
        UsageError: Grades outside [0, 1], an agent that nobody grades, or bad weights.

    >>> peer_rank(np.full((3, 3), 0.7)).round(6).tolist()
    [0.7, 0.7, 0.7]
    """
    grades = np.asarray(grades, np.float64)
    given = ~np.isnan(grades)
    if grades.ndim != 2 or grades.shape[0] != grades.shape[1]:
        raise UsageError(f"grades have shape {grades.shape}; give a square table, graded by grader")
    if (grades[given] < 0).any() or (grades[given] > 1).any():
        raise UsageError("PeerRank takes grades from 0 to 1; divide them by the full mark")
    if not given.any(axis=1).all():
        raise UsageError(f"nobody grades agent {int(np.flatnonzero(~given.any(axis=1))[0])}; leave it out")
    if not (a > 0 and b >= 0 and a + b <= 1):
        raise UsageError(f"a is {a} and b is {b}; a must be above 0, b from 0 up, and a + b at most 1")
    filled = np.where(given, grades, 0.0)
    mine = np.maximum(given.sum(axis=0), 1)
    mean = filled.sum(axis=1) / given.sum(axis=1)
    x = mean
    for _ in range(max_iterations):
        weight = given @ x
        peers = np.divide(filled @ x, weight, out=mean.copy(), where=weight > 0)
        agreement = np.where(given, 1 - np.abs(filled - x[:, None]), 0.0).sum(axis=0) / mine
        moved = (1 - a - b) * x + a * peers + b * agreement
        if np.abs(moved - x).max() <= tolerance:
            return np.asarray(moved, np.float64)
        x = moved
    raise LorankError(f"PeerRank did not settle in {max_iterations} iterations; raise a or tolerance")


@rule("peerrank", on_unit_scale=True)
def peerrank(profile: Profile, *, a: float = 0.5, b: float = 0.0) -> Floats:
    """Return PeerRank's grades, float64 [items], from a score table whose voters are the items themselves."""
    scores = needed_scores(profile, "peerrank")
    place = {name: index for index, name in enumerate(profile.items)}
    strange = [name for name in profile.names if name not in place]
    if strange or not profile.names:
        raise UsageError(
            f"peerrank takes graders that are graded themselves; {strange[:1] or 'they'} are not among the items"
        )
    grades = np.full((len(place), len(place)), np.nan)
    graders = np.array([place[name] for name in profile.names])
    grades[profile.item, graders[profile.ballot]] = scores
    return peer_rank(grades, a=a, b=b)
