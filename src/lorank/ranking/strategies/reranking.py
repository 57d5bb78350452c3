"""One face for every strategy: documents in, an order, scores and the bill out."""

import logging
from collections.abc import Sequence
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
from lorank.ranking.strategies.registry import Standing, find_strategy

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
        strategy: A name in ``STRATEGIES`` or one of its aliases.
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
    return _rerank(standing, session)


def _rerank(standing: Standing, session: Session) -> Reranked:
    order = tuple(int(d) for d in standing.order)
    if sorted(order) != list(range(session.count)):
        raise AssertionError("a strategy lost or repeated a document")
    if standing.scores is None:
        scores = np.empty(session.count)
        scores[list(order)] = np.arange(session.count, 0, -1)
    else:
        scores = np.asarray(standing.scores, dtype=np.float64)
    return Reranked(order, scores, session.usage, standing.selected, not session.spent, session.malformed)
