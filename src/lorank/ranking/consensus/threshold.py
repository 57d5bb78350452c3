"""The threshold rule: avoid last places first (Aleskerov, Chistyakov and Kalyagin 2010, The Threshold Aggregation).

Let v_k(i) be the share of the ballots listing i that have k items below it (a tie counts half). Item i is above j
when v_0(i) < v_0(j), or they are equal and v_{1/2}(i) < v_{1/2}(j), and so on: fewest last places, then fewest
last but one, ... The score is the number of distinct profiles of places that are worse.

*Deviations*: the published rule counts, for complete strict ballots; shares allow missing entries. An item that no
ballot lists is last.
"""

import numpy as np

from lorank.ranking.consensus.profile import Floats, Profile
from lorank.ranking.consensus.rules import rule


@rule("threshold")
def threshold(profile: Profile) -> Floats:
    """Return how many distinct worse records of places there are, float64 [items]."""
    n = len(profile.items)
    _, tied, below = profile.places()
    steps = 2 * n - 1
    weights = profile.weight[profile.ballot]
    held = np.bincount(profile.item * steps + 2 * below + tied, weights, minlength=n * steps).reshape(n, steps)
    listed = held.sum(axis=1, keepdims=True)
    share = np.divide(held, listed, out=np.zeros_like(held), where=listed > 0)
    share[listed[:, 0] == 0, 0] = 2.0
    _, record = np.unique(share.round(9), axis=0, return_inverse=True)
    return np.asarray(record.max() - record.ravel(), np.float64)
