"""Candidate lists: runs checked against a collection, and training lists drawn from them.

Negatives are drawn at random from a query's candidates that are not judged relevant. Judgments are incomplete,
so the unjudged candidates that score like a relevant document are spared. With p the lowest first-stage
score of a judged relevant candidate, an unjudged candidate of score s is left out where

    s > p - (1 - spare) |p|        (for p > 0: s > spare * p)

which is TopK-PercPos of NV-Retriever (Moreira et al. 2024, arXiv 2407.15831) with ``spare = 0.95``.

*Deviations*: the paper has positive scores and one positive a query; here the margin has |p|, so that it goes
downwards for negative scores too, and the lowest positive counts. Where the first stage found no judged relevant
document of a query, every candidate scored above it, so by the same rule every unjudged candidate is spared.
Documents judged 0 are never spared. What is then missing is drawn from the whole collection (``fill``).
Candidates whose scores are equal within every query carry no first-stage order (rows of feature files, training
rows without teacher scores): nothing is spared and nothing is filled.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np

from lorank.data.bad_rows import collected
from lorank.data.collection import Collection, Split
from lorank.data.trec import read_run, run_rows
from lorank.errors import DataError, OnBad, UsageError
from lorank.ranking.types import Run, order_documents


@dataclass(frozen=True)
class TrainingList:
    """One query's list: ``documents`` int64 [n] are positions in the collection, ``labels`` float32 [n].

    ``first_stage`` float32 [n] holds the candidates' scores, or None where they carry no order; a document that
    the first stage missed has the query's lowest score. A list of a click log has ``positions`` int64 [n], counted
    from 1, and ``propensities`` float32 [n] where the log states them. A list that many impressions were folded into
    has ``shown_at`` and ``clicked_at`` float32 [n, k] in their place: in how many impressions a document stood at a
    position, and the clicks that it had there, both up to one factor.
    """

    query_id: str
    documents: np.ndarray
    labels: np.ndarray
    first_stage: np.ndarray | None = None
    positions: np.ndarray | None = None
    propensities: np.ndarray | None = None
    shown_at: np.ndarray | None = None
    clicked_at: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.documents)


def from_run(
    run: Run | str | Path,
    collection: Collection,
    split: Split | str,
    depth: int | None = None,
    *,
    path: str | Path | None = None,
    unknown: Literal["error", "skip"] = "error",
    on_bad: OnBad | None = None,
) -> Run:
    """Return the candidates of the split's queries: the best of each in trec_eval's order.

    Queries of the collection's other splits are passed over.

    Args:
        run: The run, or the path of its file.
        collection: The collection that the run ranks.
        split: The split, or its name in the collection.
        depth: The most candidates per query, 0 or more; None keeps all.
        path: The file that a run in memory came from, so that errors can name its line.
        unknown: With ``skip``, queries that no split has are passed over, for runs that cover unjudged queries too.
        on_bad: What is called with the row of each query or document that the collection does not have, which is left
            out, where the run came from a file.

    Raises:
        DataError: If no split has a query or a document is not in the collection, with one report of all, and if no
            query of the split is in the run.
    """
    with collected(on_bad) as found:
        if isinstance(run, str | Path):
            run, path = read_run(run, on_bad=found), run
        _report_strangers(run, collection, split, path, unknown, found)
    chosen = collection.split(split) if isinstance(split, str) else split
    position = collection.position
    kept = {
        query: {document: run[query][document] for document in order_documents(run[query]) if document in position}
        for query in chosen.queries
        if query in run
    }
    kept = {query: dict(islice(row.items(), depth)) for query, row in kept.items()}
    if not kept and chosen.queries:
        raise DataError(
            path or "run", None, f"no query of the split {chosen.name!r} is in the run", "make the run for this split"
        )
    return kept


def _report_strangers(
    run: Run, collection: Collection, split: Split | str, path: str | Path | None, unknown: str, on_bad: OnBad
) -> None:
    """Report the queries and documents of a run that its collection does not have."""
    queries = {query for each in collection.splits.values() for query in each.queries}
    queries.update(split.queries if isinstance(split, Split) else ())
    position, name = collection.position, collection.name
    problems: dict[tuple[str, str | None], tuple[str, str]] = {}
    for query, row in run.items():
        if query not in queries:
            if unknown == "error":
                problem = f"query {query!r} is in no split of collection {name!r}"
                problems[query, None] = problem, "give the run of this collection, or remove the query's rows"
        elif not row.keys() <= position.keys():
            for document in row.keys() - position.keys():
                problem = f"document {document!r} is not in collection {name!r}"
                problems[query, document] = problem, "give the run of this collection, or remove the row"
    if not problems:
        return
    if path is None or not Path(path).is_file():
        raise DataError(path or "run", None, *next(iter(problems.values())))
    for line in run_rows(path, _pass_over):
        for key in ((line.query, None), (line.query, line.document)):
            if key in problems:
                on_bad(DataError(path, line.line, *problems.pop(key)), f"{line.query}\t{line.document}\t{line.value}")


def _pass_over(error: DataError, row: object) -> None:
    """Pass over a bad row in a second reading; the first reported it."""


def training_lists(
    split: Split,
    collection: Collection,
    candidates: Run | None = None,
    *,
    negatives: int | None = 16,
    positives: int | None = None,
    spare: float | None = 0.95,
    fill: bool = True,
    empty: bool = False,
    rng: np.random.Generator,
) -> list[TrainingList]:
    """Draw one list for every query of the split that has a relevant document: its positives, then negatives.

    A grade below 0 (a loss of money, a teacher's score) is a label like any other, and a query with one such has a list
    too. Equal generators give equal lists.

    Args:
        split: The queries and their judgments.
        collection: The collection that holds the documents.
        candidates: The first-stage scores of each query's candidates; None takes those that came with the split.
        negatives: The most negatives per list, 0 or more; None takes all.
        positives: The most positives per list, 1 or more; None takes all.
        spare: The share, from 0 to 1, of the lowest relevant document's score above which unjudged candidates are
            spared; None spares none.
        fill: True draws what is missing of ``negatives`` from the whole collection (texts with first-stage scores
            only).
        empty: True gives a list to the queries too that are judged and have no relevant document.
        rng: The source of the draws.

    Raises:
        UsageError: If there are no candidates, or ``spare`` is out of its range.
        DataError: If a document is not in the collection.
    """
    candidates = split.candidates if candidates is None else candidates
    if candidates is None:
        raise UsageError(f"split {split.name!r} came without candidates; make a run of a first stage for it")
    if spare is not None and not 0 <= spare <= 1:
        raise UsageError(f"spare is {spare}; take a share from 0 to 1, or None for no sparing")
    has_order = any(min(row.values()) < max(row.values()) for row in candidates.values() if row)
    fill = fill and has_order and not collection.has_features
    lists = []
    for query in split.queries:
        judged = split.qrels.get(query, {})
        graded = judged.values()
        if any(grade > 0 for grade in graded) or any(grade < 0 for grade in graded) or (empty and judged):
            lists.append(
                _list_of(
                    query,
                    judged,
                    candidates.get(query, {}),
                    collection,
                    negatives,
                    positives,
                    spare if has_order else None,
                    fill,
                    has_order,
                    rng,
                )
            )
    return lists


def _positions(collection: Collection, documents: Iterable[str], query: str) -> np.ndarray:
    position = collection.position
    try:
        return np.array([position[document] for document in documents], np.int64)
    except KeyError as error:
        raise DataError(
            "candidates",
            None,
            f"query {query!r}: document {error.args[0]!r} is not in collection {collection.name!r}",
            "give candidates and judgments of this collection",
        ) from error


def _list_of(
    query: str,
    judged: dict[str, int | float],
    row: dict[str, float],
    collection: Collection,
    negatives: int | None,
    positives: int | None,
    spare: float | None,
    fill: bool,
    has_order: bool,
    rng: np.random.Generator,
) -> TrainingList:
    names = list(row)
    scores = np.fromiter(row.values(), np.float64, len(row))
    grades = np.fromiter((judged.get(name, np.nan) for name in names), np.float64, len(names))
    lowest = float(scores.min()) if len(scores) else 0.0

    relevant = [name for name, grade in judged.items() if grade > 0]
    relevant = _draw(np.array(relevant, object), positives, rng).tolist()
    pool = np.flatnonzero(~(grades > 0) & ~_spare(scores, grades, spare))
    pool = _draw(pool, negatives, rng)
    documents = [_positions(collection, relevant, query), _positions(collection, [names[i] for i in pool], query)]
    first_stage = [np.array([row.get(name, lowest) for name in relevant]), scores[pool]]
    if fill and negatives is not None and len(pool) < negatives:
        known = _positions(collection, [*judged, *names], query)
        more = _others(len(collection.document_ids), known, negatives - len(pool), rng)
        documents.append(more)
        first_stage.append(np.full(len(more), lowest))
    labels = np.zeros(sum(map(len, documents)), np.float32)
    labels[: len(relevant)] = [judged[name] for name in relevant]
    labels[len(relevant) : len(relevant) + len(pool)] = np.nan_to_num(grades[pool])
    return TrainingList(
        query, np.concatenate(documents), labels, np.concatenate(first_stage).astype(np.float32) if has_order else None
    )


def _spare(scores: np.ndarray, grades: np.ndarray, spare: float | None) -> np.ndarray:
    """Return which candidates are unjudged (grade NaN) and score like a relevant one (grade above 0)."""
    if spare is None:
        return np.zeros(len(scores), bool)
    relevant = scores[grades > 0]
    if not len(relevant):
        return np.asarray(np.isnan(grades))
    p = float(relevant.min())
    return np.asarray(np.isnan(grades) & (scores > p - (1 - spare) * abs(p)))


def _draw(items: np.ndarray, most: int | None, rng: np.random.Generator) -> np.ndarray:
    if most is None or len(items) <= most:
        return items
    return items[np.sort(rng.choice(len(items), most, replace=False))]


def _others(size: int, known: np.ndarray, wanted: int, rng: np.random.Generator) -> np.ndarray:
    """Return up to ``wanted`` different positions below ``size`` that are not ``known``, uniformly."""
    if size <= 4 * (len(known) + wanted):
        return _draw(np.setdiff1d(np.arange(size), known), wanted, rng)
    drawn = rng.permutation(np.unique(rng.integers(size, size=2 * (wanted + len(known)))))
    fresh = drawn[~np.isin(drawn, known)][:wanted]
    return fresh if len(fresh) == wanted else _draw(np.setdiff1d(np.arange(size), known), wanted, rng)
