"""Rules on majorities: Copeland, minimax and win rates.

With p_ij the weight of ballots that prefer i to j, a tie counting half each way:

    Copeland   s_i = sum_{j != i} [p_ij > p_ji] + [p_ij = p_ji] / 2
    minimax    s_i = -max_{j != i} (p_ji - p_ij)                       (margins; or p_ji where j wins)
    winrate    s_i = mean over the opponents j that i met of p_ij / (p_ij + p_ji)

(Copeland 1951; Simpson 1969, Kramer 1977.) A pair that was never compared is a draw to Copeland and minimax and
does not count in the win rate; an item without any comparison has the win rate 1/2.
"""

from typing import Literal

import numpy as np

from lorank.errors import unknown_name
from lorank.ranking.consensus.profile import Floats, Profile
from lorank.ranking.consensus.rules import TIE, rule


def _margins(profile: Profile) -> tuple[Floats, Floats]:
    preferred = profile.preferences()
    margins = preferred - preferred.T
    margins[np.abs(margins) <= TIE * (preferred + preferred.T)] = 0.0
    return preferred, margins


@rule("copeland")
def copeland(profile: Profile) -> Floats:
    """Return the number of opponents that a majority puts below the item, draws counting half: float64 [items]."""
    _, margins = _margins(profile)
    return np.asarray((margins > 0).sum(axis=1) + ((margins == 0).sum(axis=1) - 1) / 2, np.float64)


@rule("minimax", aliases=("simpson-kramer",))
def minimax(profile: Profile, *, defeat: Literal["margins", "winning-votes"] = "margins") -> Floats:
    """Return minus the worst defeat, float64 [items]; ``defeat`` measures it by margin or by the winner's votes."""
    if defeat not in ("margins", "winning-votes"):
        raise unknown_name("defeat", defeat, ["margins", "winning-votes"])
    preferred, margins = _margins(profile)
    lost = -margins if defeat == "margins" else np.where(margins < 0, preferred.T, 0.0)
    np.fill_diagonal(lost, -np.inf)
    return -lost.max(axis=1) if len(lost) > 1 else np.zeros(len(lost))


@rule("winrate", on_unit_scale=True)
def winrate(profile: Profile) -> Floats:
    """Return the mean share of wins against the opponents met, float64 [items] in [0, 1]."""
    preferred = profile.preferences()
    met = preferred + preferred.T
    rate = np.divide(preferred, met, out=np.zeros_like(met), where=met > 0)
    opponents = (met > 0).sum(axis=1)
    return np.where(opponents > 0, rate.sum(axis=1) / np.maximum(opponents, 1), 0.5)
