"""Depth studies: a planted noisy scorer falls as predicted, a perfect one never, and phantom hits are found."""

import numpy as np
import pytest

from lorank.catalogue import METHODS
from lorank.errors import UsageError
from lorank.ranking.metrics.depth import depth_study, phantom_hits, predicted_recall

QUERIES, DEEPEST = 400, 1000
DEPTHS = [1, 10, 100, 1000]


def planted(noise, seed=0):
    """One relevant document, which the first stage puts first, among 999; the scorer errs by ``noise``."""
    rng = np.random.default_rng(seed)
    first = {f"q{q}": {f"d{d}": float(-d) for d in range(DEEPEST)} for q in range(QUERIES)}
    scores = {}
    for query in first:
        drawn = noise * rng.standard_normal(DEEPEST)
        drawn[0] += 1
        scores[query] = {f"d{d}": float(score) for d, score in enumerate(drawn)}
    return first, scores, {query: {"d0": 1} for query in first}


@pytest.mark.parametrize(("noise", "measure", "top"), [(0.5, "R@1", 1), (0.5, "R@10", 10), (1.0, "R@10", 10)])
def test_a_planted_noisy_scorer_falls_as_predicted(noise, measure, top):
    study = depth_study(*planted(noise), DEPTHS, measure, resamples=500, groups=None)
    predicted = [predicted_recall(depth, top, noise) for depth in DEPTHS]
    for point, mean in zip(study.points, predicted, strict=True):
        assert point.mean == pytest.approx(mean, abs=4 * np.sqrt(mean * (1 - mean) / QUERIES) + 1e-9)
    assert predicted == sorted(predicted, reverse=True)
    assert study.best.depth == study.enough == 1
    assert study.harms in DEPTHS[1:]
    assert study.points[-1].below_best[1] < 0


def test_an_oracle_is_flat_at_one():
    first, _, qrels = planted(0.0)
    study = depth_study(
        first,
        {q: {d: float(qrels[q].get(d, 0)) for d in row} for q, row in first.items()},
        qrels,
        DEPTHS,
        "R@1",
        resamples=100,
    )
    assert [point.mean for point in study.points] == pytest.approx([1.0] * 4)
    assert study.ceiling == pytest.approx([1.0] * 4)
    assert (study.best.depth, study.enough, study.harms) == (1, 1, None)


def test_a_good_scorer_gains_while_there_is_something_to_find():
    qrels = {f"q{q}": {f"d{1 + 7 * q % 50}": 1} for q in range(60)}
    first = {query: {f"d{d}": float(-d) for d in range(60)} for query in qrels}
    scores = {query: {d: float(qrels[query].get(d, 0)) for d in row} for query, row in first.items()}
    study = depth_study(first, scores, qrels, [60, 5, 20], "nDCG@10", resamples=500, groups=None)
    assert [point.depth for point in study.points] == [5, 20, 60]
    means = [point.mean for point in study.points]
    assert means == sorted(means) == list(study.ceiling)
    assert (study.best.depth, study.enough, study.harms) == (60, 60, None)
    assert study.first_stage < study.best.mean


def test_phantom_hits_share_no_word_are_not_relevant_and_are_first():
    first = {"q": {"a": 4.0, "b": 3.0, "c": 2.0, "d": 1.0}}
    texts = {"a": "Sort a list", "b": "the moon", "c": "how to cook", "d": "the sun"}
    scores = {"q": {"a": 0.1, "b": 0.9, "c": 0.8, "d": 0.7}}
    asked = {"q": "how the lists are sorted"}
    hits = phantom_hits(first, scores, {"q": {"d": 1}}, asked, texts, top=3, stop_words={"the"})
    assert [(hit.document, hit.place, hit.first_stage_rank) for hit in hits] == [("b", 1, 2)]
    assert phantom_hits(first, scores, {"q": {"d": 1}}, asked, texts, top=3) == []
    more = phantom_hits(first, scores, {}, asked, texts, top=4, stop_words={"the", "how"})
    assert [hit.document for hit in more] == ["b", "c", "d", "a"]


def test_bad_input_is_named():
    first = {"q": {"a": 2.0, "b": 1.0}}
    with pytest.raises(UsageError, match="query 'q': candidate 'b' has no score"):
        depth_study(first, {"q": {"a": 1.0}}, {"q": {"a": 1}}, [1, 2])
    with pytest.raises(UsageError, match="depths are 1 or more"):
        depth_study(first, first, {"q": {"a": 1}}, [0])
    assert METHODS["drowning-in-documents"].area == "evaluate"


def test_queries_that_share_relevant_documents_are_resampled_together():
    """Of two groups, one won whole and one lost whole, a drawn mean is 0, 1/2 or 1; of four queries also 1/4 or 3/4."""
    qrels = {q: {relevant: 1} for q, relevant in zip("abcd", "xxyy", strict=True)}
    first = {query: {"x": 2.0, "y": 1.0} for query in qrels}
    scores = {query: {"x": 1.0, "y": 0.0} for query in qrels}
    tied = depth_study(first, scores, qrels, [2], "R@1", resamples=400)
    apart = depth_study(first, scores, qrels, [2], "R@1", resamples=400, groups=None)
    assert (tied.queries, tied.groups) == (4, 2)
    assert (apart.queries, apart.groups) == (4, None)
    assert (tied.points[0].low, tied.points[0].high) == pytest.approx((0.0, 1.0))
    assert tied.points[0].mean == pytest.approx(apart.points[0].mean) == pytest.approx(0.5)
