"""The first stage that a tuned ranker stands on, and how it is computed where only texts are available.

With a run (training, `lorank rerank`), the first-stage score is the run's, standardised over the query's candidates.
Without one (`lorank rank`, `score`, a server), the folder's own statistics serve. For every component,

    s(q, d) = BM25(q, d) / mass(q)   with the collection's document frequencies and average length, where
              mass(q) = (k1 + 1) sum_t idf(t) is the largest score the query could reach, or
    s(q, d) = the base model's cosine;
    raw = sum_i weight_i (s_i - mean_i) / std_i          z = (raw - mean) / std

and all means and deviations are those of the dev queries' candidate lists. So the score of a document does not
depend on which other documents are asked about with it.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lorank.ranking.scorers.bm25 import BM25Statistics
from lorank.ranking.scorers.pretrained import locate_base
from lorank.ranking.scorers.ranker import Ranker


@dataclass(frozen=True)
class Component:
    """One scorer of the first stage, its say, and the scale of its scores over the candidates."""

    kind: Literal["bm25", "bi-encoder"]
    weight: float = 1.0
    mean: float = 0.0
    std: float = 1.0


@dataclass(frozen=True)
class FirstStage:
    """The components, what they need to score texts, and the scale of their sum."""

    source: str
    components: tuple[Component, ...]
    statistics: BM25Statistics
    base: str | None = None
    """The bi-encoder's base, as it comes: loaded when it is first asked."""
    mean: float = 0.0
    std: float = 1.0
    reading: dict[str, Any] = field(default_factory=dict)
    """How the bi-encoder reads, as options of `BiEncoder`; what is not stated is its own."""

    @cached_property
    def encoder(self) -> Ranker:
        """The base as a bi-encoder, before any adapter."""
        from lorank.ranking.scorers import BiEncoder

        assert self.base is not None
        return BiEncoder(self.base, **{"dtype": "auto", **self.reading})

    def score_pairs(self, queries: Sequence[str], documents: Sequence[str], pairs: np.ndarray) -> np.ndarray:
        """Return standardised first-stage scores float64 [n] of ``pairs`` by the folder's own statistics."""
        return self._combine([self._scores(c, queries, documents, pairs) for c in self.components])

    def _combine(self, scores: list[np.ndarray]) -> np.ndarray:
        raw = np.zeros(len(scores[0]))
        for component, each in zip(self.components, scores, strict=True):
            raw += component.weight * (each - component.mean) / component.std
        return (raw - self.mean) / self.std

    def fit_scales(self, queries: Sequence[str], documents: Sequence[str], pairs: np.ndarray) -> "FirstStage":
        """Return the first stage with its scales set from candidate ``pairs`` [n, 2] of dev queries."""
        scores = [self._scores(component, queries, documents, pairs) for component in self.components]
        scales = [_scale(each, pairs[:, 0]) for each in scores]
        components = tuple(
            replace(component, mean=mean, std=std)
            for component, (mean, std) in zip(self.components, scales, strict=True)
        )
        unscaled = replace(self, components=components, mean=0.0, std=1.0)
        mean, std = _scale(unscaled._combine(scores), pairs[:, 0])
        return replace(unscaled, mean=mean, std=std)

    def _scores(
        self, component: Component, queries: Sequence[str], documents: Sequence[str], pairs: np.ndarray
    ) -> np.ndarray:
        if component.kind == "bi-encoder":
            return self.encoder.score_pairs(queries, documents, pairs).astype(np.float64)
        mass = np.array([self.statistics.query_mass(query) for query in queries])
        scores = self.statistics.score_pairs(queries, documents, pairs).astype(np.float64)
        return np.asarray(scores / np.maximum(mass, 1e-9)[pairs[:, 0]])

    def save(self, folder: Path) -> None:
        """Write the statistics and a description; the bi-encoder is named, not copied."""
        folder.mkdir(parents=True)
        self.statistics.save(folder)
        description = {
            "source": self.source,
            "base": self.base,
            "reading": self.reading,
            "mean": self.mean,
            "std": self.std,
            "components": [asdict(component) for component in self.components],
        }
        (folder / "first_stage.json").write_text(json.dumps(description, indent=1) + "\n")

    @classmethod
    def load(cls, folder: Path) -> "FirstStage":
        """Read what ``save`` wrote."""
        description = json.loads((folder / "first_stage.json").read_text())
        components = tuple(Component(**row) for row in description["components"])
        return cls(
            description["source"],
            components,
            BM25Statistics.load(folder),
            None if description["base"] is None else locate_base(description["base"], folder),
            description["mean"],
            description["std"],
            description.get("reading", {}),
        )


def _scale(scores: np.ndarray, groups: np.ndarray) -> tuple[float, float]:
    """Return the mean of the per-query means, and of the per-query deviations (1 where there is none)."""
    order = np.argsort(groups, kind="stable")
    lists = np.split(scores[order], np.flatnonzero(np.diff(groups[order])) + 1)
    mean = float(np.mean([each.mean() for each in lists]))
    std = float(np.mean([each.std() for each in lists]))
    return mean, std if std > 0 else 1.0
