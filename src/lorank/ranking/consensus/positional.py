"""Positional rules: points for the place on each ballot (Borda 1784; Dowdall, as used in Nauru; plurality).

With ``above``, ``tied`` and ``below`` items above, level with and below i on ballot v of weight w_v:

    Borda      s_i = sum_v w_v (below + tied / 2)
    Dowdall    s_i = sum_v w_v mean over the tied places r of 1 / r
    plurality  s_i = sum_v w_v [above = 0] / (tied + 1)
    rrf        s_i = sum_v w_v 1 / (k + above + 1 + tied / 2)

Tied items share the points of their places. A ballot gives nothing to items that it does not list; read it with
``missing="last"`` to tie them below. Reciprocal rank fusion: Cormack, Clarke and Buettcher 2009, SIGIR; without
ties ``rrf`` is ``fusion.reciprocal_rank_fusion``, which breaks ties by document id as trec_eval does.
"""

import numpy as np

from lorank.errors import UsageError
from lorank.ranking.consensus.profile import Floats, Profile
from lorank.ranking.consensus.rules import rule


@rule("borda")
def borda(profile: Profile) -> Floats:
    """Return Borda points, float64 [items]: one for each item beaten, half for each tied."""
    _, tied, below = profile.places()
    return profile.total(below + tied / 2)


@rule("dowdall")
def dowdall(profile: Profile) -> Floats:
    """Return Dowdall points, float64 [items]: 1, 1/2, 1/3, ... for the first, second, third place."""
    above, tied, _ = profile.places()
    harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, len(profile.items) + 1))])
    return profile.total((harmonic[above + tied + 1] - harmonic[above]) / (tied + 1))


@rule("plurality")
def plurality(profile: Profile) -> Floats:
    """Return the weight of ballots that put the item first, float64 [items]; tied firsts share the vote."""
    above, tied, _ = profile.places()
    return profile.total((above == 0) / (tied + 1))


@rule("rrf", aliases=("reciprocal-rank-fusion",))
def reciprocal_ranks(profile: Profile, *, k: float = 60.0) -> Floats:
    """Return the sums of 1 / (k + rank), float64 [items]; tied items take the middle of their places."""
    if not k >= 0:
        raise UsageError(f"k is {k}; reciprocal rank fusion takes k from 0 up")
    above, tied, _ = profile.places()
    return profile.total(1 / (k + above + 1 + tied / 2))
