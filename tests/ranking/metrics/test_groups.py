"""Groups of queries: found from shared relevant documents, resampled and tested as wholes."""

import itertools

import numpy as np
import pytest

from lorank.errors import UsageError
from lorank.ranking.metrics import evaluate, group_tied_queries, interval
from lorank.ranking.metrics.groups import grouped_bootstrap_means, grouped_interval, membership, sums
from lorank.ranking.metrics.table import to_markdown


def test_ties_go_through_other_queries_and_only_through_relevant_documents():
    qrels = {"a": {"x": 1}, "b": {"y": 1, "x": 0}, "c": {"x": 1, "y": 2}, "d": {"z": 1, "y": 0}, "e": {}}
    assert group_tied_queries(qrels) == {"a": "a", "b": "a", "c": "a", "d": "d", "e": "e"}


def test_the_mean_of_resampled_groups_is_a_ratio_of_sums():
    """Two groups are drawn as A A, A B or B B, with means S_A / C_A, (S_A + S_B) / n and S_B / C_B."""
    values, member = np.array([[1.0], [2.0], [6.0]]), np.array([0, 0, 1])
    means = grouped_bootstrap_means(values, member, rng=np.random.default_rng(0), resamples=200)
    expected = {(1.0 + 2.0) / 2, 9.0 / 3, 6.0}
    assert {round(float(m), 9) for m in means[:, 0]} == expected


def test_the_interval_over_groups_of_one_is_the_plain_one_and_over_one_group_is_a_point():
    values = np.random.default_rng(1).normal(size=12)
    alone = grouped_interval(values, np.arange(12), rng=np.random.default_rng(0), resamples=500)
    assert alone == pytest.approx(interval(values, rng=np.random.default_rng(0), resamples=500))
    together = grouped_interval(values, np.zeros(12, int), rng=np.random.default_rng(0), resamples=500)
    assert together == pytest.approx((values.mean(), values.mean()))


def runs_of(old, new):
    return {
        name: {q: {"r": 2.0 if hit else 0.0, "o": 1.0} for q, hit in hits.items()}
        for name, hits in (("old", old), ("new", new))
    }


def test_the_test_flips_whole_groups():
    """Groups of 1, 2 and 3 queries, all won: only + + + and - - - reach the sum, so p = 2 / 2^3, not 2 / 2^6."""
    queries = list("abcdef")
    groups = dict(zip(queries, "xyyzzz", strict=True))
    qrels = {q: {"r": 1} for q in queries}
    runs = runs_of(dict.fromkeys(queries, False), dict.fromkeys(queries, True))
    grouped = evaluate(runs, qrels, ["P@1"], groups=groups, resamples=50).comparisons[0]
    alone = evaluate(runs, qrels, ["P@1"], groups=None, resamples=50).comparisons[0]
    assert grouped.p == pytest.approx(2 / 2**3)
    assert alone.p == pytest.approx(2 / 2**6)
    assert grouped.difference == alone.difference


def test_queries_that_share_relevant_documents_are_tied_by_default():
    qrels = {q: {shared: 1} for q, shared in zip("abcdef", "xyyzzz", strict=True)}
    runs = {
        "old": {q: {"o": 1.0} for q in qrels},
        "new": {q: dict.fromkeys(row, 1.0) for q, row in qrels.items()},
    }
    tied = evaluate(runs, qrels, ["P@1"], resamples=50)
    assert tied.settings["groups"] == 3
    assert tied.comparisons[0].p == pytest.approx(2 / 2**3)
    alone = {q: {q: 1} for q in qrels}
    assert evaluate(runs, alone, ["P@1"], resamples=50).settings["groups"] == 6
    assert "groups" not in evaluate(runs, alone, ["P@1"], resamples=50, groups=None).settings


def test_the_table_tells_how_many_groups_the_queries_form():
    runs = {"one": {q: {"x": 1.0} for q in "abc"}}
    tied = evaluate(runs, {"a": {"x": 1}, "b": {"x": 1}, "c": {"y": 1}}, ["P@1"], resamples=50)
    assert "3 queries in 2 independent groups" in to_markdown(tied)
    alone = evaluate(runs, {q: {q: 1} for q in "abc"}, ["P@1"], resamples=50)
    assert "No two of the 3 queries share a relevant document." in to_markdown(alone)


def test_p_over_groups_is_the_share_of_sign_patterns_of_the_sums():
    rng = np.random.default_rng(0)
    queries = [f"q{i}" for i in range(9)]
    groups = {q: str(i // 3) for i, q in enumerate(queries)}
    new = {q: bool(rng.integers(2)) for q in queries}
    old = {q: bool(rng.integers(2)) for q in queries}
    difference = np.array([[float(new[q]) - float(old[q])] for q in queries])
    total = sums(difference, membership(groups, queries))[:, 0]
    reached = [abs(np.dot(signs, total)) >= abs(total.sum()) - 1e-12 for signs in itertools.product([1, -1], repeat=3)]
    found = evaluate(runs_of(old, new), {q: {"r": 1} for q in queries}, ["P@1"], groups=groups, resamples=50)
    assert found.comparisons[0].p == pytest.approx(np.mean(reached))
    assert found.settings["groups"] == 3


def test_a_query_without_a_group_and_an_interval_without_groups_are_refused():
    runs, qrels = runs_of({"a": True}, {"a": False}), {"a": {"r": 1}}
    with pytest.raises(UsageError, match="'a'"):
        evaluate(runs, qrels, ["P@1"], groups={})
    with pytest.raises(UsageError, match="percentile"):
        evaluate(runs, qrels, ["P@1"], groups={"a": "a"}, interval="bca")
