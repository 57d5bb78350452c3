"""How a ranker reads texts: lengths, passages, prefixes, prompts, pooling, similarity.

It is the section ``[reading]`` of a recipe, and ``--set reading.KEY=VALUE`` of every command that opens a ranker.
"""

import inspect
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

from lorank.errors import UsageError

if TYPE_CHECKING:
    from lorank.ranking.scorers.ranker import FittedRanker


@dataclass(frozen=True)
class ReadingSettings:
    """How a ranker reads queries and documents; None leaves it to the base's folder, or else to the kind of ranker.

    ``max_length`` is the most tokens that are read at once, of one text for a bi-encoder and of query and document
    together for the others; ``long`` says what a document beyond that is: cut (truncate), or read in passages that
    share ``overlap`` tokens and get the best (max), the first, or the mean of their scores. ``passage`` is what a
    bi-encoder trains on under max: the best passage, or that with most of a query's words. Under titled, which is max
    for a bi-encoder with the title before each passage, the title alone has ``title_weight``. ``passage_length`` is the
    most tokens of its passages, max_length where it is None and at most 64 under titled. ``query_prefix`` and
    ``document_prefix`` go before the texts. ``pooling`` (cls, mean, max, lasttoken, ..., several joined by +),
    ``similarity`` and ``temperature`` are a bi-encoder's, and so is ``adapted``: with queries an adapter leaves the
    vectors of documents as they are, so that an index of them stays valid. ``family``, ``prompt``, ``answers``,
    ``instruction`` and ``chat`` say how a model is asked, ``beta`` scales a log-ratio. ``summary``, ``decay`` and
    ``low`` are a pyramid's.
    ``dtype`` is the number format of scoring.
    """

    max_length: int | None = None
    long: Literal["truncate", "max", "first", "mean", "titled"] | None = None
    overlap: int | None = None
    passage: Literal["best", "words"] | None = None
    passage_length: int | None = None
    title_weight: float | None = None
    query_prefix: str | None = None
    document_prefix: str | None = None
    pooling: str | None = None
    similarity: Literal["cosine", "dot"] | None = None
    temperature: float | None = None
    adapted: Literal["both", "queries"] | None = None
    family: str | None = None
    prompt: str | None = None
    answers: list[str] | None = None
    instruction: str | None = None
    chat: Literal["auto", "on", "off"] | None = None
    beta: float | None = None
    summary: int | None = None
    decay: float | None = None
    low: int | None = None
    dtype: Literal["auto", "float32", "bfloat16"] | None = None

    def as_options(self) -> dict[str, Any]:
        """Return the settings that are stated, as arguments of a ranker.

        >>> ReadingSettings(max_length=64, long="max").as_options()
        {'max_length': 64, 'long': 'max'}
        """
        return {field.name: value for field in fields(self) if (value := getattr(self, field.name)) is not None}


AFTERWARDS = ("max_length", "long", "overlap", "dtype")
"""Settings that a ranker that was trained can still change: they move no weight's meaning."""


def settings_of_kind(kind: str) -> tuple[str, ...]:
    """Return the reading settings that a kind of ranker takes.

    >>> "pooling" in settings_of_kind("bi-encoder"), "pooling" in settings_of_kind("cross-encoder")
    (True, False)
    """
    from lorank.ranking.scorers import RANKERS

    known = inspect.signature(RANKERS[kind].__init__).parameters
    return tuple(field.name for field in fields(ReadingSettings) if field.name in known)


def check_reading(kind: str, reading: ReadingSettings) -> None:
    """Raise UsageError for a setting that a kind of ranker does not take."""
    known = settings_of_kind(kind)
    for name in reading.as_options():
        if name not in known:
            there = ", ".join(known) or "none"
            raise UsageError(f"reading.{name}: a ranker of kind {kind} does not take it; it takes: {there}")


def read_otherwise(ranker: "FittedRanker", reading: ReadingSettings, where: str) -> None:
    """Let a ranker that was trained and saved read as ``reading`` says; ``where`` it lies is for the message.

    Raises:
        UsageError: For a setting that its weights were trained with, and for one that its kind does not take.
    """
    from lorank.ranking.scorers.text_ranker import TextRanker

    given = reading.as_options()
    if not given:
        return
    for name in given:
        if name not in AFTERWARDS:
            raise UsageError(
                f"reading.{name}: {where} was trained and saved with its own; train again with "
                f"--set reading.{name}=... (after training only {', '.join(AFTERWARDS)} can change)"
            )
    if not isinstance(ranker, TextRanker):
        raise UsageError(
            f"reading.{next(iter(given))}: {where} is a ranker of kind {ranker.kind}, which does not take it"
        )
    check_reading(ranker.kind, reading)
    ranker.read_with(**given)
