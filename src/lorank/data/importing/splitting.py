"""Splits for judged queries: as the sources say them, or made by groups of queries that share relevant documents."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from lorank.data.collection import SPLITS, Split
from lorank.data.folds import groups, subset
from lorank.errors import UsageError

SplitMode = Literal["auto", "given", "made"]
_FEWEST = 10


def parse_shares(text: str) -> tuple[float, ...]:
    """Return the shares of train, dev and test; raise UsageError for what is not three numbers from 0 up.

    >>> parse_shares("80,10,10")
    (0.8, 0.1, 0.1)
    """
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != 3 or min(numbers) < 0 or numbers[0] <= 0:
        raise UsageError(f"--shares {text!r}: write three numbers, such as 80,10,10 for train, dev and test")
    return tuple(number / sum(numbers) for number in numbers)


def make_splits(whole: Split, shares: Sequence[float], seed: int) -> tuple[dict[str, Split], str]:
    """Return train, dev and test made from one split, and how that was done.

    Queries that share a relevant document, a text or a group stay together. Where that would leave no part for dev or
    test, only those of equal text or group do.
    """
    if len(whole) < _FEWEST:
        return {"train": subset(whole, whole.queries, "train")}, f"{len(whole)} queries are too few to be split"
    wanted = np.array(shares) * len(whole)
    parts = deal(groups(whole, "target"), wanted, seed)
    how = "queries that share relevant documents stand in one split"
    if any(goal > 0 and not 0.5 * goal <= len(part) <= 2 * goal + 1 for goal, part in zip(wanted, parts, strict=True)):
        largest = max(map(len, groups(whole, "target")))
        parts = deal(groups(whole, "query"), wanted, seed)
        how = (
            f"{largest} of {len(whole)} queries are tied by shared relevant documents, too many to stay together: "
            "queries of equal text do, and dev and test hold documents that training saw"
        )
    names = [name for name, part in zip(SPLITS, parts, strict=True) if part]
    return {name: subset(whole, part, name) for name, part in zip(SPLITS, parts, strict=True) if name in names}, how


def deal(grouped: list[list[str]], wanted: np.ndarray, seed: int) -> list[list[str]]:
    """Deal groups to parts: in random order, the largest first, each to the part that lacks most of its share."""
    order = np.random.default_rng(seed).permutation(len(grouped))
    parts: list[list[str]] = [[] for _ in wanted]
    for i in sorted(order, key=lambda i: -len(grouped[i])):
        lacks = [(goal - len(part)) / goal if goal > 0 else -np.inf for goal, part in zip(wanted, parts, strict=True)]
        parts[int(np.argmax(lacks))].extend(grouped[i])
    return parts
