"""Strategies that look into a model in place of asking a judge: its vectors, or its scores of other queries.

Such a strategy sees all lists of a run at once, so that what they share (documents' vectors, an index) is made once.
There are no questions, and so neither a budget nor a cache of answers; ``usage.calls`` counts the texts that the model
encoded, or the pairs that it scored, and what was made for all lists counts with the first.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from lorank.errors import UsageError
from lorank.ranking.judges import Budget, Judge, Usage
from lorank.ranking.strategies.candidate_list import CandidateList
from lorank.ranking.strategies.opened_model import model_of
from lorank.ranking.strategies.registry import ALIASES, MODEL_STRATEGIES, Ordered, check_strategy


def is_by_model(strategy: str) -> bool:
    """Return whether a strategy looks into a model.

    >>> is_by_model("e2rank"), is_by_model("full")
    (True, False)
    """
    return ALIASES.get(strategy, strategy) in MODEL_STRATEGIES


def order_by_model(
    lists: Sequence[CandidateList], judge: Judge, strategy: str, seed: int, options: Mapping[str, Any]
) -> Iterator[Ordered]:
    """Yield what a strategy makes of each list, in their order.

    Args:
        lists: The candidates of each query.
        judge: The judge whose model is looked into: a ranker's, or a causal language model.
        strategy: A name in ``MODEL_STRATEGIES``, or an alias.
        seed: Of strategies that draw lots.
        options: The strategy's own.

    Raises:
        UsageError: For an unknown strategy or option, and a judge that has no such model; it says what is needed.
    """
    check_strategy(strategy, options)
    name = ALIASES.get(strategy, strategy)
    began = time.perf_counter()
    for ordered in MODEL_STRATEGIES[name](model_of(judge), lists, np.random.default_rng(seed), **options):
        now = time.perf_counter()
        yield Ordered(ordered.standing, ordered.usage + Usage(wall_time_s=now - began))
        began = time.perf_counter()


def refuse_questions(strategy: str, budget: Budget | str | None, batch_size: int | None, cache: object | None) -> None:
    """Raise UsageError for what only questions to a judge have, given with a strategy that puts none."""
    for what, value in (("a budget", budget), ("a batch size", batch_size), ("a cache of answers", cache)):
        if value is not None:
            raise UsageError(
                f"strategy {strategy!r} looks into the model and puts no questions, so that {what} is not used; "
                "leave it out"
            )
