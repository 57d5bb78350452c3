"""A few queries before and after: the baseline's answers beside those of the best row."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from lorank.compare.results import RowResult
from lorank.data.collection import Collection
from lorank.data.trec import read_run
from lorank.reporting.examples import before_and_after


def examples_of(
    rows: Sequence[RowResult], collection: Collection, split: str, baseline: str | None, measure: str, out: Path
) -> list[Mapping[str, Any]]:
    """Return the queries of one collection at which the best row gains and loses most over the baseline.

    Without a baseline the best is compared with the row of the lowest mean. Feature rows have no texts to show, and
    rows without runs have nothing to read.

    Args:
        rows: The rows of the collection.
        collection: The collection.
        split: The judged split.
        baseline: The name of the baseline.
        measure: The measure by which a row is the best.
        out: The experiment's folder, which holds the runs of each row's first seed.
    """
    whole = [row for row in rows if row.failed is None and row.trials and row.trials[0].run is not None]
    if collection.has_features or len(whole) < 2:
        return []
    ordered = sorted(whole, key=lambda row: fmean(fmean(trial.test[measure].values()) for trial in row.trials))
    before = next((row for row in whole if row.name == baseline), ordered[0])
    after = next(row for row in reversed(ordered) if row is not before)
    paths = [out / str(row.trials[0].run) for row in (before, after)]
    if not all(path.is_file() for path in paths):
        return []
    first, second = (read_run(path) for path in paths)
    return list(before_and_after(collection, collection.split(split), (before.name, first), (after.name, second)))
