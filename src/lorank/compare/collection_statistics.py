"""The statistics of one collection, and what a reader must know of them."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from lorank.compare.found_statistics import CollectionStatistics
from lorank.compare.judged_values import JudgedValues
from lorank.compare.pair_statistics import compare_rows
from lorank.compare.statistics_settings import StatisticsSettings

MOST_NAMES = 4
"""Rows of one seed that a note names one by one."""
LARGE_GROUP = 0.25
"""The notes name a group with a larger share of the queries."""


def compare_collection(
    judged: JudgedValues, measures: Sequence[str], baseline: str | None, settings: StatisticsSettings
) -> CollectionStatistics:
    """Return the statistics of one collection.

    Args:
        judged: The values of its rows.
        measures: The measures.
        baseline: The row that the others are compared with; None compares all pairs.
        settings: How rows are compared.
    """
    notes = list(judged.notes)
    names = list(judged.rows)
    if baseline is not None and baseline not in judged.rows:
        why = f"failed: {judged.failed[baseline]}" if baseline in judged.failed else "is no row of this collection"
        notes.append(f"The baseline {baseline} {why}. The comparisons with it are left out.")
    if judged.groups == 1:
        notes.append("All queries form one group, of which no interval and no test can be computed.")
    elif (
        judged.rows
        and 2.0 ** (1 - judged.groups) > settings.level
        and all(len(r.trials) < 2 for r in judged.rows.values())
    ):
        notes.append(f"With {judged.groups} groups no randomisation test can reach the level {settings.level:g}.")
    largest = np.bincount(judged.member).max() / len(judged.queries) if judged.queries else 0.0
    if judged.groups > 1 and largest > LARGE_GROUP:
        notes.append(
            f"One group holds {largest:.0%} of the queries, as they share relevant documents. Far fewer than "
            f"{judged.groups} groups inform on the rows, so intervals are wide and little can be found."
        )
    if len(names) == 1:
        notes.append(f"{names[0]} is the only row with a result, so nothing is compared.")
    seeded = {name: len(row.trials) for name, row in judged.rows.items() if row.seeded}
    notes += _describe_single_seeds([name for name, seeds in seeded.items() if seeds == 1], len(seeded))
    pairs = _pairs(names, baseline, settings)
    found = {measure: compare_rows(judged, measure, pairs, settings) for measure in measures} if names else {}
    return CollectionStatistics(
        judged.data,
        len(judged.queries),
        judged.groups if names else 0,
        found,
        judged.failed,
        baseline if baseline in judged.rows else None,
        notes,
        judged,
    )


def _describe_single_seeds(single: Sequence[str], trained: int) -> list[str]:
    """Return the note on the rows of one seed, by name where they are few.

    >>> _describe_single_seeds(["lora"], 2)[0]
    'lora has one seed: how far another seed would move it is not covered by its intervals and tests.'
    >>> _describe_single_seeds(["a", "b", "c", "d", "e"], 7)[0].partition(":")[0]
    '5 of 7 trained rows have one seed'
    """
    if not single:
        return []
    who = ", ".join(single) if len(single) <= MOST_NAMES else f"{len(single)} of {trained} trained rows"
    if len(single) == trained > 1:
        who = "Every trained row"
    one = len(single) in (1, trained)
    has, it, its = ("has", "it", "its") if one else ("have", "them", "their")
    return [f"{who} {has} one seed: how far another seed would move {it} is not covered by {its} intervals and tests."]


def _pairs(names: Sequence[str], baseline: str | None, settings: StatisticsSettings) -> list[tuple[str, str]]:
    if baseline is None or settings.pairs == "all":
        both = [(later, earlier) for earlier, later in combinations(names, 2)]
        return [(b, a) if a == baseline else (a, b) for a, b in both]
    return [(name, baseline) for name in names if name != baseline] if baseline in names else []
