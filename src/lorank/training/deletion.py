r"""A ranker trained again without a share of its training data: what it owes to so many queries, or documents.

With Q the training queries, a uniform part of them is left out (``queries``); with D the documents, a uniform part of
those that are relevant to a training query is taken out of the collection that is trained on (``documents``), with what
is judged of them, so that they are neither positives nor negatives nor part of the first stage's statistics. The recipe
is the ranker's own. Both rankers are then judged on the same queries and candidates of the whole collection:

    drop rate = (m' - m) / m

Paper: C. Wu, R. Zhang, J. Guo, Y. Fan and X. Cheng, Are Neural Ranking Models Robust?, TOIS 2022 (the ranker sees less
of the world that it is judged on).

*Deviations*: no public code was found; the paper takes whole types of queries out of training.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from lorank.data.collection import Collection, Split
from lorank.data.folds import subset
from lorank.errors import DataError, UsageError
from lorank.progress import StageCallback
from lorank.ranking.metrics.groups import group_tied_queries, grouped_interval, membership
from lorank.ranking.metrics.measures import per_query
from lorank.ranking.robustness.stability import ListChange, compare_lists, drop_rate
from lorank.ranking.scorers.ranker import Ranker
from lorank.ranking.types import Run
from lorank.training.fitting import fit
from lorank.training.open_recipe import open_recipe_base
from lorank.training.recipe import RECORD, read_recipe
from lorank.tuned.naming import Named
from lorank.tuned.ranker import score_run
from lorank.tuned.stress import Domain
from lorank.tuned.text_trees import fit_text_trees

Deleted = Literal["queries", "documents"]


@dataclass(frozen=True)
class DeletionSettings:
    """What is deleted: a ``share`` of the training ``what``, and how long one training may take, in ``minutes``."""

    share: float
    what: Deleted = "queries"
    minutes: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise UsageError(f"the share of training data to delete is {self.share}; take one between 0 and 1")
        if self.what not in ("queries", "documents"):
            raise UsageError(f"delete queries or documents, not {self.what!r}")
        if self.minutes is not None and not self.minutes > 0:
            raise UsageError(f"minutes is {self.minutes}; it must be above 0")


@dataclass(frozen=True)
class RetrainingEffect:
    """A ranker against itself trained on less: the mean, the drop rate, the 95 % interval over groups of the difference
    of the measure, how far the lists moved, and how many training queries were left of how many."""

    mean: float
    drop: float
    interval: tuple[float, float]
    moved: ListChange
    left: int
    whole: int


def delete_training_data(data: Collection, settings: DeletionSettings) -> Collection:
    """Return the collection to train on, without a share of the training queries or of the relevant documents.

    >>> from lorank.data.collection import Collection, Split
    >>> train = Split("train", {f"q{i}": "a" for i in range(4)}, {f"q{i}": {"d": 1} for i in range(4)})
    >>> len(delete_training_data(Collection("c", ["d"], ["text"], {"train": train}), DeletionSettings(0.5)).train)
    2
    """
    rng = np.random.default_rng(settings.seed)
    train = data.train
    if settings.what == "queries":
        kept = _keep(sorted(train.queries), settings.share, rng)
        return replace(data, splits={**data.splits, "train": subset(train, kept, "train")})
    relevant = sorted({d for row in train.qrels.values() for d, grade in row.items() if grade > 0})
    gone = set(relevant) - set(_keep(relevant, settings.share, rng))
    places = [i for i, document in enumerate(data.document_ids) if document not in gone]
    documents = (
        data.documents[places] if isinstance(data.documents, np.ndarray) else [data.documents[i] for i in places]
    )
    titles = None if data.titles is None else [data.titles[i] for i in places]
    splits = {name: _without(split, gone) for name, split in data.splits.items()}
    ids = [data.document_ids[i] for i in places]
    return replace(data, document_ids=ids, documents=documents, titles=titles, splits=splits)


def _keep(names: list[str], share: float, rng: np.random.Generator) -> list[str]:
    left = max(1, round(len(names) * (1 - share)))
    return [names[int(i)] for i in np.sort(rng.permutation(len(names))[:left])]


def _without(split: Split, gone: set[str]) -> Split:
    qrels = {q: {d: grade for d, grade in row.items() if d not in gone} for q, row in split.qrels.items()}
    judged = [query for query, row in qrels.items() if any(grade > 0 for grade in row.values())]
    found = replace(split, qrels=qrels)
    if split.candidates is not None:
        lists = {q: {d: score for d, score in row.items() if d not in gone} for q, row in split.candidates.items()}
        found = replace(found, candidates=lists)
    return subset(found, judged, split.name)


def record_of(named: Named) -> Path | None:
    """Return the record of the run that a ranker comes from, None where nothing says how it was trained."""
    if named.folder is None:
        return None
    homes = (named.folder, named.folder.parent)
    return next((home / RECORD for home in homes if (home / RECORD).is_file()), None)


def expected_seconds(named: Named, settings: DeletionSettings) -> float | None:
    """Return about how long one training takes, by the record of the first, None where nothing says so."""
    record = record_of(named)
    if record is None:
        return None
    try:
        seconds = float(json.loads(record.read_text(encoding="utf-8"))["outcome"]["train_seconds"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(record, None, f"not the record of a run ({error!r})", "train the ranker again") from error
    return seconds if settings.minutes is None else min(seconds, 60 * settings.minutes)


def train_again(
    named: Named, data: Collection, out: Path, settings: DeletionSettings, on_progress: StageCallback
) -> Ranker:
    """Return the ranker trained on ``data`` by its own recipe, LambdaMART fitted on it.

    Args:
        named: The ranker: ``lambdamart``, or a run folder with its run.json.
        data: What it is trained on.
        out: A folder for the new run.
        settings: The bound on the time, and the seed of trees.
        on_progress: It receives the stage, the number of units done and their total.

    Raises:
        UsageError: For a ranker that nothing says how to train, and for one that learned from clicks.
    """
    if named.kind == "trees":
        return fit_text_trees(data, seed=settings.seed)
    record = record_of(named)
    if record is None:
        raise UsageError(
            f"{named.name} has no {RECORD}, so nothing says how it was trained; give the --out folder of `lorank train`"
        )
    plan = read_recipe(record)
    if plan.clicks is not None:
        raise UsageError(f"{named.name} learned from a click log, of which no judged training data can be deleted")
    minutes = plan.training.minutes if settings.minutes is None else settings.minutes
    plan = replace(plan, judge_test=False, training=replace(plan.training, minutes=minutes))
    return fit(open_recipe_base(plan, data), data, recipe=plan, out=out, on_progress=on_progress)


def compare_retrained(
    again: Ranker, base: Run, domain: Domain, measure: str, left: tuple[int, int], seed: int, on_progress: StageCallback
) -> RetrainingEffect:
    """Return how the ranker that was trained on less does against the whole one.

    Args:
        again: The ranker that was trained on less.
        base: The run of the whole one over the domain.
        domain: The queries and candidates.
        measure: What is measured.
        left: How many training queries were left, and how many there are.
        seed: The seed of the interval's draws.
        on_progress: It receives the stage, the number of units done and their total.
    """
    run = score_run(
        again,
        domain.data,
        domain.queries,
        {query: domain.candidates[query] for query in domain.queries},
        lambda done, total: on_progress("score what was trained on less", done, total),
    )
    before, after = (per_query(each, domain.qrels, [measure])[measure] for each in (base, run))
    names = list(before)
    member = membership(group_tied_queries(domain.qrels), names)
    differences = np.array([after[query] - before[query] for query in names])
    interval = grouped_interval(differences, member, rng=np.random.default_rng(seed), resamples=2000)
    mean = float(np.mean([after[query] for query in names]))
    drop = drop_rate(mean, float(np.mean([before[query] for query in names])))
    return RetrainingEffect(mean, drop, interval, compare_lists(base, run), *left)
