r"""Interleaving: two rankers share one list, and clicks say which is better.

An interleaving draws a list and says what a click on each of its documents is worth for the first ranker over the
second:
``credit`` [n], above 0 for the first. The outcome of a list is the sum of the clicked credits; over lists, a sign-flip
test of their mean being 0 gives p.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from lorank.errors import UsageError, unknown_name


@dataclass(frozen=True)
class Interleaved:
    """A shown list and the credit of a click on each document, for the first ranker."""

    documents: list[str]
    credit: list[float]

    def outcome(self, clicks: Sequence[int]) -> float:
        """Return the credit of the clicked documents.

        >>> Interleaved(["a", "b"], [1.0, -1.0]).outcome([0, 1])
        -1.0
        """
        return float(sum(c for c, click in zip(self.credit, clicks, strict=True) if click))


Interleaving = Callable[[Sequence[str], Sequence[str], int, np.random.Generator], Interleaved]
"""``interleaving(first, second, length, rng) -> Interleaved``"""

INTERLEAVINGS: dict[str, Interleaving] = {}
"""Every registered interleaving under its name."""


def interleaving(name: str, *, title: str) -> Callable[[Interleaving], Interleaving]:
    """Decorate an interleaving to enter it in ``INTERLEAVINGS``."""

    def enter(function: Interleaving) -> Interleaving:
        function.title = title  # type: ignore[attr-defined]
        INTERLEAVINGS[name] = function
        return function

    return enter


def interleave(
    first: Sequence[str], second: Sequence[str], length: int, rng: np.random.Generator, method: str = "team-draft"
) -> Interleaved:
    """Return a list of two rankings by the interleaving called ``method``.

    Args:
        first: The first ranking, best first, without repeats.
        second: The second ranking.
        length: How many documents are shown at most, 1 or more.
        rng: The source of the draws.
        method: A name in ``INTERLEAVINGS``.

    Raises:
        UsageError: For an unknown method, a document twice in a ranking, an empty ranking, or a length below 1.
    """
    if method not in INTERLEAVINGS:
        raise unknown_name("interleaving", method, INTERLEAVINGS)
    if length < 1 or not first or not second:
        raise UsageError(f"nothing to interleave: {len(first)} and {len(second)} documents, length {length}")
    if len(set(first)) < len(first) or len(set(second)) < len(second):
        raise UsageError("a ranking lists a document twice")
    return INTERLEAVINGS[method](first, second, length, rng)


@dataclass(frozen=True)
class Preference:
    """What interleaved lists say: the mean outcome, how often each ranker won, and p of no difference."""

    mean: float
    wins: int
    losses: int
    ties: int
    p: float


def preference(outcomes: Sequence[float], *, samples: int = 10_000, seed: int = 0) -> Preference:
    """Return the preference of many lists; p is of a two-sided sign-flip test of the mean.

    >>> preference([1.0] * 12).p < 0.01
    True
    """
    values = np.asarray(outcomes, float)
    if not len(values):
        raise UsageError("no outcome to test")
    rng, observed = np.random.default_rng(seed), abs(values.mean())
    moved = values[values != 0]
    extreme = 0
    for _ in range(0, samples, 1000):
        signs = rng.integers(0, 2, (1000, len(moved))) * 2 - 1
        extreme += int((np.abs((signs * moved).sum(1)) / len(values) >= observed - 1e-12).sum())
    wins, losses = int((values > 0).sum()), int((values < 0).sum())
    return Preference(float(values.mean()), wins, losses, len(values) - wins - losses, (extreme + 1) / (samples + 1))
