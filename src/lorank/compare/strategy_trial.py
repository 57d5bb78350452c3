"""Rows whose ranker is asked by a strategy: an LLM under a budget, with its answers kept in the experiment's folder.

Each trial keeps answers of its own: what a row cost is then what it costs alone, whichever row was run before it.
"""

import hashlib
import time
from pathlib import Path

from lorank.compare.trial import Trial
from lorank.data.collection import Collection
from lorank.progress import StageCallback
from lorank.ranking.judges import Budget, Cache
from lorank.ranking.judges.opening import judge_of
from lorank.ranking.judges.ranker_judge import RankerJudge
from lorank.ranking.strategies.by_model import is_by_model
from lorank.ranking.strategies.candidate_list import CandidateList
from lorank.ranking.strategies.runs import Manner, rerank_lists, run_scores, with_tail
from lorank.ranking.types import Run, order_documents
from lorank.tuned.naming import recognise
from lorank.tuned.open_ranker import open_ranker


def ask_judge(
    trial: Trial, part: Collection, candidates: Run, out: Path, on_progress: StageCallback
) -> tuple[Run, Run, dict[str, float]]:
    """Return no dev run, the test run as the strategy orders it, and what asking cost.

    Args:
        trial: The trial, whose row names a strategy.
        part: The collection.
        candidates: The first-stage candidates of the test queries.
        out: The experiment's folder.
        on_progress: It receives the number of queries that are done.
    """
    external = trial.external
    assert external is not None
    assert external.ranker is not None
    assert external.strategy is not None
    if recognise(external.ranker).kind == "judge":
        judge = judge_of(external.ranker)
    else:
        ranker = open_ranker(external.ranker, kind=trial.recipe.kind, reading=trial.recipe.reading)
        judge = RankerJudge(ranker, name=RankerJudge(ranker.ranker).identity)
    budget = None if external.budget is None else Budget.parse(external.budget)
    manner = Manner(external.strategy, external.top, budget, seed=trial.recipe.seed, options=dict(external.options))
    lists = [
        CandidateList(q, part.test.queries[q], ids, [str(part.documents[part.position[d]]) for d in ids])
        for q, row in candidates.items()
        if (ids := order_documents(row))
    ]
    name = hashlib.sha256(trial.key.encode()).hexdigest()[:12]
    cache = None if is_by_model(external.strategy) else Cache(out / "shared" / f"answers-{name}.jsonl")
    began, done = time.monotonic(), []
    try:
        for one in rerank_lists(lists, lambda given: judge, manner, cache=cache):
            done.append(one)
            on_progress(f"{trial.row}: queries", len(done), len(lists))
    finally:
        if cache is not None:
            cache.close()
    run = {given.query_id: run_scores(given, one) for given, one in zip(lists, done, strict=True)}
    usages = [one.usage for one in done]
    cost = {
        "score_seconds": time.monotonic() - began,
        "calls": float(sum(usage.calls for usage in usages)),
        "tokens": float(sum(usage.tokens for usage in usages)),
    }
    return {}, with_tail(run, candidates), cost
