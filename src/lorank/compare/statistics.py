"""What the trials of an experiment say: means with intervals, paired tests, and what the collections could show.

The unit is the independent group of queries, and seeds are a second level (`lorank.ranking.metrics.hierarchical`). A
pair of rows with one seed each is tested by flipping the signs of groups, and its interval holds the differences that
this test does not reject; both hold for groups of any sizes. Where a row has several seeds, the t test over both levels
and the interval of the bootstrap take their place, since signs of groups know nothing of another training.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from lorank.compare.collection_statistics import compare_collection
from lorank.compare.found_statistics import CollectionStatistics
from lorank.compare.judged_values import collections_of, gather_values
from lorank.compare.mean_statistics import average_collections
from lorank.compare.results import ExperimentResult
from lorank.errors import UsageError


@dataclass(frozen=True)
class ExperimentStatistics:
    """The statistics of each collection and measure, and of the mean over collections where it is honest."""

    collections: Sequence[CollectionStatistics]
    mean: CollectionStatistics | None = None


def compute_statistics(result: ExperimentResult) -> ExperimentStatistics:
    """Return the statistics of an experiment.

    Args:
        result: The experiment; its ``statistics`` say how rows are compared.

    Raises:
        UsageError: for an experiment without rows or measures, a baseline that is no row, or values that cannot be
            compared (`lorank.compare.judged_values.gather_values`).
    """
    if not result.rows or not result.measures:
        raise UsageError(f"experiment {result.name!r} has no {'rows' if result.measures else 'measures'} to compare")
    names = {row.name for row in result.rows}
    if result.baseline is not None and result.baseline not in names:
        raise UsageError(f"the baseline {result.baseline!r} is no row; known: {', '.join(sorted(names))}")
    collections = [
        compare_collection(gather_values(result, data), result.measures, result.baseline, result.statistics)
        for data in collections_of(result)
    ]
    return ExperimentStatistics(collections, average_collections(collections, result.measures, result.statistics))
