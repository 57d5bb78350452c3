r"""Cut-offs with a guarantee that holds for finite samples, whatever the scores are.

**Precision.** One part of the groups of queries proposes cut-offs t_1 > t_2 > ... in the order in which they are
tested, the other part tests H_j: precision(t_j) <= \pi by one draw per group,

    p_j = P(Bin(n_j, \pi) >= k_j),    k_j of the n_j groups with something at or above t_j have a relevant draw,

the tail that inverts to Clopper's and Pearson's bound. Testing goes on while p_j <= \delta and keeps the last t that
passed (fixed-sequence testing), so that

    P(precision(t) >= \pi) >= 1 - \delta     over draws of the groups.

A draw is the best document of one of the group's queries (``unit="best"``: how often the answer is right where one is
given), or one of the documents at or above t (``unit="document"``).

**Coverage.** With the nonconformity S = - score of a query's best (``keep="any"``) or worst (``keep="all"``) relevant
document, the \lceil (n + 1)(1 - \alpha) \rceil-th smallest S of n groups covers the next with probability 1 - \alpha
at least.

Paper: C. Clopper and E. Pearson, 1934; A. Angelopoulos et al., Learn then Test, 2021; V. Vovk, A. Gammerman and G.
Shafer, Algorithmic Learning in a Random World, 2005 (split conformal prediction).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import betaincinv
from scipy.stats import binom

from lorank.errors import UsageError, unknown_name
from lorank.ranking.calibration.errors_of_probabilities import lower_edges
from lorank.ranking.calibration.labelled import Labelled

Unit = Literal["best", "document"]
GRID = 40


@dataclass(frozen=True)
class Certified:
    """A cut-off that passed, or ``score`` None where none did, and what the test saw.

    ``groups`` were tested in all, ``answered`` of them had something at or above the cut-off, ``right`` of these a
    relevant draw; ``lower`` is the lower bound of the precision, at the stated confidence.
    """

    score: float | None
    target: float
    confidence: float
    unit: Unit
    groups: int
    answered: int
    right: int
    lower: float


def clopper_pearson(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the exact two-sided interval of a probability.

    >>> tuple(round(bound, 4) for bound in clopper_pearson(0, 10))     # the upper bound is 1 - 0.025 ** (1 / 10)
    (0.0, 0.3085)
    """
    tail = (1 - confidence) / 2
    low = 0.0 if successes == 0 else float(betaincinv(successes, trials - successes + 1, tail))
    high = 1.0 if successes == trials else float(betaincinv(successes + 1, trials - successes, 1 - tail))
    return low, high


def precision_threshold(
    data: Labelled, target: float, *, rng: np.random.Generator, confidence: float = 0.95, unit: Unit = "best"
) -> Certified:
    """Return the lowest cut-off at which the precision is certified to be ``target`` at least.

    Args:
        data: The pairs of dev; the ranker and its mix must not have been fitted to the labels beyond a few choices.
        target: The precision, above 0 and below 1.
        rng: It halves the groups and draws within them.
        confidence: 1 - delta, above 0 and below 1.
        unit: What a draw is: the best document of a query, or any document at or above the cut-off.

    Raises:
        UsageError: For numbers outside of their ranges, an unknown unit, and fewer than two groups.
    """
    if not (0 < target < 1 and 0 < confidence < 1):
        raise UsageError(f"the precision and the confidence lie between 0 and 1; got {target} and {confidence}")
    if unit not in ("best", "document"):
        raise unknown_name("unit", unit, ("best", "document"))
    if data.groups < 2:
        raise UsageError("a guarantee needs two independent groups of queries at least")
    proposing, testing = (_units(part, rng, unit) for part in data.halves(rng))
    cuts = _propose(proposing, target)
    found = Certified(None, target, confidence, unit, testing.groups, 0, 0, 0.0)
    for cut in cuts:
        right, answered = _count(testing, cut)
        if answered == 0 or binom.sf(right - 1, answered, target) > 1 - confidence:
            return found if found.score is not None else _failed(found, right, answered)
        lower = 0.0 if right == 0 else float(betaincinv(right, answered - right + 1, 1 - confidence))
        found = Certified(float(cut), target, confidence, unit, testing.groups, answered, right, lower)
    return found


def _failed(found: Certified, right: int, answered: int) -> Certified:
    lower = 0.0 if right == 0 else float(betaincinv(right, answered - right + 1, 1 - found.confidence))
    return Certified(None, found.target, found.confidence, found.unit, found.groups, answered, right, lower)


def _units(data: Labelled, rng: np.random.Generator, unit: Unit) -> Labelled:
    """Return the pairs that may be drawn, group by group, at random within; for "best" one query's best of each."""
    data = data.take(rng.permutation(len(data)))
    data = data.take(np.argsort(data.group, kind="stable"))
    if unit == "document":
        return data
    first = np.unique(data.group, return_index=True)[1]
    chosen = data.take(np.isin(data.query, data.query[first]))
    order = np.lexsort((-chosen.scores, chosen.query))
    heads = order[np.unique(chosen.query[order], return_index=True)[1]]
    return chosen.take(heads[np.argsort(chosen.group[heads], kind="stable")])


def _count(data: Labelled, cut: float) -> tuple[int, int]:
    """Return how many groups have a relevant draw, and how many a pair at or above ``cut``; the first such is drawn."""
    kept = np.flatnonzero(data.scores >= cut)
    group = data.group[kept]
    first = kept[np.flatnonzero(np.diff(group, prepend=-1))]
    return int(data.relevant[first].sum()), len(first)


def _propose(data: Labelled, target: float) -> np.ndarray:
    """Return cut-offs in the order of testing: from the one with most evidence, each lower than the one before."""
    grid = lower_edges(data.scores, GRID)[::-1]
    evidence = []
    for cut in grid:
        right, answered = _count(data, cut)
        evidence.append(float(binom.logsf(right - 1, answered, target)))
    return np.asarray(grid[int(np.argmin(evidence)) :])


def coverage_cutoff(
    data: Labelled, coverage: float, *, rng: np.random.Generator, keep: Literal["any", "all"] = "any"
) -> float:
    """Return the score at or above which a query's relevant documents lie with probability ``coverage`` at least.

    Args:
        data: The pairs; queries without a relevant document among theirs are left out.
        coverage: 1 - alpha, above 0 and below 1.
        rng: It draws one query per group.
        keep: Whether one relevant document must be kept, or all.

    Returns:
        The cut-off; minus infinity, which keeps everything, where there are fewer than alpha^-1 - 1 groups.
    """
    if not 0 < coverage < 1:
        raise UsageError(f"the coverage lies between 0 and 1; got {coverage}")
    worst = nonconformity(data, keep=keep)
    queries = rng.permutation(np.array(list(worst), np.int64))
    group_of = dict(zip(data.query.tolist(), data.group.tolist(), strict=True))
    one = {group_of[query]: worst[query] for query in queries.tolist()}
    values = np.sort(np.array(list(one.values())))
    place = int(np.ceil((len(values) + 1) * coverage - 1e-9))
    return float("-inf") if place > len(values) else -float(values[place - 1])


def nonconformity(data: Labelled, *, keep: Literal["any", "all"] = "any") -> dict[int, float]:
    """Return minus the score of each query's best or worst relevant document, by the query's number, in its order."""
    if keep not in ("any", "all"):
        raise unknown_name("keep", keep, ("any", "all"))
    found: dict[int, float] = {}
    choose = min if keep == "any" else max
    for query, score in zip(data.query[data.relevant].tolist(), data.scores[data.relevant].tolist(), strict=True):
        found[query] = choose(found.get(query, -score), -score)
    return found
