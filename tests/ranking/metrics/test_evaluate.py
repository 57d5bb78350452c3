"""The whole comparison: the same queries for all, every number from its own definition, JSON and back."""

import json

import numpy as np
import pytest

import lorank
from lorank.errors import UsageError
from lorank.ranking.metrics import (
    Evaluation,
    evaluate,
    holm,
    ndcg_ceiling,
    per_query,
    randomization_test,
    recall_ceiling,
    to_markdown,
)
from lorank.ranking.metrics.compare import every_pair
from lorank.ranking.metrics.table import comparison_rows, system_rows

MEASURES = ["nDCG@10", "RR@10"]


@pytest.fixture(scope="module")
def world():
    rng = np.random.default_rng(0)
    documents = [f"d{i}" for i in range(40)]
    qrels = {f"q{q}": {d: int(rng.integers(1, 3)) for d in rng.choice(documents, 6)} for q in range(40)}
    skill = {"weak": 0.2, "middling": 0.7, "strong": 2.0}
    runs = {
        name: {
            query: {d: float(strength * judged.get(d, 0) + rng.normal()) for d in documents[:30]}
            for query, judged in qrels.items()
        }
        for name, strength in skill.items()
    }
    return runs, qrels


@pytest.fixture(scope="module")
def judged(world):
    return evaluate(*world, MEASURES, collection="toy", resamples=2000, groups=None)


def test_systems_hold_their_values_means_and_ceilings(world, judged):
    runs, qrels = world
    for name, run in runs.items():
        system, values = judged.systems[name], per_query(run, qrels, [*MEASURES, "Judged@10"])
        assert system.values == {measure: values[measure] for measure in MEASURES}
        for measure in MEASURES:
            assert system.mean[measure] == pytest.approx(np.mean(list(values[measure].values())))
            low, high = system.interval[measure]
            assert low < system.mean[measure] < high
        assert system.judged == pytest.approx(np.mean(list(values["Judged@10"].values())))
        assert judged.ceiling[name] == pytest.approx(np.mean(list(recall_ceiling(run, qrels).values())))
        assert judged.ceiling_ndcg10[name] == pytest.approx(np.mean(list(ndcg_ceiling(run, qrels).values())))
        assert system.mean["nDCG@10"] <= judged.ceiling_ndcg10[name]


def test_comparisons_are_paired_and_corrected_within_a_measure(judged):
    for measure in MEASURES:
        rows = [c for c in judged.comparisons if c.measure == measure]
        assert [(c.system, c.baseline) for c in rows] == [
            ("middling", "weak"),
            ("strong", "weak"),
            ("strong", "middling"),
        ]
        for c in rows:
            a, b = (np.array(list(judged.systems[name].values[measure].values())) for name in (c.system, c.baseline))
            assert c.difference == pytest.approx((a - b).mean())
            assert c.p == randomization_test(a - b, rng=np.random.default_rng(0), resamples=2000)
            assert (c.wins, c.ties, c.losses) == ((a > b).sum(), (a == b).sum(), (a < b).sum())
            assert c.interval[0] < c.difference < c.interval[1]
        assert [c.p_holm for c in rows] == holm([c.p for c in rows])
    assert judged.comparisons[1].p_holm < 0.01


def test_a_pairs_numbers_do_not_depend_on_the_other_runs(world, judged):
    runs, qrels = world
    two = evaluate({name: runs[name] for name in ("weak", "strong")}, qrels, MEASURES, resamples=2000, groups=None)
    assert two.comparisons[0].p == judged.comparisons[1].p
    assert two.comparisons[0].interval == pytest.approx(judged.comparisons[1].interval)
    assert two.systems["strong"].interval["RR@10"] == pytest.approx(judged.systems["strong"].interval["RR@10"])


def test_which_pairs_are_compared(world):
    runs, qrels = world

    def pairs(**options):
        found = evaluate(runs, qrels, ["RR@10"], resamples=10, **options).comparisons
        return [(c.system, c.baseline) for c in found]

    assert pairs(pairs="baseline", baseline="strong") == [("weak", "strong"), ("middling", "strong")]
    assert len(pairs(pairs="all")) == len(every_pair(3, 0, 0)) == 3
    assert evaluate({"weak": runs["weak"]}, qrels, resamples=10).comparisons == []


def test_the_same_run_twice_is_a_tie(world):
    runs, qrels = world
    for options in ({}, {"test": "t"}, {"interval": "bca"}):
        c = evaluate({"a": runs["weak"], "b": runs["weak"]}, qrels, ["RR@10"], **options).comparisons[0]
        assert (c.difference, *c.interval, c.p, c.p_holm) == pytest.approx((0.0, 0.0, 0.0, 1.0, 1.0))
        assert (c.wins, c.ties, c.losses) == (0, 40, 0)


def test_missing_queries_count_zero_and_are_told(world):
    runs, qrels = world
    partial = {query: runs["strong"][query] for query in list(qrels)[:30]}
    result = evaluate({"weak": runs["weak"], "partial": partial}, qrels, MEASURES, resamples=10)
    assert result.queries == 40
    assert len(result.systems["partial"].values["RR@10"]) == 40
    assert result.systems["partial"].values["RR@10"]["q39"] == 0.0
    assert result.settings["queries_without_results"] == {"partial": 10}
    assert "partial: 10 of 40 queries have no results and count 0." in to_markdown(result)


def test_queries_without_relevant_documents_can_be_left_out(world):
    runs, qrels = world
    more = {**qrels, "dull": {"d1": 0}}
    assert evaluate(runs, more, MEASURES, resamples=10).queries == 41
    skipped = evaluate(runs, more, MEASURES, resamples=10, no_relevant="skip")
    assert skipped.queries == 40
    assert skipped.settings["queries_without_results"] == {}


def test_settings_say_what_was_done(judged):
    said = judged.settings
    assert said["gain"] == {"nDCG@10": "linear (trec_eval)"}
    assert (said["seed"], said["resamples"], said["confidence"], said["baseline"]) == pytest.approx(
        (0, 2000, 0.95, "weak")
    )
    assert (said["test"], said["interval"], said["missing"]) == ("randomization", "percentile", "zero")


def test_json_and_back(judged):
    assert Evaluation.from_dict(json.loads(json.dumps(judged.to_dict()))) == judged


def test_tables_hold_every_system_and_comparison(judged):
    rows = system_rows(judged)
    assert [row["system"] for row in rows] == ["weak", "middling", "strong"]
    assert rows[0]["nDCG@10"].startswith(f"{judged.systems['weak'].mean['nDCG@10']:.4f} [")
    assert len(comparison_rows(judged, "RR@10")) == 3
    assert len(comparison_rows(judged)) == 6
    text = to_markdown(judged)
    assert text.startswith("toy test: 40 queries")
    assert "Gain of nDCG@10: linear (trec_eval)." in text
    widths = {len(line) for line in text.split("\n\n")[1].splitlines()}
    assert len(widths) == 1


def test_lorank_evaluate_is_this_one():
    assert lorank.evaluate is lorank.ranking.evaluate is evaluate


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"baseline": "week"}, "did you mean 'weak'"),
        ({"test": "wilcoxon"}, "unknown test"),
        ({"interval": "basic"}, "unknown interval"),
        ({"pairs": "everything"}, "unknown pairs"),
        ({"unknown": "skip"}, "unknown unknown"),
        ({"confidence": 1.0}, "confidence must lie"),
        ({"resamples": 0}, "resamples"),
        ({"measures": "RR@10"}, "list of names"),
        ({"measures": []}, "nothing to judge"),
    ],
)
def test_wrong_use_is_refused(world, options, message):
    with pytest.raises(UsageError, match=message):
        evaluate(*world, **options)


def test_unknown_queries_are_named_or_left_out_on_request(world):
    runs, qrels = world
    known = dict(list(qrels.items())[:39])
    with pytest.raises(UsageError, match=r"run 'weak' has 1 of 40 queries without judgments: q39"):
        evaluate(runs, known)
    assert evaluate(runs, known, resamples=10, unknown="ignore").queries == 39


def test_nothing_to_judge(world):
    runs, qrels = world
    for empty in [({}, qrels), (runs, {})]:
        with pytest.raises(UsageError, match="nothing to judge"):
            evaluate(*empty)
    with pytest.raises(UsageError, match="no query has a relevant document"):
        evaluate({"a": {"q": {"d": 1.0}}}, {"q": {"d": 0}}, no_relevant="skip")
