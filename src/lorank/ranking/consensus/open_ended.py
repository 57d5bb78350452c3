"""Open-ended evaluation as a game of three: prompts are picked to separate models, a king and a rebel to win.

u[p, i, j] in [-1, 1], antisymmetric in i and j, is how much better model i is than j on prompt p. Over joint plays
(p, k, r) of prompt, king and rebel the three are paid

    prompt player  |u[p, k, r]|        king  u[p, k, r]        rebel  -u[p, k, r]

A coarse correlated equilibrium is a distribution s over joint plays from which nobody gains by always playing one
thing instead. Of all of them the one of largest affinity entropy is taken,

    H(s) = 1 - s^T K s,   K = 1 between copies, 0 between different plays,

so the mass of copies counts once and copies change no rating. Ratings are expected payoffs against it:

    model i   sum_{p, r} s(p, r) u[p, i, r]            prompt p   sum_{k, r} s(k, r) |u[p, k, r]|

Liu et al. 2025, Re-evaluating Open-ended Evaluation of Large Language Models, ICLR, arXiv 2502.20170.

*Deviations*: written from the paper's idea, not its code. Assumed are the payoffs above, the quadratic member of
the affinity entropies, and the sharp kernel, for which merging exact copies first is the same; near-copies count as
different. Copies are found to 1e-12. The equilibrium is then the point of a polytope nearest to 0, found exactly by
bounded least squares (Lawson and Hanson's least-distance programming).
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import lsq_linear

from lorank.catalogue import catalogued
from lorank.errors import LorankError, UsageError
from lorank.ranking.consensus.profile import Floats, Integers

LARGEST = 5000
"""Joint plays (distinct prompts x models x models) that are solved; memory grows with their square."""


@dataclass(frozen=True, eq=False)
class OpenEndedRatings:
    """Ratings of ``models`` [m] and ``prompts`` [p], and how much of the play is each prompt, king and rebel."""

    models: Floats
    prompts: Floats
    prompt_play: Floats
    king_play: Floats
    rebel_play: Floats


@catalogued(
    "open-ended-eval-game",
    area="aggregate",
    title="Re-evaluating Open-ended Evaluation of Large Language Models",
    reach="`lorank aggregate --games FILE`; rating models is no training run, so it has no recipe",
)
def open_ended_ratings(better: Floats) -> OpenEndedRatings:
    """Return the equilibrium ratings of u = ``better`` [prompts, models, models]; copies share their play evenly.

    Raises UsageError for a table that is not antisymmetric or in [-1, 1], and for one with more joint plays, after
    copies are merged, than ``LARGEST``.

    >>> scissors = np.array([[[0.0, 1.0, -1.0], [-1.0, 0.0, 1.0], [1.0, -1.0, 0.0]]])
    >>> bool(np.abs(open_ended_ratings(scissors).models).max() < 1e-9)
    True
    """
    better = np.asarray(better, np.float64)
    if better.ndim != 3 or better.shape[1] != better.shape[2] or not better.size:
        raise UsageError(f"the table has shape {better.shape}; give [prompts, models, models]")
    if not np.isfinite(better).all() or (np.abs(better) > 1).any():
        raise UsageError("the table must hold numbers from -1 to 1")
    if not np.allclose(better, -better.transpose(0, 2, 1), atol=1e-9):
        raise UsageError("the table must be antisymmetric: better[p, i, j] = -better[p, j, i]")
    prompts, models = better.shape[:2]
    first_model, model_class = _classes(better.transpose(1, 0, 2).reshape(models, -1))
    first_prompt, prompt_class = _classes(better.reshape(prompts, -1))
    distinct = better[np.ix_(first_prompt, first_model, first_model)]
    if distinct.size > LARGEST:
        raise UsageError(
            f"the game has {distinct.size} joint plays of distinct prompts and models, above {LARGEST}; "
            "sample prompts, or group those that are alike"
        )
    joint = _equilibrium(distinct)
    model_ratings = np.einsum("pr,pir->i", joint.sum(axis=1), distinct)
    prompt_ratings = np.einsum("kr,pkr->p", joint.sum(axis=0), np.abs(distinct))
    shares = [
        joint.sum(axis=axes)[classes] / np.bincount(classes)[classes]
        for axes, classes in (((1, 2), prompt_class), ((0, 2), model_class), ((0, 1), model_class))
    ]
    return OpenEndedRatings(model_ratings[model_class], prompt_ratings[prompt_class], *shares)


def _classes(rows: Floats) -> tuple[Integers, Integers]:
    """Return the first row of each class of equal rows, and every row's class."""
    _, first, class_of = np.unique(rows.round(12) + 0.0, axis=0, return_index=True, return_inverse=True)
    return first, class_of.ravel()


def _equilibrium(better: Floats) -> Floats:
    """Return the coarse correlated equilibrium nearest to 0, float64 [prompts, models, models]."""
    shape = better.shape
    paid = (np.abs(better), better, -better)
    gains = []
    for player, payoff in enumerate(paid):
        for action in range(shape[player]):
            gains.append((np.take(payoff, [action], axis=player) - payoff).ravel())
    size = better.size
    # Least distance: min |s| with rows @ s >= bound, the rows being s >= 0, sum s >= 1 and -gain @ s >= 0.
    rows = np.concatenate([np.eye(size), np.ones((1, size)), -np.array(gains)])
    bound = np.zeros(len(rows))
    bound[size] = 1.0
    system, wanted = np.concatenate([rows.T, bound[None]]), np.r_[np.zeros(size), 1.0]
    weights = lsq_linear(system, wanted, (0, np.inf), method="bvls", tol=1e-15, max_iter=20 * len(rows)).x
    residual = system @ weights - wanted
    joint = np.maximum(-residual[:-1] / residual[-1], 0.0)
    joint /= joint.sum()
    if (np.array(gains) @ joint).max() > 1e-6:
        raise LorankError("the equilibrium of the open-ended game could not be computed to 1e-6")
    return np.asarray(joint, np.float64).reshape(shape)
