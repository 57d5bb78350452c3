"""Measures: trec_eval's tie rule everywhere, stated answers for empty queries, both gains of nDCG."""

import math

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given, settings
from hypothesis import strategies as st

from lorank.errors import UsageError
from lorank.ranking.metrics import mean_of, per_query, ranking_of

DOCUMENTS = [f"d{i}" for i in range(12)]
scores = st.dictionaries(st.sampled_from(DOCUMENTS), st.integers(-2, 2).map(float), min_size=1)
grades = st.dictionaries(st.sampled_from(DOCUMENTS), st.integers(0, 3), min_size=1)


@given(scores, grades)
@settings(max_examples=60, deadline=None)
def test_values_are_pytrec_evals_on_tied_scores(documents, judged):
    run, qrels = {"q": documents}, {"q": judged}
    theirs = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut.3", "recip_rank", "map"}).evaluate(run)["q"]
    ours = per_query(run, qrels, ["nDCG@3", "RR", "AP", "RR@3"])
    assert ours["nDCG@3"]["q"] == pytest.approx(theirs["ndcg_cut_3"])
    assert ours["AP"]["q"] == pytest.approx(theirs["map"])
    assert ours["RR"]["q"] == pytest.approx(theirs["recip_rank"])
    within = theirs["recip_rank"] if theirs["recip_rank"] > 1 / 3.5 else 0.0
    assert ours["RR@3"]["q"] == pytest.approx(within)


def test_scores_that_differ_beyond_single_precision_are_tied():
    documents = {"a": 1.0 + 1e-12, "b": 1.0}
    assert ranking_of(documents) == ["b", "a"]
    theirs = pytrec_eval.RelevanceEvaluator({"q": {"b": 1}}, {"recip_rank"}).evaluate({"q": documents})
    ours = per_query({"q": documents}, {"q": {"b": 1}}, ["RR"])["RR"]["q"]
    assert [theirs["q"]["recip_rank"], ours] == pytest.approx([1.0, 1.0])


def test_ties_break_by_document_id_descending_for_every_provider():
    run, qrels = {"q": {"a": 1.0, "b": 1.0, "c": 1.0}}, {"q": {"c": 1}}
    values = per_query(run, qrels, ["RR", "RR@10", "P@1", "Judged@1", "nDCG@1"])
    assert [value["q"] for value in values.values()] == pytest.approx([1.0] * 5)


def test_gain_of_ndcg_is_linear_unless_asked():
    run, qrels = {"q": {"a": 3.0, "b": 2.0, "c": 1.0}}, {"q": {"b": 3, "c": 1}}
    linear = (3 / math.log2(3) + 1 / math.log2(4)) / (3 + 1 / math.log2(3))
    exponential = (7 / math.log2(3) + 1 / math.log2(4)) / (7 + 1 / math.log2(3))
    values = per_query(run, qrels, ["nDCG@10", "nDCG(dcg='exp-log2')@10", "nDCG", "nDCG(dcg='exp-log2')"])
    assert values["nDCG@10"]["q"] == values["nDCG"]["q"] == pytest.approx(linear)
    assert values["nDCG(dcg='exp-log2')@10"]["q"] == pytest.approx(exponential)
    assert values["nDCG(dcg='exp-log2')"]["q"] == pytest.approx(exponential)


def test_queries_without_results_or_without_relevant_documents():
    run = {"hit": {"a": 1.0}, "dull": {"a": 1.0}, "stranger": {"a": 1.0}, "none": {}}
    qrels = {"hit": {"a": 1}, "dull": {"a": 0}, "none": {"a": 1}, "absent": {"b": 2}}
    measured = ["nDCG@10", "Judged@10"]

    def ndcg(**options):
        return per_query(run, qrels, measured, **options)["nDCG@10"]

    assert ndcg() == pytest.approx({"hit": 1.0, "dull": 0.0, "none": 0.0, "absent": 0.0})
    assert ndcg(missing="skip") == pytest.approx({"hit": 1.0, "dull": 0.0})
    assert ndcg(no_relevant="one") == pytest.approx({"hit": 1.0, "dull": 1.0, "none": 0.0, "absent": 0.0})
    assert ndcg(no_relevant="skip", missing="skip") == pytest.approx({"hit": 1.0})
    assert per_query(run, qrels, measured, no_relevant="one")["Judged@10"]["dull"] == pytest.approx(1.0)


def test_judged_share_and_relevance_levels():
    run, qrels = {"q": {"a": 3.0, "b": 2.0, "c": 1.0}}, {"q": {"a": 1, "c": 2}}
    values = per_query(run, qrels, ["Judged@10", "Judged@2", "RR@10", "RR(rel=2)@10", "P(rel=2)@3"])
    assert [values[m]["q"] for m in values] == pytest.approx([2 / 3, 1 / 2, 1, 1 / 3, 1 / 3])


def test_a_measure_under_two_names_is_returned_under_both():
    values = per_query({"q": {"a": 1.0}}, {"q": {"a": 1}}, ["nDCG@10", "nDCG(dcg='log2')@10"])
    assert list(values) == ["nDCG@10", "nDCG(dcg='log2')@10"]
    assert all(value == pytest.approx({"q": 1.0}) for value in values.values())


def test_mean_of_is_the_mean():
    rng = np.random.default_rng(0)
    run = {str(q): {d: float(rng.random()) for d in DOCUMENTS} for q in range(5)}
    qrels = {str(q): {d: int(rng.integers(3)) for d in DOCUMENTS} for q in range(6)}
    assert mean_of(run, qrels, "nDCG@5") == pytest.approx(
        np.mean(list(per_query(run, qrels, ["nDCG@5"])["nDCG@5"].values()))
    )
    assert mean_of(run, {}, "nDCG@5") == 0.0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nDGC@10", "did you mean 'nDCG'"),
        ("nDCG@@10", "cannot read the measure"),
        ("ERR@10", "does not run"),
        ("", "cannot read|unknown measure"),
    ],
)
def test_measures_that_cannot_be_had(name, message):
    with pytest.raises(UsageError, match=message):
        per_query({}, {}, [name])


def test_nan_and_unknown_options_are_refused():
    with pytest.raises(UsageError, match="query 'q', document 'b': the score is NaN"):
        per_query({"q": {"a": 1.0, "b": math.nan}}, {"q": {"a": 1}}, ["RR"])
    with pytest.raises(UsageError, match="did you mean 'zero'"):
        per_query({}, {}, ["RR"], missing="zeros")
    with pytest.raises(UsageError, match="unknown no_relevant"):
        per_query({}, {}, ["RR"], no_relevant="two")
