"""The second stage of a cascade: a ranker that corrects the best few documents of a first one, and leaves the rest.

Of a query's list, let H be its ``depth`` best documents by the mixed score m (`lorank.tuned.mix`), sigma the standard
deviation of m over H (1 where that is 0), and c the second ranker's score. Then

    final(d) = m(d) + sigma (g / s) (c(d) - mean of c over H)        for d in H
    final(d) = m(d) + t                                              for all others

with the weight g and the spread s that dev chose. The shift t <= 0 is the same for the whole list, 0 where it can be:
it keeps every other document below H, and their own order as it was. So the order within H is that of z + (g / s) c,
with z the standardised m, and a final score says something within its list alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from lorank.errors import UsageError
from lorank.progress import ProgressCallback
from lorank.ranking.scorers.ranker import Documents, Ranker
from lorank.ranking.types import Run
from lorank.tuned.mix import Mix, mix_as_json, mix_from_json

FOLDER = "second_stage"
"""What the folder of a cascade calls that of its second ranker."""
APART = 2.0**-12
"""The least distance between the corrected documents and the others, relative to the scores: 32 bits can tell it."""


class Corrector(Protocol):
    """What a second stage asks of its ranker, a `lorank.tuned.ranker.TunedRanker`."""

    @property
    def learned(self) -> Ranker:
        """The learned part, whose scores correct."""
        ...

    def merge(self) -> None:
        """Make the scoring fast, where it can be made so."""
        ...

    def save(self, folder: str | Path) -> None:
        """Write the folder of the ranker."""
        ...


Second = TypeVar("Second", bound=Corrector)


@dataclass(frozen=True)
class SecondStage(Generic[Second]):
    """The second ranker of a cascade.

    Attributes:
        ranker: What scores the best documents; its learned score is what counts.
        mix: The weight g > 0 of its score, and the spread s.
        depth: How many of a list's documents it reads, 1 or more.
        said: What dev said of it when it was kept, as JSON data.
    """

    ranker: Second
    mix: Mix
    depth: int
    said: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.depth < 1 or not 0 < self.mix.factor < np.inf or self.mix.first_stage == 0.0:
            raise UsageError(
                f"a second stage over {self.depth} documents with weight {self.mix.describe_weight()}: it corrects one "
                "document or more, with a finite weight above 0"
            )

    def correct_pairs(
        self,
        queries: Sequence[str],
        documents: Documents,
        pairs: np.ndarray,
        mixed: np.ndarray,
        on_progress: ProgressCallback | None = None,
    ) -> np.ndarray:
        """Return the final scores float32 [n]; the pairs of a query are one list, and a pair counts once in it.

        Args:
            queries: The texts of the queries.
            documents: The texts of the documents.
            pairs: The int64 [n, 2] positions in ``queries`` and ``documents``; of equal scores the first document is
                better.
            mixed: The mixed scores [n].
            on_progress: It receives the number of units that are scored and their total.
        """
        if not len(pairs):
            return np.zeros(0, np.float32)
        unique, back = np.unique(pairs, axis=0, return_inverse=True)
        scores = np.zeros(len(unique))
        scores[back.reshape(-1)] = mixed
        starts = np.flatnonzero(np.diff(unique[:, 0], prepend=-1))
        best = [start + best_places(own, self.depth) for start, own in _parts(scores, starts)]
        self.ranker.merge()
        read = self.ranker.learned.score_pairs(queries, documents, unique[np.concatenate(best)], on_progress)
        ends = np.cumsum([len(each) for each in best])
        for (start, own), places, learned in zip(_parts(scores, starts), best, np.split(read, ends[:-1]), strict=True):
            scores[start : start + len(own)] = correct_list(own, places - start, learned, self.mix.factor)
        return scores[back.reshape(-1)].astype(np.float32)

    def correct_run(self, mixed: Run, score: Callable[[Run], Run]) -> Run:
        """Return the final scores of a run.

        Args:
            mixed: The mixed scores.
            score: It returns the second ranker's own scores of the documents of a run.
        """
        best = best_of_run(mixed, self.depth)
        return correct_run(mixed, score(best), self.mix)

    def describe(self) -> dict[str, Any]:
        """Return what the folder's description says of the stage, as JSON data."""
        return {"depth": self.depth, "mix": mix_as_json(self.mix), "said": self.said}

    @classmethod
    def of(cls, described: dict[str, Any], ranker: Second) -> "SecondStage[Second]":
        """Return the stage that ``describe`` has described, with the ranker of its folder."""
        return cls(ranker, mix_from_json(described["mix"]), int(described["depth"]), described.get("said", {}))


def best_places(scores: np.ndarray, depth: int) -> np.ndarray:
    """Return the places of the ``depth`` highest scores, best first; of equal ones the first is better.

    >>> best_places(np.array([1.0, 3.0, 3.0, 2.0]), 3).tolist()
    [1, 2, 3]
    """
    return np.argsort(-scores, kind="stable")[:depth]


def correct_list(mixed: np.ndarray, best: np.ndarray, learned: np.ndarray, factor: float) -> np.ndarray:
    """Return the final scores float64 [n] of one list.

    Args:
        mixed: The mixed scores [n].
        best: The places int64 [k] of the documents that the second ranker has read, none of whose scores is lower than
            any other's.
        learned: Its scores [k] of them.
        factor: g / s, above 0.

    >>> correct_list(np.array([4.0, 2.0, 1.0]), np.array([0, 1]), np.array([0.0, 3.0]), 1.0).tolist()
    [2.5, 3.5, 1.0]
    """
    final = np.array(mixed, np.float64)
    if not len(best):
        return final
    own, learned = final[best], np.asarray(learned, np.float64)
    spread = float(own.std()) if own.min() < own.max() else 1.0
    corrected = own + spread * factor * (learned - learned.mean())
    others = np.ones(len(final), bool)
    others[best] = False
    if others.any():
        highest, lowest = float(final[others].max()), float(corrected.min())
        apart = max(float(own.min()) - highest, APART * (1.0 + abs(lowest) + abs(highest)))
        final[others] += min(0.0, lowest - apart - highest)
    final[best] = corrected
    return final


def best_of_run(run: Run, depth: int) -> Run:
    """Return the ``depth`` best documents of each query, ties by descending document id, as runs are read.

    >>> best_of_run({"q": {"a": 1.0, "b": 2.0, "c": 1.0}}, 2)
    {'q': {'b': 2.0, 'c': 1.0}}
    """
    return {
        query: dict(sorted(row.items(), key=lambda item: (item[1], item[0]), reverse=True)[:depth])
        for query, row in run.items()
    }


def correct_run(mixed: Run, learned: Run, mix: Mix) -> Run:
    """Return the final scores of a run; ``learned`` holds the second ranker's scores of each list's best documents.

    A query that ``learned`` lacks stays as it is.
    """
    final: Run = {}
    for query, row in mixed.items():
        names = list(row)
        place = {document: i for i, document in enumerate(names)}
        own = learned.get(query, {})
        scores = correct_list(
            np.fromiter(row.values(), np.float64, len(row)),
            np.array([place[document] for document in own], np.int64),
            np.fromiter(own.values(), np.float64, len(own)),
            mix.factor,
        )
        final[query] = dict(zip(names, scores.tolist(), strict=True))
    return final


def _parts(scores: np.ndarray, starts: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Return each query's first place and its scores."""
    return list(zip(starts.tolist(), np.split(scores, starts[1:]), strict=True))
