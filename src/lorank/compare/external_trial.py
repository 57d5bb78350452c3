"""Trials of rows that are not trained: a run, BM25, a ranker as it is, LambdaMART, a strategy that asks a judge."""

import time
from pathlib import Path

from lorank.compare.shared_work import SharedWork
from lorank.compare.trial import Trial
from lorank.data.collection import Collection
from lorank.data.trec import read_run
from lorank.progress import StageCallback
from lorank.ranking.consensus.fusion import standardise_run
from lorank.ranking.metrics.measures import mean_of
from lorank.ranking.types import Run
from lorank.training.lists.candidates import Candidates
from lorank.tuned.mix import choose_mix, mix_run
from lorank.tuned.naming import recognise
from lorank.tuned.open_ranker import open_ranker
from lorank.tuned.ranker import TunedRanker, rerank_run, score_run

Runs = tuple[Run, Run, dict[str, float]]
"""The dev run (empty where there is none), the test run, and the cost."""


def judge_external(trial: Trial, shared: SharedWork, out: Path, on_progress: StageCallback) -> Runs:
    """Return the runs of a row that is not trained, and what they cost.

    Args:
        trial: The trial.
        shared: What it shares with others.
        out: The experiment's folder, which keeps the answers of judges.
        on_progress: It receives stages.
    """
    assert trial.external is not None
    part, external, began = shared.part(trial), trial.external, time.monotonic()
    if external.run is not None:
        run = read_run(external.run)
        dev = {q: run[q] for q in part.dev.queries if q in run} if "dev" in part.splits else {}
        return dev, {q: run[q] for q in part.test.queries if q in run}, {}
    assert external.ranker is not None
    if external.strategy is not None:
        from lorank.compare.strategy_trial import ask_judge

        return ask_judge(trial, part, shared.candidates(trial, None).test or {}, out, on_progress)
    if external.ranker == "bm25" and not part.has_features:
        found = shared.candidates(trial, None)
        return found.dev, found.test or {}, {"score_seconds": time.monotonic() - began}
    fitted = recognise(external.ranker).kind == "trees"
    ranker = open_ranker(
        external.ranker,
        kind=trial.recipe.kind,
        label=None if trial.recipe.label is None else str(trial.recipe.label),
        reading=trial.recipe.reading,
        collection=part if fitted else None,
    )
    opened = time.monotonic()
    dev, test = _scored(trial, shared, part, ranker, fitted)
    cost = {"score_seconds": time.monotonic() - opened}
    return dev, test, cost | ({"train_seconds": opened - began} if fitted else {})


def _scored(trial: Trial, shared: SharedWork, part: Collection, ranker: TunedRanker, fitted: bool) -> tuple[Run, Run]:
    """Return the runs on dev and test: a tuned ranker's in its own mix, any other's in the mix that dev chooses."""
    found = shared.candidates(trial, ranker.ranker)
    if ranker.first_stage is not None:
        own = [rerank_run(ranker, part, queries, lists) for queries, lists in _lists(part, found)]
        return own[0], own[1]
    learned: Run = {}
    if fitted:
        for queries, lists in _lists(part, found):
            learned |= score_run(ranker, part, queries, lists)
    else:
        learned = shared.untuned(trial, ranker, found)
    own = [{q: {d: learned[q][d] for d in row} for q, row in lists.items() if row} for _, lists in _lists(part, found)]
    assert trial.external is not None
    if not (trial.external.mixed and found.has_first_stage and found.dev):
        return own[0], own[1]
    return mix_by_dev(trial, part, found, own[0], own[1])


def mix_by_dev(trial: Trial, part: Collection, found: Candidates, dev: Run, test: Run) -> tuple[Run, Run]:
    """Return the runs on dev and test, mixed with the first stage by the weight that dev chooses.

    Args:
        trial: The trial.
        part: Its collection.
        found: Its candidates, with their first-stage scores.
        dev: The ranker's own scores of dev.
        test: The ranker's own scores of test.
    """
    measure, qrels = trial.measures[0], part.dev.qrels
    first = [standardise_run({q: row for q, row in run.items() if row}) for run in (found.dev, found.test or {})]
    mix = choose_mix(first[0], dev, trial.recipe.first_stage.grid, lambda run: mean_of(run, qrels, measure))
    return mix_run(mix, first[0], dev), mix_run(mix, first[1], test)


def _lists(part: Collection, found: Candidates) -> list[tuple[dict[str, str], Run]]:
    dev = part.dev.queries if "dev" in part.splits else {}
    return [(dev, found.dev), (part.test.queries, found.test or {})]
