"""Certificates against substitutions of words, for any ranker on a collection's queries."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from lorank.progress import ProgressCallback
from lorank.ranking.robustness.certdr import Substitutions, certify
from lorank.ranking.scorers.ranker import Ranker
from lorank.tuned.ranker import TunedRanker
from lorank.tuned.stress import Domain


@dataclass(frozen=True)
class CertifiedRate:
    """The share of queries whose first ``top`` are certain at each radius, from 0 to the largest that was asked."""

    top: int
    rates: tuple[float, ...]
    queries: int
    draws: int


def certified_rate(
    ranker: Ranker,
    domain: Domain,
    synonyms: Mapping[str, Sequence[str]],
    *,
    most: int,
    seed: int = 0,
    top: int = 3,
    depth: int = 10,
    queries: int = 20,
    draws: int = 200,
    on_progress: ProgressCallback | None = None,
) -> CertifiedRate:
    """Return the certified rate by radius; base scores are probabilities of the calibration, or logistic within a list.

    Args:
        ranker: The ranker.
        domain: The collection, whose first ``depth`` candidates of each query are scored.
        synonyms: The words that may stand for each other.
        most: The largest radius, 0 or more.
        seed: It draws queries and substitutions.
        top: How many places are defended.
        depth: How many documents compete, more than ``top``.
        queries: How many queries are tried.
        draws: How many texts are scored for each document.
        on_progress: It receives the number of queries done and their total.
    """
    rng = np.random.default_rng(seed)
    names = [query for query in domain.queries if len(domain.candidates[query]) > top]
    names = [names[int(i)] for i in rng.permutation(len(names))[:queries]]
    found = []
    for number, query in enumerate(names, start=1):
        row = sorted(domain.candidates[query].items(), key=lambda item: (item[1], item[0]), reverse=True)[:depth]
        texts = [str(domain.data.documents[domain.data.position[document]]) for document, _ in row]
        scores = UnitScores(ranker, domain.queries[query], texts)
        certificate = certify(scores, texts, Substitutions(synonyms), top=top, most=most, rng=rng, draws=draws)
        found.append(certificate.radius)
        if on_progress is not None:
            on_progress(number, len(names))
    radii = np.array(found)
    rates = tuple(float((radii >= radius).mean()) if len(radii) else 0.0 for radius in range(most + 1))
    return CertifiedRate(top, rates, len(names), draws)


class UnitScores:
    """Scores in [0, 1] of one query: a fixed function of the ranker's, set by the texts as they are."""

    def __init__(self, ranker: Ranker, query: str, texts: Sequence[str]) -> None:
        self.ranker, self.query = ranker, query
        scores = self._raw(texts)
        self.centre, self.unit = float(scores.mean()), float(scores.std()) or 1.0

    def _raw(self, texts: Sequence[str]) -> np.ndarray:
        pairs = np.stack([np.zeros(len(texts), np.int64), np.arange(len(texts))], 1)
        return np.asarray(self.ranker.score_pairs([self.query], list(texts), pairs), np.float64)

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        scores = self._raw(texts)
        calibration = self.ranker.calibration if isinstance(self.ranker, TunedRanker) else None
        if calibration is not None:
            return np.asarray(calibration(scores), np.float64)
        return np.asarray(expit((scores - self.centre) / self.unit))
