r"""Best of mini-N in a loop: draw a few candidates at a time and stop at the first that is good enough.

    draw n, n more, ...; stop once \max_i r_i > t, or N candidates are drawn; return the best

With rewards of an outside option (``contextual-quality-rm``) 0 is what is just acceptable, and a threshold above it
is found on judged answers.

Paper: A Contextual Quality Reward Model for Reliable and Efficient Best-of-N Sampling, 2025.

*Deviations*: reconstructed from the description. Assumed: the threshold is the lowest above which the share of
acceptable answers among those judged is as asked.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from lorank.errors import UsageError

T = TypeVar("T")


@dataclass(frozen=True)
class BestOf(Generic[T]):
    """The best candidate, its reward, how many were drawn, and whether it passed the threshold."""

    best: T
    reward: float
    drawn: int
    accepted: bool


def best_of_mini_n(
    draw: Callable[[int], Sequence[T]],
    reward: Callable[[Sequence[T]], Sequence[float]],
    *,
    size: int = 4,
    most: int = 32,
    threshold: float = 0.0,
) -> BestOf[T]:
    """Return the best of the candidates drawn until one has a reward above ``threshold``.

    Args:
        draw: Gives that many new candidates.
        reward: Gives one reward a candidate.
        size: Candidates of one draw, 1 or more.
        most: N, candidates in all, ``size`` or more.
        threshold: t; infinity is plain best of N.

    >>> numbers = iter([1, 5, 2, 9])
    >>> best_of_mini_n(lambda n: [next(numbers) for _ in range(n)], lambda xs: xs, size=2, most=4, threshold=4)
    BestOf(best=5, reward=5.0, drawn=2, accepted=True)
    """
    if not 1 <= size <= most:
        raise UsageError(f"size must be from 1 to most; got {size} and {most}")
    found: list[tuple[float, T]] = []
    drawn = 0
    while drawn < most:
        candidates = draw(min(size, most - drawn))
        drawn += len(candidates)
        found += zip(map(float, reward(candidates)), candidates, strict=True)
        value, best = max(found, key=lambda pair: pair[0])
        found = [(value, best)]
        if value > threshold:
            return BestOf(best, value, drawn, True)
    return BestOf(best, value, drawn, False)


def acceptance_threshold(rewards: Sequence[float], acceptable: Sequence[bool], share: float = 0.9) -> float:
    """Return the lowest threshold above which at least ``share`` of the judged answers are acceptable.

    Raises UsageError where no threshold does that.

    >>> acceptance_threshold([-1.0, 0.5, 1.0, 2.0], [False, False, True, True], share=1.0)
    0.5
    """
    values, good = np.asarray(rewards, float), np.asarray(acceptable, bool)
    if values.shape != good.shape or not 0 < share <= 1:
        raise UsageError(f"give one judgment a reward and a share in (0, 1]; got {len(values)}, {len(good)}, {share}")
    order = np.argsort(-values, kind="stable")
    right = np.cumsum(good[order]) / np.arange(1, len(order) + 1)
    last = np.append(values[order][1:] < values[order][:-1], True)  # equal rewards pass together
    passing = np.flatnonzero((right >= share) & last)
    if not len(passing):
        raise UsageError(f"no reward is high enough that {share:.0%} of the answers above it are acceptable")
    at = passing[-1]
    return float(values[order][at + 1]) if at + 1 < len(order) else float(np.nextafter(values[order][at], -np.inf))
