"""Baldwin's rule: drop whoever has the fewest Borda points among those left, again and again (Baldwin 1926).

All items that share the fewest points leave together, so the rule is neutral. The score is the round in which an
item leaves. A Condorcet winner is never last and so wins.
"""

import numpy as np

from lorank.ranking.consensus.profile import Floats, Profile
from lorank.ranking.consensus.rules import rounding, rule


@rule("baldwin")
def baldwin(profile: Profile) -> Floats:
    """Return the round in which each item leaves, float64 [items]."""
    preferred = profile.preferences()
    against = preferred - preferred.T
    points = against.sum(axis=1)
    left = np.ones(len(points), bool)
    rounds = np.zeros(len(points))
    for number in range(len(points)):
        if not left.any():
            break
        slack = rounding(len(points)) * np.abs(against).sum(axis=1).max()
        leaving = left & (points <= points[left].min() + slack)
        rounds[leaving] = number
        left &= ~leaving
        points = points - against[:, leaving].sum(axis=1)
    return rounds
