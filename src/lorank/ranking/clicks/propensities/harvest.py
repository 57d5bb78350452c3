r"""Intervention harvesting: pairs that the log shows at several positions are experiments that nobody had to run.

For two positions k and k', over the pairs (q, d) that were shown at both, and with n the number of views at a position,

    c_k^{k k'} = \sum_{(q, d)} clicks at k / n_k(q, d),   m^{k k'} = number of such pairs,

so that both positions have the same documents, each with weight 1. AllPairs maximises

    \sum_{k \ne k'} c_k^{k k'} \log(p_k r_{k k'}) + (m^{k k'} - c_k^{k k'}) \log(1 - p_k r_{k k'}),

with p_k the propensities and r_{k k'} = r_{k' k} the mean relevance of the shared documents, all between 0 and 1.

Paper: A. Agarwal et al., Estimating Position Bias without Intrusive Interventions, WSDM 2019.

*Deviations*: a pair counts with the harmonic mean of its views at k and k' in place of 1, so that pairs that were seen
often say more; ``weighting="even"`` is the paper's.
"""

import numpy as np
from scipy.optimize import minimize

from lorank.errors import UsageError
from lorank.ranking.clicks.core.propensity import Propensities, propensity, relative
from lorank.ranking.clicks.core.sessions import Sessions


@propensity("harvest", title="Estimating Position Bias without Intrusive Interventions (AllPairs)")
def harvest(sessions: Sessions, *, weighting: str = "views") -> Propensities:
    """Return propensities by AllPairs; ``weighting`` of a pair is ``views`` or ``even``.

    Raises UsageError where positions are not linked by pairs that were seen at several of them.
    """
    if weighting not in ("views", "even"):
        raise UsageError(f"weighting is {weighting!r}; take views or even")
    shown, clicked = sessions.shown_and_clicked()
    k = sessions.positions
    rate = np.divide(clicked, shown, out=np.zeros_like(shown), where=shown > 0)
    clicks, total, both = np.zeros((k, k)), np.zeros((k, k)), np.zeros((k, k), int)
    for i in range(k):
        for j in range(k):
            there = (shown[:, i] > 0) & (shown[:, j] > 0)
            a, b = shown[there, i], shown[there, j]
            weight = np.ones(len(a)) if weighting == "even" else 2 * a * b / (a + b)
            clicks[i, j], total[i, j], both[i, j] = (weight * rate[there, i]).sum(), weight.sum(), there.sum()
    np.fill_diagonal(total, 0)
    np.fill_diagonal(clicks, 0)
    np.fill_diagonal(both, 0)
    _check_linked(both)
    curve = relative(_maximise(clicks, total))
    return Propensities(curve, "harvest", {"pairs_seen_at_several_positions": int(((shown > 0).sum(1) > 1).sum())})


def _check_linked(both: np.ndarray) -> None:
    """Raise UsageError where some position shares no pair with the first, directly or through others."""
    reached = np.zeros(len(both), bool)
    reached[0] = True
    for _ in range(len(both)):
        reached |= (both[reached] > 0).any(0)
    if not reached.all():
        lost = (np.flatnonzero(~reached) + 1).tolist()
        raise UsageError(
            f"no document of a query was seen both at positions {lost[:5]} and at others, so that their propensities "
            "cannot be harvested; shuffle some lists, or give a file of propensities"
        )


def _maximise(clicks: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Return p [k] of the maximum, found over logits by L-BFGS."""
    k = len(clicks)
    upper = np.triu_indices(k, 1)
    scale = max(total.sum(), 1.0)

    def unpack(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        shared = np.zeros((k, k))
        shared[upper] = x[k:]
        return 1 / (1 + np.exp(-x[:k])), 1 / (1 + np.exp(-(shared + shared.T)))

    def loss(x: np.ndarray) -> tuple[float, np.ndarray]:
        p, r = unpack(x)
        chance = np.clip(p[:, None] * r, 1e-12, 1 - 1e-12)
        missed = total - clicks
        value = -(clicks * np.log(chance) + missed * np.log1p(-chance)).sum()
        slope = -(clicks - missed * chance / (1 - chance))  # by log(p r)
        by_p, by_r = slope.sum(1) * (1 - p), slope * (1 - r)
        return value / scale, np.concatenate([by_p, (by_r + by_r.T)[upper]]) / scale

    start = np.concatenate([np.linspace(2, -1, k), np.zeros(len(upper[0]))])
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 2000, "ftol": 1e-14, "gtol": 1e-9})
    return unpack(found.x)[0]
