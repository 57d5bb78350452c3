"""Paired comparisons of systems on one measure: which pairs, by how much, and whether by more than chance."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from lorank.ranking.metrics.evaluation import Comparison
from lorank.ranking.metrics.groups import sums
from lorank.ranking.metrics.intervals import INTERVALS
from lorank.ranking.metrics.significance import TESTS, holm

TIE = 1e-9
"""Two values of a query that differ by no more are a tie."""


@dataclass(frozen=True)
class Design:
    """How systems are compared: test, kind of interval, seed, resamples, confidence, and which pairs."""

    test: str = "randomization"
    interval: str = "percentile"
    seed: int = 0
    resamples: int = 10_000
    confidence: float = 0.95
    pairs: str = "baseline+best"


Pairing = Callable[[int, int, int], list[tuple[int, int]]]


def against_baseline(count: int, baseline: int, best: int) -> list[tuple[int, int]]:
    """Pair every system with the baseline."""
    return [(i, baseline) for i in range(count) if i != baseline]


def against_baseline_and_best(count: int, baseline: int, best: int) -> list[tuple[int, int]]:
    """Pair every system with the baseline, and the best with every other.

    >>> against_baseline_and_best(3, baseline=0, best=2)
    [(1, 0), (2, 0), (2, 1)]
    """
    pairs = against_baseline(count, baseline, best)
    return pairs + [(best, i) for i in range(count) if best not in (i, baseline) and i != baseline]


def every_pair(count: int, baseline: int, best: int) -> list[tuple[int, int]]:
    """Pair every system with every earlier one."""
    return [(j, i) for i, j in combinations(range(count), 2)]


PAIRS: dict[str, Pairing] = {
    "baseline": against_baseline,
    "baseline+best": against_baseline_and_best,
    "all": every_pair,
}


def compare_systems(
    names: list[str],
    values: np.ndarray,
    resampled: np.ndarray,
    measure: str,
    baseline: str | None,
    design: Design,
    member: np.ndarray,
) -> list[Comparison]:
    """Return the comparisons that ``design`` asks for, with Holm's correction over all of them.

    Args:
        names: The systems.
        values: [queries, systems] of the measure.
        resampled: [resamples, systems], bootstrap means on the same resamples.
        measure: Its name.
        baseline: A name, or None for the first.
        design: How to compare.
        member: [queries], the group of each; a group's differences are tested as one.
    """
    base = 0 if baseline is None else names.index(baseline)
    pairs = PAIRS[design.pairs](len(names), base, int(values.mean(0).argmax()))
    if not pairs:
        return []
    ours, theirs = np.array(pairs).T
    differences = values[:, ours] - values[:, theirs]
    differences[np.abs(differences) <= TIE] = 0.0
    rng = np.random.default_rng(design.seed)
    p = TESTS[design.test](sums(differences, member), rng=rng, resamples=design.resamples)
    corrected = holm(p)
    moved = resampled[:, ours] - resampled[:, theirs]
    bounds = INTERVALS[design.interval]
    return [
        Comparison(
            system=names[i],
            baseline=names[j],
            measure=measure,
            difference=float(differences[:, c].mean()),
            interval=bounds(moved[:, c], differences[:, c], design.confidence),
            p=float(p[c]),
            p_holm=corrected[c],
            wins=int((differences[:, c] > 0).sum()),
            ties=int((differences[:, c] == 0).sum()),
            losses=int((differences[:, c] < 0).sum()),
        )
        for c, (i, j) in enumerate(pairs)
    ]
