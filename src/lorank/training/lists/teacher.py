"""A teacher: another ranker's scores, or a run's, in the place of the labels of training lists.

    y_i = t(q, d_i)                for losses of any real labels: kl, margin-mse, mse
    y_i = 1 / (1 + exp(-t(q, d_i)))    for losses of probabilities: rcr, bce

A document that a run does not list has the lowest score of its query there. Lists are not shared: nobody knows what the
teacher says of other queries' documents.

Papers: Hinton, Vinyals, Dean 2015, arXiv:1503.02531; Hofstätter et al. 2020, arXiv:2010.02666.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from lorank.data.candidates import TrainingList
from lorank.data.collection import Collection, Split
from lorank.data.trec import read_run
from lorank.errors import DataError, UsageError
from lorank.progress import StageCallback
from lorank.ranking.types import Run
from lorank.training.settings import Recipe

REAL = ("kl", "distill-kl", "margin-mse", "marginmse", "pairwise-mse", "mse", "pointwise-mse")
"""Losses whose labels are any real numbers."""
PROBABILITIES = ("rcr", "bce")
"""Losses whose labels are probabilities."""


def check_teacher(recipe: Recipe) -> None:
    """Raise UsageError where a teacher's scores are not what the loss learns from."""
    if recipe.lists.teacher is None:
        return
    if recipe.loss.name not in (*REAL, *PROBABILITIES):
        raise UsageError(
            f"--teacher gives scores in the place of labels, which the loss {recipe.loss.name!r} does not take; choose "
            "--loss kl, margin-mse, mse, rcr or bce"
        )
    if recipe.lists.shared:
        raise UsageError("lists.shared: a teacher says nothing of other lists' documents; leave it out")


def teacher_run(
    recipe: Recipe, data: Collection, split: Split, candidates: Run, on_progress: StageCallback
) -> Run | None:
    """Return the teacher's scores of the training queries' documents, None where the recipe names no teacher.

    Args:
        recipe: The recipe, whose ``lists.teacher`` is the path of a run, or any ranker by its name.
        data: The collection.
        split: The training split.
        candidates: The candidates of its queries.
        on_progress: It receives the stage, the number of units that are scored and their total.

    Raises:
        DataError: Where a run lacks a training query.
    """
    name = recipe.lists.teacher
    if name is None:
        return None
    if Path(name).is_file():
        run = read_run(name)
        missing = [query for query in split.queries if query not in run]
        if missing:
            problem = f"the run lacks {len(missing)} training queries, e.g. {missing[0]!r}"
            raise DataError(name, None, problem, "write it over all of them with `lorank rerank`")
    else:
        from lorank.tuned.open_ranker import open_ranker
        from lorank.tuned.ranker import score_run

        listed = {
            query: candidates.get(query, {}) | dict.fromkeys(split.qrels.get(query, {}), 0.0) for query in split.queries
        }
        model = open_ranker(name, collection=data, flag="--teacher")
        run = score_run(model, data, split.queries, listed, partial(on_progress, "score the teacher"))
    if recipe.loss.name in PROBABILITIES:
        return {q: {d: float(1 / (1 + np.exp(-np.clip(s, -50, 50)))) for d, s in row.items()} for q, row in run.items()}
    return run


def labelled_by(teacher: Mapping[str, Mapping[str, float]], drawn: TrainingList, names: list[str]) -> TrainingList:
    """Return a list with the teacher's scores as its labels.

    Args:
        teacher: The scores by query and document.
        drawn: The list.
        names: The ids of its documents.

    >>> drawn = TrainingList("q", np.array([4, 2]), np.array([1.0, 0.0], np.float32), None)
    >>> labelled_by({"q": {"a": 3.5, "b": -1.0}}, drawn, ["a", "x"]).labels.tolist()
    [3.5, -1.0]
    """
    row = teacher.get(drawn.query_id, {})
    lowest = min(row.values(), default=0.0)
    return replace(drawn, labels=np.array([row.get(name, lowest) for name in names], np.float32))
