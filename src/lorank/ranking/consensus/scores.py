"""Rules on score tables: means, the optimality gap, and fusion of normalised scores.

With x_vi the score that voter (task, run, judge) v of weight w_v gives item i, over the voters V_i that score i:

    mean            s_i = sum_{V_i} w_v x_vi / sum_{V_i} w_v
    geometric-mean  s_i = exp(sum_{V_i} w_v log x_vi / sum_{V_i} w_v)        scores above 0
    optimality-gap  s_i = -sum_{V_i} w_v max(0, gamma - x_vi) / sum_{V_i} w_v
    score-fusion    s_i = sum_v w_v n_v(x_vi), the lowest of v's where v does not score i (``fusion.fuse``)

(Agarwal et al. 2021, Deep RL at the Edge of the Statistical Precipice, for the optimality gap.) They depend on the
scales of the voters, as the ordinal rules do not; an item that no voter scores is put last.
"""

import numpy as np

from lorank.errors import UsageError
from lorank.ranking.consensus.fusion import Normalise, fuse
from lorank.ranking.consensus.profile import Floats, Profile
from lorank.ranking.consensus.rules import TIE, rule


def needed_scores(profile: Profile, method: str) -> Floats:
    """Return the scores [rows] of a profile; raise UsageError where it has none."""
    if profile.score is None:
        raise UsageError(f"{method} needs scores, and these ballots are orders; give a score table")
    return profile.score


def _mean(profile: Profile, values: Floats) -> Floats:
    weight = profile.total(np.ones(len(values)))
    mean = np.divide(profile.total(values), weight, out=np.zeros(len(weight)), where=weight > 0)
    if (weight > 0).any():
        mean[weight == 0] = mean[weight > 0].min() - 1
    return mean


@rule("mean")
def mean(profile: Profile) -> Floats:
    """Return each item's weighted mean score over the voters that score it, float64 [items]."""
    return _mean(profile, needed_scores(profile, "mean"))


@rule("geometric-mean")
def geometric_mean(profile: Profile) -> Floats:
    """Return each item's weighted geometric mean score, float64 [items]; scores must be above 0."""
    scores = needed_scores(profile, "geometric-mean")
    if (scores <= 0).any():
        raise UsageError(f"geometric-mean takes scores above 0; there is {scores.min()}")
    return np.exp(_mean(profile, np.log(scores)))


@rule("optimality-gap")
def optimality_gap(profile: Profile, *, gamma: float = 95.0) -> Floats:
    """Return minus the mean shortfall from ``gamma``, float64 [items]; scores above gamma count as gamma."""
    return -_shortfall(profile, gamma)


def _shortfall(profile: Profile, gamma: float) -> Floats:
    return -_mean(profile, -np.maximum(0.0, gamma - needed_scores(profile, "optimality-gap")))


@rule("score-fusion", aliases=("combsum",))
def score_fusion(profile: Profile, *, normalise: Normalise = "z") -> Floats:
    """Return the weighted sum of each voter's normalised scores, float64 [items]: "z", "minmax" or "rank"."""
    scores = needed_scores(profile, "score-fusion")
    runs: list[dict[str, dict[str, float]]] = [{"": {}} for _ in range(profile.ballots)]
    for ballot, item, score in zip(profile.ballot.tolist(), profile.item.tolist(), scores.tolist(), strict=True):
        runs[ballot][""][profile.items[item]] = score
    fused = fuse(runs, profile.weight, normalise)[""]
    lowest = min(fused.values(), default=0.0)
    total = np.array([fused.get(name, lowest) for name in profile.items])
    return np.where(np.abs(total) < TIE * profile.weight.sum(), 0.0, total)
