"""The candidates of a run, for rows that learn nothing, on a collection without a training split."""

from pathlib import Path

from lorank.data.candidates import from_run
from lorank.data.collection import Collection
from lorank.data.trec import read_run
from lorank.errors import UsageError
from lorank.ranking.types import Run
from lorank.training.lists.candidates import Candidates


def candidates_of_run(data: Collection, path: str, depth: int) -> Candidates:
    """Return a run's best documents as the candidates of dev and test; without training queries nothing is mixed.

    Args:
        data: The collection, whose documents the run names.
        path: The run file.
        depth: How many candidates a query has at most, 1 or more.

    Raises:
        UsageError: For a file that is not there.
    """
    if not Path(path).is_file():
        raise UsageError(f"first_stage.source: there is no run file {path}; give the path of one, or bm25")
    run = read_run(path)

    def best(name: str) -> Run:
        split = data.splits.get(name)
        covered = {query: run[query] for query in split.queries if query in run} if split else {}
        return from_run(covered, data, split, depth, path=path) if split and covered else {}

    return Candidates({}, best("dev"), None, f"run {Path(path).name}", test=best("test"))
