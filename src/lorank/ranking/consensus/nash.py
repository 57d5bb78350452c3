"""Nash averaging: rate against the maximum-entropy equilibrium of a game, so that copies change nothing.

Agents against agents: A_ij = log (p_ij + c) / (p_ji + c) is antisymmetric, with p_ij the weight of ballots that
prefer i to j. A meta-player picks agents by p, a second one answers:

    p = argmax H(p)  over  {p in simplex: A p <= 0},      rating = A p

Agents against tasks: S_it are scores, standardised per task; agents maximise and tasks minimise p_a^T S p_t at value
v. The task player's equilibrium of largest entropy rates the agents:

    p_t = argmax H(p)  over  {p in simplex: S p <= v},    rating = S p_t

Balduzzi, Tuyls, Perolat and Graepel 2018, Re-evaluating Evaluation, NeurIPS, arXiv 1806.02643. The equilibria are a
polytope and entropy is strictly concave, so p is unique. A linear program finds which items any equilibrium plays;
on those p is the exponential family p_j ~ exp(-(M^T l)_j), l >= 0, fitted by its convex dual.

*Deviations*: the paper solves agents against tasks as one antisymmetric block matrix; the two players are solved
apart here, which allows games whose value is not 0. A missing score counts as its task's mean, a pair that never
met as even. Copies of an item change no rating where the equilibrium is unique; where it is not (two best items that
are even, say), the largest entropy gives each copy its share and ratings do move.
"""

from typing import Literal

import numpy as np
from scipy.linalg import null_space, orth
from scipy.optimize import linprog, minimize
from scipy.special import logsumexp, softmax

from lorank.catalogue import catalogued
from lorank.errors import LorankError, UsageError, unknown_name
from lorank.ranking.consensus.fusion import standardise
from lorank.ranking.consensus.profile import Floats, Profile
from lorank.ranking.consensus.rules import rule
from lorank.ranking.consensus.scores import needed_scores

LEVEL = 1e-9
"""Payoffs below this share of the largest log odds are rounding and count as 0: items that are played are level."""


@rule("nash", aliases=("nash-averaging",), on_unit_scale=True)
@catalogued("nash-averaging", area="aggregate", title="Re-evaluating Evaluation")
def nash(profile: Profile, *, game: Literal["agents", "tasks"] = "agents", pseudocount: float = 0.5) -> Floats:
    """Return each item's expected payoff against the equilibrium, float64 [items].

    Args:
        profile: The ballots; ``game="tasks"`` needs scores.
        game: Items against items, or items against the ballots that score them.
        pseudocount: c above, added to both sides' wins; above 0.
    """
    if game not in ("agents", "tasks"):
        raise unknown_name("game", game, ["agents", "tasks"])
    if game == "tasks":
        scores = task_scores(profile)
        return scores @ maxent_equilibrium(scores)
    odds = log_odds(profile, pseudocount)
    rating = odds @ maxent_equilibrium(odds)
    level = np.abs(rating) <= LEVEL * max(1.0, float(np.abs(odds).max()))
    return np.where(level, 0.0, rating)


def log_odds(profile: Profile, pseudocount: float = 0.5) -> Floats:
    """Return the antisymmetric log odds that i beats j, float64 [items, items]."""
    if not pseudocount > 0:
        raise UsageError(f"pseudocount is {pseudocount}; log odds need one above 0")
    preferred = profile.preferences() + pseudocount
    return np.log(preferred / preferred.T)


def task_scores(profile: Profile) -> Floats:
    """Return scores [items, ballots] with mean 0 and deviation 1 for each ballot; missing ones are 0."""
    scores = needed_scores(profile, "nash with game='tasks'")
    table = np.zeros((len(profile.items), profile.ballots))
    for ballot in range(profile.ballots):
        rows = profile.ballot == ballot
        table[profile.item[rows], ballot] = standardise(scores[rows])
    return table


def hodge_split(payoffs: Floats) -> tuple[Floats, Floats]:
    """Return the transitive part r_i - r_j, r the row means, and the cyclic rest of an antisymmetric matrix.

    >>> transitive, cyclic = hodge_split(np.array([[0.0, 3.0], [-3.0, 0.0]]))
    >>> transitive.tolist(), cyclic.tolist()
    ([[0.0, 3.0], [-3.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]])
    """
    rating = payoffs.mean(axis=1)
    transitive = rating[:, None] - rating[None, :]
    return transitive, payoffs - transitive


def game_value(payoffs: Floats) -> float:
    """Return the value of the zero-sum game to its maximising row player; ``payoffs`` [rows, columns]."""
    rows, columns = payoffs.shape
    found = linprog(
        np.r_[np.zeros(columns), 1.0],
        A_ub=np.c_[payoffs, -np.ones(rows)],
        b_ub=np.zeros(rows),
        A_eq=np.r_[np.ones(columns), 0.0][None],
        b_eq=[1.0],
        bounds=[(0, None)] * columns + [(None, None)],
    )
    if not found.success:
        raise LorankError(f"the game could not be solved: {found.message}")
    return float(found.fun)


def maxent_equilibrium(payoffs: Floats) -> Floats:
    """Return the column player's equilibrium of largest entropy, float64 [columns], of a zero-sum game.

    ``payoffs`` [rows, columns] are paid to the row player by the column player.

    >>> rock_paper_scissors = np.array([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]])
    >>> maxent_equilibrium(rock_paper_scissors).round(4).tolist()
    [0.3333, 0.3333, 0.3333]
    """
    antisymmetric = payoffs.shape[0] == payoffs.shape[1] and np.array_equal(payoffs, -payoffs.T)
    over = payoffs - (0.0 if antisymmetric else game_value(payoffs))
    largest = np.abs(over).max(initial=0.0)
    if largest == 0:
        return np.full(over.shape[1], 1 / over.shape[1])
    over = over / largest
    played = _ever_played(over)
    share = np.zeros(over.shape[1])
    share[played] = _largest_entropy(over[:, played])
    return share


def _ever_played(over: Floats) -> np.ndarray:
    """Return which columns some p >= 0 with ``over @ p <= 0`` plays: maximise sum z, z <= p, 0 <= z <= 1."""
    rows, columns = over.shape
    found = linprog(
        np.r_[np.zeros(columns), -np.ones(columns)],
        A_ub=np.block([[over, np.zeros((rows, columns))], [-np.eye(columns), np.eye(columns)]]),
        b_ub=np.zeros(rows + columns),
        bounds=[(0, None)] * columns + [(0, 1)] * columns,
    )
    if not found.success or not (found.x[columns:] > 0.5).any():
        raise LorankError(f"the equilibrium could not be found: {found.message}")
    return np.asarray(found.x[columns:] > 0.5)


def _largest_entropy(over: Floats) -> Floats:
    """Return argmax H(p) with ``over @ p <= 0`` where some such p plays every column."""

    def dual(multipliers: Floats) -> tuple[float, Floats]:
        logits = -multipliers @ over
        return float(logsumexp(logits)), -(over @ softmax(logits))

    rows = len(over)
    found = minimize(
        dual,
        np.zeros(rows),
        jac=True,
        method="L-BFGS-B",
        bounds=[(0, None)] * rows,
        options={"maxiter": 20_000, "maxfun": 40_000, "ftol": 1e-16, "gtol": 1e-12, "maxcor": 30},
    )
    share = _polish(over, found.x)
    if (over @ share).max() > 1e-10:
        share = _on_the_face(over, share)
    if (over @ share).max() > 1e-6:
        raise LorankError(f"the equilibrium of largest entropy did not settle: {found.message}")
    return share


def _on_the_face(over: Floats, share: Floats) -> Floats:
    """Return argmax H(p) where the dual is too flat to find it: its multipliers run off to infinity.

    The rows that bind at every equilibrium leave a face { p : E p = 0, sum p = 1 }, often a single point. On an
    orthonormal basis of E's rows the dual has no flat direction, and Newton's steps find the point.
    """
    rows, columns = over.shape
    slack = linprog(
        np.r_[np.zeros(columns), -np.ones(rows)],
        A_ub=np.c_[over, np.eye(rows)],
        b_ub=np.zeros(rows),
        bounds=[(0, None)] * columns + [(0, 1)] * rows,
    )
    if not slack.success:
        raise LorankError(f"the equilibrium could not be found: {slack.message}")
    binding = over[slack.x[columns:] < 0.5]
    free = null_space(binding, rcond=1e-9)
    if free.shape[1] == 1:
        return np.asarray(np.maximum(free[:, 0] / free[:, 0].sum(), 0.0), np.float64)
    basis = orth(binding.T, rcond=1e-9).T

    def dual(multipliers: Floats) -> tuple[float, Floats]:
        logits = -multipliers @ basis
        return float(logsumexp(logits)), -(basis @ softmax(logits))

    found = minimize(
        dual,
        np.zeros(len(basis)),
        jac=True,
        method="trust-exact",
        options={"gtol": 1e-14},
        hess=lambda multipliers: _covariance(basis, softmax(-multipliers @ basis)),
    )
    moved = softmax(-found.x @ basis)
    return moved if (over @ moved).max() < (over @ share).max() else share


def _covariance(rows: Floats, share: Floats) -> Floats:
    mean = rows @ share
    return (rows * share) @ rows.T - np.outer(mean, mean)


def _polish(over: Floats, multipliers: Floats) -> Floats:
    """Return p after Newton steps on the binding rows, as long as they lower the violation."""
    share = softmax(-multipliers @ over)
    binding = over[(multipliers > 1e-9) | (over @ share > 0)]
    logits = -multipliers @ over
    for _ in range(20):
        gap = binding @ share
        curvature = (binding * share) @ binding.T - np.outer(gap, gap)
        step = np.linalg.lstsq(curvature, gap, rcond=1e-12)[0]
        moved_logits = logits - step @ binding
        moved = softmax(moved_logits)
        if not np.abs(binding @ moved).max(initial=0.0) < np.abs(gap).max(initial=0.0):
            break
        logits, share = moved_logits, moved
    return np.asarray(share, np.float64)
