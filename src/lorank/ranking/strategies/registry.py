"""The registries of strategies, plain dictionaries, and the decorators that fill them.

A strategy asks a judge; one of ``MODEL_STRATEGIES`` looks into a model (`lorank.ranking.strategies.by_model`).
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lorank.catalogue import catalogued
from lorank.errors import UsageError, unknown_name
from lorank.ranking.judges.usage import Usage


@dataclass(frozen=True)
class Standing:
    """What a strategy hands back.

    Attributes:
        order: Every document's position once, best first.
        scores: A score for each document, by position, that does not increase along ``order``; by default the
            number of documents ranked at or below it.
        selected: How many documents, from the top, the judge chose to keep; None where it was not asked to choose.
    """

    order: Sequence[int]
    scores: Sequence[float] | None = None
    selected: int | None = None


Strategy = Callable[..., Standing]
"""``strategy(session, top, generator, **options) -> Standing``; ``top`` documents must be in order, at least."""

STRATEGIES: dict[str, Strategy] = {}
"""Every registered strategy under its name."""


@dataclass(frozen=True)
class Ordered:
    """What a strategy that looks into a model hands back for one list: its ``standing`` and what it cost."""

    standing: Standing
    usage: Usage = field(default_factory=Usage)


ModelStrategy = Callable[..., Iterator[Ordered]]
"""``strategy(model, lists, generator, **options)`` yields what it makes of each list, in their order."""

MODEL_STRATEGIES: dict[str, ModelStrategy] = {}
"""Every strategy that looks into a model, under its name."""

LARGEST_ROUND = 2_000_000
"""Questions that are put together at most: more would fill the memory before one of them is asked."""

ALIASES: dict[str, str] = {}
"""Other names, each to a name in ``STRATEGIES``."""


def register_strategy(
    name: str, *, title: str, aliases: tuple[str, ...] = (), published: bool | str = True
) -> Callable[[Strategy], Strategy]:
    """Decorate a strategy to enter it in ``STRATEGIES``, and in the catalogue if ``published``, or under that id.

    Args:
        name: The name by which the strategy is chosen.
        title: The title of the strategy in the catalogue.
        aliases: Other names for the same strategy.
        published: False keeps the strategy out of the catalogue, and a text is its id there.
    """

    def enter(function: Strategy) -> Strategy:
        if published:
            catalogued(published if isinstance(published, str) else name, area="rerank", title=title)(function)
        return enter_strategy(name, aliases=aliases)(function)

    return enter


def register_model_strategy(name: str, *, title: str, area: str = "rerank") -> Callable[[ModelStrategy], ModelStrategy]:
    """Decorate a strategy that looks into a model, to enter it in ``MODEL_STRATEGIES`` and in the catalogue.

    Args:
        name: The published name, by which the strategy is chosen.
        title: The title of the strategy in the catalogue.
        area: The area of the catalogue that lists it.
    """

    def enter(function: ModelStrategy) -> ModelStrategy:
        MODEL_STRATEGIES[name] = function
        return catalogued(name, area=area, title=title)(function)

    return enter


def enter_strategy(name: str, *, aliases: tuple[str, ...] = ()) -> Callable[[Strategy], Strategy]:
    """Decorate a strategy to enter it in ``STRATEGIES`` alone."""

    def enter(function: Strategy) -> Strategy:
        STRATEGIES[name] = function
        ALIASES.update(dict.fromkeys(aliases, name))
        return function

    return enter


def find_strategy(name: str, options: Mapping[str, Any]) -> Strategy:
    """Return the strategy called ``name`` that asks a judge, once its options are known to exist."""
    check_strategy(name, options)
    known = ALIASES.get(name, name)
    if known not in STRATEGIES:
        raise UsageError(f"strategy {name!r} looks into a model and asks no judge; choose another here")
    return STRATEGIES[known]


def check_strategy(name: str, options: Mapping[str, Any]) -> None:
    """Raise UsageError for a strategy of neither kind, and for an option that it does not have."""
    known = ALIASES.get(name, name)
    if known not in STRATEGIES and known not in MODEL_STRATEGIES:
        raise unknown_name("strategy", name, [*STRATEGIES, *MODEL_STRATEGIES, *ALIASES])
    for option in options:
        if option not in strategy_options(known):
            raise unknown_name(f"option of strategy {name!r}:", option, strategy_options(known))


def strategy_options(name: str) -> Mapping[str, Any]:
    """Return the options of a strategy and their defaults.

    >>> dict(strategy_options("pointwise"))
    {}
    """
    known = ALIASES.get(name, name)
    function = STRATEGIES[known] if known in STRATEGIES else MODEL_STRATEGIES[known]
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def check_round(questions: int, strategy: str) -> None:
    """Raise UsageError where one round would put more than ``LARGEST_ROUND`` questions."""
    if questions > LARGEST_ROUND:
        raise UsageError(
            f"{strategy} of this list is {questions:,} questions in one round, above {LARGEST_ROUND:,}; "
            "rerank fewer documents, or take a strategy that asks fewer questions"
        )


def by_score(scores: Sequence[float], given: Sequence[int] | None = None) -> list[int]:
    """Return positions by score, best first, ties in the order ``given`` (by default that of the documents).

    >>> by_score([1.0, 3.0, 1.0])
    [1, 0, 2]
    """
    return sorted(range(len(scores)) if given is None else given, key=lambda d: -scores[d])
