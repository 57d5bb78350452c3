"""Candidates from runs, and training lists that spare likely unjudged positives."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorank.data.candidates import from_run, training_lists
from lorank.data.collection import Collection, Split
from lorank.data.trec import write_run
from lorank.errors import DataError, UsageError

IDS = [f"d{i}" for i in range(200)]


def made(qrels, candidates=None):
    queries = {query: query for query in qrels}
    other = Split("dev", {"other": "other"}, {"other": {"d0": 1}})
    return Collection("made", IDS, IDS, {"train": Split("train", queries, qrels, candidates), "dev": other})


def test_the_best_are_kept_in_trec_evals_order():
    collection = made({"q1": {"d1": 1}, "q2": {"d1": 1}})
    run = {"q1": {"d1": 0.5, "d3": 0.5, "d2": 0.9, "d4": 0.1}, "other": {"d5": 1.0}}
    assert list(from_run(run, collection, "train", 3)["q1"].items()) == [
        ("d2", 0.9),
        ("d3", 0.5),
        ("d1", 0.5),
    ]  # exact: read, not computed
    assert list(from_run(run, collection, collection.train)) == ["q1"]


@pytest.mark.parametrize("name", ["a.run", "a.run.gz"])
def test_unknown_queries_and_documents_name_file_line_and_remedy(tmp_path, name):
    collection = made({"q1": {"d1": 1}})
    path = tmp_path / name
    write_run({"q1": {"d1": 1.0, "d2": 0.5}, "q7": {"d1": 1.0}}, path)
    with pytest.raises(DataError, match=rf"{name}:3: query 'q7' is in no split of collection 'made'; give the run"):
        from_run(path, collection, "train")
    assert list(from_run(path, collection, "train", unknown="skip")) == ["q1"]
    run = {"q1": {"d1": 1.0, "x2": 0.5}}
    write_run(run, path)
    with pytest.raises(DataError, match=rf"{name}:2: document 'x2' is not in collection 'made'; give the run"):
        from_run(run, collection, "train", path=path)
    with pytest.raises(DataError, match="run: document 'x2' is not in"):
        from_run(run, collection, "train")
    write_run({"other": {"d1": 1.0}}, path)
    with pytest.raises(DataError, match=r"no query of the split 'train' is in the run; make the run"):
        from_run(path, collection, "train")


def lists(qrels, candidates, seed=0, **options):
    collection = made({"q": qrels})
    rng = np.random.default_rng(seed)
    return training_lists(collection.train, collection, {"q": candidates}, rng=rng, **options)[0]


def names(each):
    return [IDS[i] for i in each.documents]


def test_the_margin_is_nv_retrievers():
    candidates = {"d1": 10.0, "d2": 9.6, "d3": 9.5, "d4": 9.4, "d5": 1.0, "d6": 12.0}
    each = lists({"d1": 2}, candidates, fill=False)
    assert names(each) == ["d1", "d3", "d4", "d5"]
    assert each.labels.tolist() == [2, 0, 0, 0]
    assert each.first_stage.tolist() == [10.0, 9.5, np.float32(9.4), 1.0]  # exact: read, not computed
    assert names(lists({"d1": 2}, candidates, fill=False, spare=None)) == ["d1", "d2", "d3", "d4", "d5", "d6"]
    assert names(lists({"d1": 2}, candidates, fill=False, spare=1.0)) == ["d1", "d2", "d3", "d4", "d5"]


def test_the_lowest_positive_counts_and_the_margin_goes_down_for_negative_scores():
    candidates = {"d1": -1.0, "d2": -2.0, "d3": -2.05, "d4": -2.2}
    assert names(lists({"d1": 1, "d2": 1}, candidates, fill=False)) == ["d1", "d2", "d4"]


def test_documents_judged_0_are_never_spared():
    assert names(lists({"d1": 1, "d2": 0}, {"d2": 5.0, "d1": 1.0, "d3": 0.1}, fill=False)) == ["d1", "d2", "d3"]


def test_a_positive_that_the_first_stage_missed_has_the_lowest_score_and_spares_all_unjudged():
    each = lists({"d9": 1, "d2": 0}, {"d1": 3.0, "d2": 2.0, "d3": 1.0}, negatives=4)
    assert names(each)[:2] == ["d9", "d2"]
    assert not {"d1", "d3", "d9", "d2"} & set(names(each)[2:])
    assert len(each) == 5
    assert each.first_stage.tolist() == [1.0, 2.0, 1.0, 1.0, 1.0]  # exact: read, not computed


def test_lists_without_first_stage_order_keep_every_row():
    collection = made({"q": {"d1": 1, "d2": 0, "d3": 2}}, {"q": {"d1": 0.0, "d2": 0.0, "d3": 0.0}})
    (each,) = training_lists(collection.train, collection, negatives=None, rng=np.random.default_rng(0))
    assert sorted(zip(names(each), each.labels)) == [("d1", 1), ("d2", 0), ("d3", 2)]
    assert each.first_stage is None


@given(
    judged=st.dictionaries(st.sampled_from(IDS[:30]), st.integers(0, 3), min_size=1, max_size=8),
    candidates=st.dictionaries(st.sampled_from(IDS[:40]), st.floats(-5, 5), max_size=30),
    negatives=st.integers(1, 12),
    seed=st.integers(0, 3),
)
def test_what_every_list_holds(judged, candidates, negatives, seed):
    collection = made({"q": judged})
    drawn, again = (
        training_lists(
            collection.train, collection, {"q": candidates}, negatives=negatives, rng=np.random.default_rng(seed)
        )
        for _ in range(2)
    )
    positives = [document for document, grade in judged.items() if grade > 0]
    assert len(drawn) == bool(positives)
    for each, same in zip(drawn, again):
        np.testing.assert_array_equal(each.documents, same.documents)
        assert each.documents.dtype == np.int64
        assert each.labels.dtype == np.float32
        assert len(set(names(each))) == len(each) == len(each.labels)
        assert {name: int(label) for name, label in zip(names(each), each.labels) if label} == {
            name: judged[name] for name in positives
        }
        assert len(each) - len(positives) <= negatives
        if each.first_stage is not None:
            lowest = min(candidates.values())
            expected = np.array([candidates.get(name, lowest) for name in names(each)], np.float32)
            np.testing.assert_array_equal(each.first_stage, expected)
            assert len(each) - len(positives) == negatives


def test_bad_options_and_unknown_documents_are_refused():
    collection = made({"q": {"d1": 1}})
    rng = np.random.default_rng(0)
    with pytest.raises(UsageError, match="split 'train' came without candidates"):
        training_lists(collection.train, collection, rng=rng)
    with pytest.raises(UsageError, match=r"spare is 1.5; take a share from 0 to 1"):
        training_lists(collection.train, collection, {}, spare=1.5, rng=rng)
    with pytest.raises(DataError, match=r"query 'q': document 'x' is not in collection 'made'; give candidates"):
        training_lists(collection.train, collection, {"q": {"x": 1.0, "d1": 0.0}}, spare=None, rng=rng)


def test_ten_thousand_queries_at_once():
    rng = np.random.default_rng(0)
    candidates, qrels = {}, {}
    for i in range(10_000):
        drawn = rng.choice(200, 50, replace=False)
        qrels[f"q{i}"] = {IDS[drawn[7]]: 1}
        candidates[f"q{i}"] = {IDS[d]: float(50 - rank) for rank, d in enumerate(drawn)}
    collection = made(qrels)
    drawn = training_lists(collection.train, collection, candidates, rng=rng)
    assert {len(each) for each in drawn} == {1 + 16}
