"""A collection: documents, queries and judgments, divided into splits."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from lorank.errors import UsageError
from lorank.ranking.types import Qrels, Run

if TYPE_CHECKING:
    from lorank.data.click_logs.packed import PackedImpressions

SPLITS = ("train", "dev", "test")


def describe_count(number: int, what: str) -> str:
    """Return a number of things, in words.

    >>> describe_count(1, "query"), describe_count(1200, "query")
    ('1 query', '1,200 queries')
    """
    many = f"{what[:-1]}ies" if what.endswith("y") else f"{what}s"
    return f"{number:,} {what if number == 1 else many}"


@dataclass(frozen=True, repr=False)
class Split:
    """Queries and their judgments.

    ``queries`` maps query id to text; ``qrels`` maps query id to {document id: relevance}. ``candidates``,
    where given, are the lists that came with the data (LETOR rows, training rows with negatives). ``users``, where
    given, says who asked each query, and ``weights`` how much a query counts in training (1 where it has none).
    ``groups`` names what queries belong to (a tenant, a session): those of a group stay together when splits are made.
    ``propensities`` maps query id to {document id: how likely the document was to be looked at, above 0 and at most 1}.
    ``tasks`` names the task of each query, and ``preferences`` the weights of several aims, for adapters that route by
    them. ``impressions`` are the lists of a click log, which are then what a ranker is trained on.
    """

    name: str
    queries: dict[str, str]
    qrels: Qrels
    candidates: Run | None = None
    users: dict[str, str] | None = None
    weights: dict[str, float] | None = None
    groups: dict[str, str] | None = None
    propensities: Run | None = None
    tasks: dict[str, str] | None = None
    preferences: dict[str, list[float]] | None = None
    impressions: "PackedImpressions | None" = None

    def __len__(self) -> int:
        return len(self.queries)

    def __repr__(self) -> str:
        """Return the split in one line.

        >>> Split("test", {"q": "a query"}, {"q": {"d": 1}})
        Split('test', 1 query, 1 judgment)
        """
        judgments = sum(map(len, self.qrels.values()))
        return f"Split({self.name!r}, {describe_count(len(self), 'query')}, {describe_count(judgments, 'judgment')})"


@dataclass(frozen=True, repr=False)
class Collection:
    """Documents and the splits that are judged over them.

    ``documents`` is aligned with ``document_ids``: texts (title and body joined by a newline), or for
    feature data a float32 array [documents, features]. ``titles``, where known, are aligned too. ``language`` says how
    BM25 cuts the texts (`lorank.ranking.scorers.languages`).
    """

    name: str
    document_ids: Sequence[str]
    documents: Sequence[str] | np.ndarray
    splits: dict[str, Split]
    titles: Sequence[str] | None = None
    card: str = field(default="", repr=False)
    language: str = field(default="auto", repr=False)

    def __repr__(self) -> str:
        """Return the collection in one line.

        >>> Collection("tiny", ["a", "b"], ["red", "blue"], {"test": Split("test", {"q": "red"}, {"q": {"a": 1}})})
        Collection('tiny', 2 texts, test: 1 query)
        """
        documents = describe_count(len(self.document_ids), "text")
        if isinstance(self.documents, np.ndarray):
            documents = f"{describe_count(len(self.document_ids), 'row')} of {self.documents.shape[1]} features"
        splits = [f"{name}: {describe_count(len(split), 'query')}" for name, split in self.splits.items()]
        return f"Collection({', '.join([repr(self.name), documents, *splits])})"

    def split(self, name: str) -> Split:
        """Return the split called ``name``; raise UsageError naming those that exist."""
        if name not in self.splits:
            there = ", ".join(self.splits) or "none"
            raise UsageError(
                f"collection {self.name!r} has no {name!r} split (it has: {there}); "
                "choose one with --split, or cross-validate with --folds 5"
            )
        return self.splits[name]

    @property
    def train(self) -> Split:
        """The training split."""
        return self.split("train")

    @property
    def dev(self) -> Split:
        """The development split, on which every choice is made."""
        return self.split("dev")

    @property
    def test(self) -> Split:
        """The test split, looked at once."""
        return self.split("test")

    @property
    def has_features(self) -> bool:
        """True where documents are feature rows rather than texts."""
        return isinstance(self.documents, np.ndarray)

    @cached_property
    def search_language(self) -> str | None:
        """How BM25 cuts the texts: the language that was given, or else the one that their script stands for."""
        from lorank.ranking.scorers.languages import AUTO, detect_language

        if self.language != AUTO:
            return None if self.language == "words" else self.language
        return "english" if isinstance(self.documents, np.ndarray) else detect_language(self.documents)

    @cached_property
    def position(self) -> dict[str, int]:
        """Map document id to its position in ``documents``."""
        return {document: i for i, document in enumerate(self.document_ids)}
