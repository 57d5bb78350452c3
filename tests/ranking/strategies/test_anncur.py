"""ANNCUR: exact at low rank, better with more anchors, and no more calls than it says."""

import numpy as np
import pytest

from lorank.catalogue import METHODS
from lorank.errors import UsageError
from lorank.ranking.scorers import CrossEncoder
from lorank.ranking.strategies.anncur import CurIndex


def matrix(queries, items, rank, seed=0, noise=0.0):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(queries, rank)) @ rng.normal(size=(rank, items))
    return scores + noise * rng.normal(size=scores.shape)


@pytest.mark.parametrize("rank", [1, 5, 12])
@pytest.mark.parametrize("anchors", [12, 30])
def test_it_is_exact_where_the_rank_is_no_more_than_the_anchors(rank, anchors):
    scores = matrix(41, 300, rank)
    index = CurIndex(scores[:40], anchors)
    np.testing.assert_allclose(index.estimate(scores[40, index.anchors]), scores[40], rtol=1e-6, atol=1e-8)
    found = index.search(lambda items: scores[40, items], 10)
    assert set(np.argsort(-scores[40])[:10]) <= set(found.order)
    assert found.calls == anchors + 10 == len(found.order)


def recall(scores, anchors, queries=30, top=10):
    index = CurIndex(scores[queries:], anchors)
    shares = []
    for row in scores[:queries]:
        found = index.search(lambda items, row=row: row[items], 40)
        shares.append(len(set(np.argsort(-row)[:top]) & set(found.order[:top])) / top)
    return np.mean(shares)


def test_recall_rises_with_the_anchors_and_beats_chance():
    scores = matrix(230, 600, 20, noise=0.5)
    shares = [recall(scores, anchors) for anchors in (5, 15, 40)]
    assert shares == sorted(shares)
    assert shares[-1] > 0.9 > 3 * (40 + 40) / 600


def test_a_real_cross_encoder_is_asked_for_anchors_and_reranked_only(tiny_folders, texts):
    ranker = CrossEncoder(tiny_folders["bert"], head="random")
    queries, documents = list(texts.train.queries.values()), list(texts.documents)
    index = CurIndex(np.stack([ranker.score(query, documents) for query in queries]), 10)
    query, asked = next(iter(texts.test.queries.values())), []

    def score(items):
        asked.extend(items)
        return ranker.score(query, [documents[i] for i in items])

    found = index.search(score, 5)
    assert len(asked) == len(set(asked)) == found.calls == 15
    exact = ranker.score(query, documents)
    assert list(found.order) == sorted(found.order, key=lambda i: (-exact[i], i))


@pytest.mark.parametrize(
    ("scores", "anchors"),
    [
        (np.zeros((0, 3)), 1),
        (np.full((2, 3), np.nan), 1),
        (np.ones(3), 1),
        (np.ones((2, 3)), 4),
        (np.ones((2, 3)), 0),
        (np.ones((2, 3)), [0, 0]),
        (np.ones((2, 3)), [3]),
    ],
)
def test_bad_input_is_refused(scores, anchors):
    with pytest.raises(UsageError):
        CurIndex(scores, anchors)


def test_options_are_checked():
    index = CurIndex(np.ones((2, 3)), [0])
    with pytest.raises(UsageError, match="one score for each"):
        index.estimate(np.ones(2))
    with pytest.raises(UsageError, match="reranked"):
        index.search(lambda items: np.ones(len(items)), -1)
    assert METHODS["anncur"].area == "retrieve"
