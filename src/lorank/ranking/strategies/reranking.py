"""One face for every strategy: documents in, an order, scores and the bill out."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lorank.catalogue import catalogued
from lorank.errors import UsageError
from lorank.ranking.judges import Budget, Cache, Judge, Session, Usage
from lorank.ranking.judges.malformed import Malformed
from lorank.ranking.judges.opening import judge_of
from lorank.ranking.scorers.ranker import Ranker
from lorank.ranking.strategies.by_model import is_by_model, order_by_model, refuse_questions
from lorank.ranking.strategies.candidate_list import CandidateList
from lorank.ranking.strategies.registry import Standing, check_strategy, find_strategy

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reranked:
    """A reranked list.

    Attributes:
        order: Positions in the documents given, best first; each exactly once.
        scores: float64 [documents], by position in the documents given; they do not increase along ``order``.
        usage: What was asked and what it cost.
        selected: How many documents, from the top, the judge chose to keep; None where it was not asked to choose.
        complete: False if the budget ran out and this is the best order so far.
        malformed: How many of the judge's answers were malformed, and one of them.
    """

    order: tuple[int, ...]
    scores: np.ndarray
    usage: Usage
    selected: int | None = None
    complete: bool = True
    malformed: Malformed = field(default_factory=Malformed)


@catalogued(
    "rankify",
    area="rerank",
    title="Rankify: A Comprehensive Python Toolkit for Retrieval, Re-Ranking, and Retrieval-Augmented Generation",
    reach="`lorank rerank`, and Python: reranking has no recipe",
)
def rerank(
    query: str,
    documents: Sequence[str],
    judge: Judge | Ranker | str,
    strategy: str = "jointrank",
    *,
    top: int = 10,
    cache: Cache | str | Path | None = None,
    budget: Budget | str | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    **options: Any,
) -> Reranked:
    """Order ``documents`` for ``query`` by asking ``judge``, in the way of ``strategy``.

    Args:
        query: The query.
        documents: The documents in the order they came, best guess first; some strategies build on it.
        judge: A judge, a ranker, or ``openai:URL``.
        strategy: A name in ``STRATEGIES`` or one of its aliases; one of ``MODEL_STRATEGIES`` looks into the ranker,
            or the causal language model, that ``judge`` is.
        top: How many of the first places matter; strategies that can stop early settle only those.
        cache: Answers from before and for later, or the path of their file; by default nothing is kept and a
            question that a strategy asks twice is paid twice.
        budget: The most that may be spent, as a ``Budget`` or ``"calls=200,tokens=50000"``.
        batch_size: Questions that share one inference, at most; by default all that are ready together.
        seed: For strategies that draw lots.
        options: The strategy's own keyword arguments.

    Returns:
        The order, the scores, the usage, and how many answers were malformed.

    Raises:
        UsageError: For an unknown strategy or option, or a judge that does not answer its kind of question.
        JudgeError: When the judge cannot be asked; a cache keeps what it had answered.

    >>> from lorank.ranking import Oracle
    >>> done = rerank("q", ["a", "b", "c", "d"], Oracle([1, 0, 3, 2]), strategy="full")
    >>> done.order, done.usage.calls
    ((2, 3, 0, 1), 1)
    """
    done = rerank_documents(
        query,
        documents,
        judge,
        strategy,
        top=top,
        cache=cache,
        budget=budget,
        batch_size=batch_size,
        seed=seed,
        **options,
    )
    if done.malformed.all:
        logger.warning("%s; the documents keep the order in which they came", done.malformed.describe())
    return done


def rerank_documents(
    query: str,
    documents: Sequence[str],
    judge: Judge | Ranker | str,
    strategy: str,
    *,
    top: int,
    cache: Cache | str | Path | None,
    budget: Budget | str | None,
    batch_size: int | None,
    seed: int,
    **options: Any,
) -> Reranked:
    """Do what ``rerank`` does without a warning, for callers who look at many lists together.

    Args:
        query: The text of the query.
        documents: The texts of the documents in the order they came, the best guess first.
        judge: A judge, a ranker, or ``openai:URL``.
        strategy: The name of a strategy in ``STRATEGIES`` or one of its aliases.
        top: The number of first places that matter, 1 or more.
        cache: The earlier answers, or the path of their file; None keeps nothing.
        budget: The most that may be spent; None sets no bound.
        batch_size: The most questions that share one inference; None sets no bound.
        seed: The seed of strategies that draw at random.
        options: The strategy's own keyword arguments.

    Returns:
        The same as ``rerank`` returns.

    Raises:
        UsageError: If ``top`` is below 1, or a strategy or option is not known.
    """
    if top < 1:
        raise UsageError(f"top must be 1 or above, got {top}")
    check_strategy(strategy, options)
    if is_by_model(strategy):
        refuse_questions(strategy, budget, batch_size, cache)
        given = CandidateList("", query, [str(i) for i in range(len(documents))], documents)
        return next(rerank_by_model([given], judge_of(judge), strategy, seed, options))
    run = find_strategy(strategy, options)
    limits = Budget.parse(budget) if isinstance(budget, str) else budget
    kept = cache if cache is None or isinstance(cache, Cache) else Cache(cache)
    try:
        session = Session(judge_of(judge), query, documents, cache=kept, budget=limits, batch_size=batch_size)
        if not len(documents):
            return Reranked((), np.zeros(0), session.usage)
        standing = run(session, min(top, len(documents)), np.random.default_rng(seed), **options)
    finally:
        if kept is not None and kept is not cache:
            kept.close()
    order, scores = _order_and_scores(standing, session.count)
    return Reranked(order, scores, session.usage, standing.selected, not session.spent, session.malformed)


def rerank_by_model(
    lists: Sequence[CandidateList], judge: Judge, strategy: str, seed: int, options: Mapping[str, Any]
) -> Iterator[Reranked]:
    """Yield each list as a strategy that looks into the model of ``judge`` orders it; see ``order_by_model``."""
    ordered = order_by_model(lists, judge, strategy, seed, options)
    for given, one in zip(lists, ordered, strict=True):
        yield Reranked(*_order_and_scores(one.standing, len(given.texts)), one.usage, one.standing.selected)


def _order_and_scores(standing: Standing, count: int) -> tuple[tuple[int, ...], np.ndarray]:
    order = tuple(int(d) for d in standing.order)
    if sorted(order) != list(range(count)):
        raise AssertionError("a strategy lost or repeated a document")
    if standing.scores is not None:
        return order, np.asarray(standing.scores, dtype=np.float64)
    scores = np.empty(count)
    scores[list(order)] = np.arange(count, 0, -1)
    return order, scores
