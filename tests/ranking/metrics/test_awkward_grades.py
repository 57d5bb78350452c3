"""Grades that trec_eval's code does not take, in processes of their own, since that code may end them."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given, settings
from hypothesis import strategies as st

from lorank.errors import UsageError
from lorank.ranking.metrics import evaluate, per_query
from lorank.ranking.metrics.ndcg import ndcg

EXP = "nDCG(dcg='exp-log2')@10"
BINARY = ["AP", "AP(rel=2)", "RR@10", "RR", "R@100", "P@5", "Success@5", "Rprec", "Bpref", "SetP", "SetF", "SetR"]
OTHERS = ["SetAP", "infAP", "NumRet", "NumRel", "NumQ", "IPrec@0.5", "Judged@10", "Judged"]
EVERY = [*BINARY, *OTHERS, "nDCG@10", "nDCG", EXP, "nDCG(judged_only=True)@10"]
RUN = {"q": {"a": 3.0, "b": 2.0, "c": 1.0}}
GRADES = {
    "only -2": {"a": -2},
    "only -1 and -2": {"a": -1, "b": -2, "z": -2},
    "none": {},
    "40 and 50": {"a": 40, "b": 50},
    "62": {"a": 62, "b": 1},
    "1e6": {"a": 1_000_000, "b": 0},
    "2^62": {"a": 2**62, "b": 1},
    "1e30": {"a": 1e30, "b": 10**30},
    "1e300": {"a": 1e300, "b": 1e-300},
    "real": {"a": 0.25, "b": 1.5, "c": 0.0},
    "real and negative": {"a": -0.5, "b": 0.5},
    "all equal": {"a": 1, "b": 1, "c": 1},
    "all zero": {"a": 0, "b": 0},
    "many negatives": {f"d{i}": -1 - i % 2 for i in range(2000)},
}


def in_a_process(code, given):
    done = subprocess.run([sys.executable, "-c", code], input=json.dumps(given), capture_output=True, text=True)
    assert done.returncode == 0, (done.returncode, done.stderr[-500:])
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def measured():
    code = (
        "import json, sys; from lorank.ranking.metrics import per_query\n"
        "given = json.load(sys.stdin)\n"
        "run, measures = given['run'], given['measures']\n"
        "print(json.dumps({n: per_query(run, {'q': g}, measures) for n, g in given['grades'].items()}))"
    )
    return in_a_process(code, {"run": RUN, "measures": EVERY, "grades": GRADES})


def gain(grade, exponential):
    """The gain over 2^grade - 1 of the largest, in logarithms, so that nothing overflows."""
    return 0.0 if grade <= 0 else (2.0**grade - 1 if exponential else float(grade))


def expected_ndcg(grades, k, exponential):
    listed = [gain(grades.get(d, 0), exponential) for d in "abc"][:k]
    best = sorted((gain(g, exponential) for g in grades.values()), reverse=True)[:k]
    ideal = sum(g / math.log2(i + 2) for i, g in enumerate(best))
    return sum(g / math.log2(i + 2) for i, g in enumerate(listed)) / ideal if ideal else 0.0


@pytest.mark.parametrize("name", GRADES)
def test_no_grade_ends_the_process_and_every_value_is_a_share(measured, name):
    for measure, of_queries in measured[name].items():
        assert of_queries["q"] >= 0, measure
        assert measure.startswith("Num") or of_queries["q"] <= 1 + 1e-9, measure


@pytest.mark.parametrize("name", [name for name in GRADES if name not in ("1e6", "2^62", "1e30", "1e300")])
def test_ndcg_of_any_grades_is_its_formula(measured, name):
    assert measured[name]["nDCG@10"]["q"] == pytest.approx(expected_ndcg(GRADES[name], 10, False))
    assert measured[name][EXP]["q"] == pytest.approx(expected_ndcg(GRADES[name], 10, True))


def test_the_largest_grade_alone_decides_where_others_vanish_beside_it(measured):
    for name in ("1e6", "2^62", "1e300"):
        assert measured[name]["nDCG@10"]["q"] == pytest.approx(1.0)
        assert measured[name][EXP]["q"] == pytest.approx(1.0)
    assert measured["1e30"]["nDCG@10"]["q"] == pytest.approx(1.0)


def test_binary_measures_ask_whether_the_grade_reaches_the_threshold(measured):
    assert measured["real"]["AP"]["q"] == pytest.approx(0.5), "only the second, of 1.5, reaches 1"
    assert measured["real"]["AP(rel=2)"]["q"] == 0
    for name in ("1e6", "2^62", "62"):
        assert measured[name]["AP(rel=2)"]["q"] == pytest.approx(1.0)


def test_a_grade_below_0_is_not_judged(measured):
    assert measured["only -2"]["Judged@10"]["q"] == 0
    assert measured["real and negative"]["Judged@10"]["q"] == pytest.approx(1 / 3)


def test_a_query_with_an_empty_row_is_a_query_without_results():
    """What `train --folds` judges in memory and `evaluate` from its file, which has no lines for such a query."""
    qrels = {"q": {"a": 1}, "r": {"b": 1}}
    in_memory = evaluate({"x": {"q": {"a": 1.0}, "r": {}}}, qrels, ["AP"], resamples=5)
    from_file = evaluate({"x": {"q": {"a": 1.0}}}, qrels, ["AP"], resamples=5)
    assert in_memory.to_dict() == from_file.to_dict()
    assert in_memory.systems["x"].judged == pytest.approx(1.0)


GRADED = st.dictionaries(st.sampled_from([f"d{i}" for i in range(12)]), st.integers(-2, 5), min_size=1)
ORDER = st.permutations([f"d{i}" for i in range(9)])


@given(grades=GRADED, order=ORDER, cutoff=st.sampled_from([1, 3, 5, None]), only=st.booleans())
@settings(max_examples=150, deadline=None)
def test_own_ndcg_is_trec_evals_where_that_can_be_asked(grades, order, cutoff, only):
    name = "ndcg" if cutoff is None else f"ndcg_cut_{cutoff}"
    held = {"q": {**grades, "never": 0}}
    run = {"q": {document: float(-place) for place, document in enumerate(order)}}
    judge = pytrec_eval.RelevanceEvaluator(held, {name}, judged_docs_only_flag=int(only))
    told = judge.evaluate(run).get("q", {name: 0.0})[name]
    assert ndcg(order, held["q"], cutoff, judged_only=only) == pytest.approx(told, abs=1e-9)


@given(grades=GRADED, order=ORDER)
@settings(max_examples=100, deadline=None)
def test_ids_do_not_matter_to_any_measure(grades, order):
    odd_names = ["\ud800", "a\0b", "a\0c", "", " ", "é", "a b", "\n", *"wxyz"]
    names = {f"d{i}": name for i, name in enumerate(odd_names)}
    plain = per_query({"q": {d: -float(i) for i, d in enumerate(order)}}, {"q": grades}, EVERY)
    odd = per_query(
        {"\0": {names[d]: -float(i) for i, d in enumerate(order)}},
        {"\0": {names[d]: grade for d, grade in grades.items()}},
        EVERY,
    )
    for measure in EVERY:
        assert odd[measure]["\0"] == pytest.approx(plain[measure]["q"])


@pytest.mark.parametrize(
    "grade", [math.nan, math.inf, "1", None, [1], 10**400, np.float32("nan")], ids=lambda g: str(g)[:9]
)
def test_what_is_no_finite_number_is_refused_by_name(grade):
    with pytest.raises(UsageError, match=r"query 'q', document 'b': the relevance .* is not a finite number"):
        per_query(RUN, {"q": {"a": 1, "b": grade}}, ["nDCG@10"])


@pytest.mark.parametrize(
    "measure",
    ["P@0", "nDCG@0", "Judged@0", "RR@0", "AP(rel=0)", "IPrec@2.0", "SetF(beta=2)", "P@-1", "nDCG(gains={1:-1})", "P"],
)
def test_measures_that_trec_evals_code_does_not_survive_are_refused(measure):
    with pytest.raises(UsageError):
        per_query(RUN, {"q": {"a": 1}}, [measure])
