"""Whole runs: one candidate list a query, and the engine that works through the lists.

:func:`rerank_list` does all the work of one list and needs nothing but its arguments; an engine decides where and when
it is done, and hands the results back in the order of the lists. A further engine is one entry in ``ENGINES``.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from lorank.errors import UsageError, unknown_name
from lorank.ranking.judges import Budget, Cache, Judge
from lorank.ranking.strategies.by_model import is_by_model, refuse_questions
from lorank.ranking.strategies.candidate_list import CandidateList
from lorank.ranking.strategies.registry import check_strategy
from lorank.ranking.strategies.reranking import Reranked, rerank_by_model, rerank_documents
from lorank.ranking.types import Run


@dataclass(frozen=True)
class Manner:
    """How lists are reranked: the arguments of :func:`lorank.ranking.rerank` that are the same for all of them."""

    strategy: str = "jointrank"
    top: int = 10
    budget: Budget | None = None
    batch_size: int | None = None
    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_strategy(self.strategy, self.options)
        if is_by_model(self.strategy):
            refuse_questions(self.strategy, self.budget, self.batch_size, None)


JudgeOf = Callable[[CandidateList], Judge]
"""Returns the judge of a list: mostly the same for all, but an oracle knows the labels of one list only."""

Work = Callable[[CandidateList], Reranked]
Engine = Callable[[Work, Sequence[CandidateList]], Iterator[Reranked]]
"""``engine(work, lists)`` yields what ``work`` makes of each list, in their order."""


def rerank_list(given: CandidateList, judge_of: JudgeOf, manner: Manner, cache: Cache | None = None) -> Reranked:
    """Return one list reranked.

    Args:
        given: The query and its candidates.
        judge_of: It returns the judge of a list.
        manner: The settings that all lists share.
        cache: The earlier answers; None keeps nothing.
    """
    return rerank_documents(
        given.query,
        given.texts,
        judge_of(given),
        manner.strategy,
        top=manner.top,
        cache=cache,
        budget=manner.budget,
        batch_size=manner.batch_size,
        seed=manner.seed,
        **manner.options,
    )


def one_after_the_other(work: Work, lists: Sequence[CandidateList]) -> Iterator[Reranked]:
    """Work through the lists in this process."""
    yield from map(work, lists)


ENGINES: dict[str, Engine] = {"local": one_after_the_other}
"""The engines by name."""


def rerank_lists(
    lists: Sequence[CandidateList],
    judge_of: JudgeOf,
    manner: Manner,
    *,
    cache: Cache | None = None,
    engine: str = "local",
) -> Iterator[Reranked]:
    """Yield each list reranked, in their order.

    Args:
        lists: The candidates of each query.
        judge_of: The judge of a list.
        manner: How they are reranked.
        cache: Answers from before and for later.
        engine: A name in ``ENGINES``.

    Raises:
        UsageError: For an unknown engine.
        JudgeError: When the judge cannot be asked; the cache keeps what it had answered.
    """
    if engine not in ENGINES:
        raise unknown_name("engine", engine, ENGINES)
    if is_by_model(manner.strategy):
        refuse_questions(manner.strategy, None, None, cache)
        if engine != "local":
            raise UsageError(f"strategy {manner.strategy!r} sees all lists at once; leave out --engine {engine}")
        judge = judge_of(lists[0]) if lists else None
        return (
            iter(()) if judge is None else rerank_by_model(lists, judge, manner.strategy, manner.seed, manner.options)
        )
    return ENGINES[engine](partial(rerank_list, judge_of=judge_of, manner=manner, cache=cache), lists)


def run_scores(given: CandidateList, done: Reranked) -> dict[str, float]:
    """Return scores by document id that a run file can hold and every reader sorts into ``done.order``.

    They are the strategy's own where they fall strictly, in 32 bits, along the order; else n, n - 1, ..., 1.

    >>> from lorank.ranking.judges import Oracle
    >>> given = CandidateList("1", "q", ["a", "b", "c"], ["x", "y", "z"])
    >>> run_scores(given, rerank_list(given, lambda _: Oracle([0, 2, 0]), Manner("pointwise")))
    {'b': 3.0, 'a': 2.0, 'c': 1.0}
    """
    along = done.scores[list(done.order)].astype(np.float32)
    strict = bool(np.isfinite(along).all() and (np.diff(along) < 0).all())
    scores = along if strict else np.arange(len(along), 0, -1)
    return {given.ids[d]: float(score) for d, score in zip(done.order, scores, strict=True)}


def with_tail(reranked: Run, first_stage: Run) -> Run:
    """Return ``reranked`` with the documents that ``first_stage`` lists beyond it below, in their first-stage order.

    Their scores go down from the lowest of the reranked ones in steps that 32 bits can tell apart.

    >>> with_tail({"q": {"b": 0.5, "a": 0.25}}, {"q": {"a": 9.0, "b": 8.0, "c": 6.0, "d": 7.0}})
    {'q': {'b': 0.5, 'a': 0.25, 'd': -0.75, 'c': -1.75}}
    """
    whole: Run = {}
    for query, row in reranked.items():
        listed = first_stage.get(query, {})
        tail = sorted((d for d in listed if d not in row), key=lambda d: (listed[d], d), reverse=True)
        lowest = min(row.values(), default=0.0)
        step = max(1.0, (abs(lowest) + len(tail)) * 2.0**-20)
        whole[query] = row | {d: lowest - step * place for place, d in enumerate(tail, start=1)}
    return whole
