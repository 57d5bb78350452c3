"""The guarantees hold, in repetitions on planted populations whose true precision and coverage are known."""

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import binomtest, norm

from lorank.errors import UsageError
from lorank.ranking.calibration.guarantees import clopper_pearson, coverage_cutoff, precision_threshold
from lorank.ranking.calibration.labelled import Labelled, of_pairs


def population(rng, groups, per_query=5, queries=1):
    """Queries of ``per_query`` documents; a document of score s is relevant with probability logistic(3 s)."""
    count = groups * queries * per_query
    scores = rng.normal(size=count)
    query = np.arange(count) // per_query
    return Labelled(scores, rng.random(count) < expit(3 * scores), query, query // queries)


def true_precision(cut, unit, per_query=5):
    """Return the precision at a cut-off by quadrature: of a query's best document, or of one document drawn."""
    s = np.linspace(-6, 6, 4001)
    density = norm.pdf(s) if unit == "document" else per_query * norm.pdf(s) * norm.cdf(s) ** (per_query - 1)
    kept = s >= cut
    return float((density * expit(3 * s))[kept].sum() / density[kept].sum())


@pytest.mark.parametrize("trials", [(0, 10), (3, 10), (10, 10), (97, 100)])
def test_clopper_pearson_is_the_peers(trials):
    peer = binomtest(*trials).proportion_ci(0.95, "exact")
    assert clopper_pearson(*trials) == pytest.approx((peer.low, peer.high))


@pytest.mark.slow
@pytest.mark.parametrize("unit", ["best", "document"])
def test_the_precision_holds_in_a_thousand_repetitions(unit):
    target, confidence = 0.9, 0.9
    broken = answered = 0
    for seed in range(1000):
        rng = np.random.default_rng(seed)
        found = precision_threshold(population(rng, 120), target, rng=rng, confidence=confidence, unit=unit)
        if found.score is not None:
            answered += 1
            broken += true_precision(found.score, unit) < target
    assert answered > 300  # not by answering never
    # 1000 repetitions that each break with probability 0.1 at most stay below this but once in a million
    assert broken < 1000 * (1 - confidence) + 5 * np.sqrt(1000 * 0.1 * 0.9)


def test_the_precision_holds_where_queries_of_a_group_are_copies_of_each_other():
    """Twenty copies of each query: who counts queries as independent claims a precision that is not there."""
    target, confidence, broken = 0.8, 0.9, 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        one = population(rng, 60)
        copies = Labelled(
            np.tile(one.scores, 20),
            np.tile(one.relevant, 20),
            np.concatenate([one.query + 1000 * i for i in range(20)]),
            np.tile(one.group, 20),
        )
        found = precision_threshold(copies, target, rng=rng, confidence=confidence)
        broken += found.score is not None and true_precision(found.score, "best") < target
    assert broken < 300 * (1 - confidence) + 5 * np.sqrt(300 * 0.1 * 0.9)


def test_nothing_is_certified_where_nothing_is_relevant_or_groups_are_few():
    rng = np.random.default_rng(0)
    none = of_pairs(rng.normal(size=400), np.zeros(400, bool))
    assert precision_threshold(none, 0.9, rng=rng).score is None
    few = of_pairs(np.arange(20.0), np.ones(20, bool))  # 0.9 ** 10 is above 0.05
    found = precision_threshold(few, 0.9, rng=rng)
    assert (found.score, found.groups) == (None, 10)
    enough = of_pairs(np.arange(80.0), np.ones(80, bool))  # and 0.9 ** 40 below
    found = precision_threshold(enough, 0.9, rng=rng)
    assert found.score is not None
    assert found.lower == pytest.approx(0.05 ** (1 / found.answered))


@pytest.mark.parametrize("keep", ["any", "all"])
def test_the_coverage_holds_in_a_thousand_repetitions(keep):
    covered, kept = [], []
    for seed in range(1000):
        rng = np.random.default_rng(seed)
        cut = coverage_cutoff(population(rng, 60), 0.8, rng=rng, keep=keep)
        new = population(rng, 50)
        for query in range(50):
            rows = (new.query == query) & new.relevant
            if rows.any():
                above = new.scores[rows] >= cut
                covered.append(above.any() if keep == "any" else above.all())
        kept.append(float((new.scores >= cut).mean()))
    assert np.mean(covered) > 0.8 - 0.01
    assert np.mean(covered) < 0.86  # and not by keeping everything
    assert np.mean(kept) < 0.95


def test_too_few_groups_keep_everything():
    assert coverage_cutoff(of_pairs(np.arange(3.0), np.ones(3, bool)), 0.9, rng=np.random.default_rng(0)) == -np.inf


@pytest.mark.parametrize(
    ("change", "said"),
    [({"target": 1.0}, "between 0 and 1"), ({"confidence": 0.0}, "between 0 and 1"), ({"unit": "doc"}, "unknown unit")],
)
def test_what_no_guarantee_can_be_given_for_is_refused(change, said):
    data = population(np.random.default_rng(0), 10)
    options = {"target": 0.9, "rng": np.random.default_rng(0), **change}
    with pytest.raises(UsageError, match=said):
        precision_threshold(data, **options)
    with pytest.raises(UsageError):
        coverage_cutoff(data, 0.0, rng=np.random.default_rng(0))
    with pytest.raises(UsageError, match="two independent groups"):
        precision_threshold(of_pairs(np.ones(1), np.ones(1, bool)), 0.9, rng=np.random.default_rng(0))
