r"""Fairness of rankers over a collection: what groups of documents get, who of those who ask is served worse, bias by
rank.

Of each query's first documents that hold both groups: the measures of `lorank.ranking.fairness`, averaged over
queries. The score gap is the mean score of protected documents minus that of others, in units of the list's standard
deviation, averaged over queries. An adapter of low rank may leave the bias of its base where full tuning takes it
away; ``bias_by_rank`` reads the rank of each ranker's adapter and puts the gaps beside it.

Paper: S. Das, M. Romanelli, C. Tran et al., Low-rank finetuning for LLMs: A fairness perspective, 2024.

*Deviations*: the paper measures toxicity and demographic gaps of text generators; these are the gaps of a ranker.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lorank.catalogue import catalogued
from lorank.data.bad_rows import collected
from lorank.errors import DataError, OnBad, UsageError, unknown_name
from lorank.ranking.fairness import FAIRNESS_MEASURES, measure_fairness
from lorank.ranking.fairness.reranking import rerank_fairly
from lorank.ranking.metrics.measures import per_query
from lorank.ranking.scorers.ranker import Ranker
from lorank.ranking.types import Qrels, Run, order_documents
from lorank.reading import lines, parse_number
from lorank.tuned.ranker import TunedRanker, score_run
from lorank.tuned.stress import Domain


def read_groups(path: str | Path, *, on_bad: OnBad | None = None) -> dict[str, str]:
    """Return the group of each id, from a file of ids and groups separated by a tab.

    Raises:
        DataError: For lines without two columns, and ids of two groups: all in one report, where nothing receives them.
    """
    found: dict[str, str] = {}
    with collected(on_bad) as bad:
        for number, line in lines(str(path), bad):
            columns = line.rstrip("\r\n").split("\t")
            if len(columns) != 2 or not all(columns):
                bad(DataError(path, number, "not two columns", "write the id, a tab, and its group"), line)
            elif found.setdefault(columns[0], columns[1]) != columns[1]:
                bad(DataError(path, number, f"{columns[0]!r} has two groups", "give each id one group"), line)
    if not found:
        raise DataError(path, None, "no groups", "write the id, a tab, and its group per line")
    return found


def check_protected(groups: Mapping[str, str], protected: str | None) -> str:
    """Return the protected group: the named one, or else the smallest; raise UsageError for an unknown one."""
    sizes = {group: list(groups.values()).count(group) for group in sorted(set(groups.values()))}
    if len(sizes) < 2:
        raise UsageError("all ids are of one group; fairness is between two at least")
    if protected is None:
        return min(sizes, key=lambda group: (sizes[group], group))
    if protected not in sizes:
        raise unknown_name("group", protected, sizes)
    return protected


@dataclass(frozen=True)
class GroupExposure:
    """The mean of each fairness measure over the queries whose lists hold both groups, and the score gap."""

    measures: dict[str, float]
    score_gap: float
    queries: int


def judge_exposure(run: Run, groups: Mapping[str, str], protected: str, depth: int) -> GroupExposure:
    """Return the fairness of a run's first ``depth`` documents per query.

    Args:
        run: The scores of the documents of each query.
        groups: The group of each document; documents without one are left out.
        protected: The protected group; all others are the other one.
        depth: How many documents of a list are looked at.

    Raises:
        UsageError: If no list holds both groups.
    """
    values: dict[str, list[float]] = {name: [] for name in FAIRNESS_MEASURES}
    gaps = []
    for row in run.values():
        known = [document for document in order_documents(row) if document in groups][:depth]
        order = np.array([groups[document] == protected for document in known], bool)
        if len(order) < 2 or order.all() or not order.any():
            continue
        scores = np.array([row[document] for document in known])
        spread = float(scores.std())
        gaps.append((float(scores[order].mean()) - float(scores[~order].mean())) / spread if spread > 0 else 0.0)
        for name, found in values.items():
            found.append(measure_fairness(name, order))
    if not gaps:
        raise UsageError("no query's list holds documents of the protected group and of others")
    return GroupExposure({name: float(np.mean(row)) for name, row in values.items()}, float(np.mean(gaps)), len(gaps))


@dataclass(frozen=True)
class ConstrainedRun:
    """A run reranked under floors, the mean of a measure before and after, and the fairness of both."""

    run: Run
    before: float
    after: float
    exposed_before: GroupExposure
    exposed_after: GroupExposure

    @property
    def price(self) -> float:
        """What the measure lost."""
        return self.before - self.after


def constrain(
    run: Run,
    groups: Mapping[str, str],
    protected: str,
    qrels: Qrels,
    *,
    share: float | None = None,
    depth: int = 100,
    measure: str = "nDCG@10",
) -> ConstrainedRun:
    """Return the run whose prefixes hold the protected group's share, and what that costs in the measure.

    Args:
        run: The scores of the documents of each query.
        groups: The group of each document; one without a group counts as of the other.
        protected: The protected group.
        qrels: The judgments.
        share: The least share of the protected group; None takes its share among the documents of each list.
        depth: How many documents of a list are reranked; the others keep their places after them.
        measure: What the price is stated in.
    """
    made: Run = {}
    for query, row in run.items():
        order = order_documents(row)
        head = order[:depth]
        kinds = ["protected" if groups.get(document) == protected else "other" for document in head]
        least = None if share is None else {"protected": share} if "protected" in kinds else {}
        fair = rerank_fairly([row[d] for d in head], kinds, least)
        final = [head[i] for i in fair.order] + order[depth:]
        made[query] = {document: float(len(final) - place) for place, document in enumerate(final)}
    judged = {query: qrels[query] for query in run if query in qrels}
    if not judged:
        raise UsageError("the run holds no judged query, so the price cannot be stated")
    before, after = (float(np.mean(list(per_query(each, judged, [measure])[measure].values()))) for each in (run, made))
    depth = min(depth, max(map(len, run.values()), default=depth))
    return ConstrainedRun(
        made,
        before,
        after,
        judge_exposure(run, groups, protected, depth),
        judge_exposure(made, groups, protected, depth),
    )


@dataclass(frozen=True)
class BiasOfRank:
    """A ranker: the highest rank of its adapter (None without one), its fairness, and the measure."""

    name: str
    rank: int | None
    exposed: GroupExposure
    quality: float


@catalogued(
    "lowrank-fairness",
    area="fair",
    title="Low-rank finetuning for LLMs: A fairness perspective",
    reach="it judges what was trained: lorank fairness --data D --document-groups F --ranker minilm --ranker runs/r1 "
    "...",
)
def bias_by_rank(
    rankers: Mapping[str, Ranker],
    domain: Domain,
    groups: Mapping[str, str],
    protected: str,
    *,
    depth: int = 100,
    measure: str = "nDCG@10",
) -> list[BiasOfRank]:
    """Return the bias of rankers over the same candidates, in the order of their adapters' ranks.

    Args:
        rankers: The rankers by name, the untuned base among them.
        domain: The collection, its queries and candidates.
        groups: The group of each document.
        protected: The protected group.
        depth: How many documents of a list are looked at.
        measure: The measure of quality.
    """
    found = []
    for name, ranker in rankers.items():
        run = score_run(ranker, domain.data, domain.queries, domain.candidates)
        quality = float(np.mean(list(per_query(run, domain.qrels, [measure])[measure].values())))
        found.append(BiasOfRank(name, rank_of(ranker), judge_exposure(run, groups, protected, depth), quality))
    return sorted(found, key=lambda row: -1 if row.rank is None else row.rank)


def rank_of(ranker: Ranker) -> int | None:
    """Return the highest rank of a tuned ranker's adapter, None where it has none."""
    adapter = ranker.adapter if isinstance(ranker, TunedRanker) else None
    return None if adapter is None else max((form.rank for form in adapter.forms.values()), default=0)


def read_table(
    path: str | Path, by: str, group: str, *, on_bad: OnBad | None = None
) -> tuple[np.ndarray, Sequence[str]]:
    """Return the scores and groups of the rows of a CSV file.

    Raises:
        DataError: For columns that there are not, and scores that are no numbers.
    """
    import csv
    import io

    from lorank.reading import read_whole

    rows = csv.DictReader(io.StringIO(read_whole(str(path))))
    for column in (by, group):
        if column not in (rows.fieldnames or []):
            raise DataError(path, 1, f"no column {column!r}", f"there are: {', '.join(rows.fieldnames or [])}")
    scores, groups = [], []
    with collected(on_bad) as bad:
        for row in rows:
            value = parse_number(str(row[by]))
            if value is None:
                bad(DataError(path, rows.line_num, f"{by} is {row[by]!r}, no number", "write a finite number"), row)
                continue
            scores.append(float(value))
            groups.append(str(row[group]))
    return np.array(scores), groups
