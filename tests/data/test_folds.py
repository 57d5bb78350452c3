"""Cross-validation and held-out dev splits: nothing lost, nothing shared."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorank.data.beir import read_beir
from lorank.data.collection import Collection, Split
from lorank.data.folds import cross_validation, hold_out_dev
from lorank.errors import UsageError


def made(targets, texts=None, name="test"):
    queries = {f"q{i}": f"text {i}" if texts is None else texts[i] for i in range(len(targets))}
    qrels = {f"q{i}": {f"d{d}": 1 for d in each} | {"d0": 0} for i, each in enumerate(targets)}
    candidates = {query: {"d0": 0.0} for query in queries}
    ids = [f"d{i}" for i in range(100)]
    return Collection("made", ids, ids, {name: Split(name, queries, qrels, candidates)})


def relevant(split):
    return {document for row in split.qrels.values() for document, grade in row.items() if grade > 0}


@given(count=st.integers(6, 40), folds=st.integers(3, 6), seed=st.integers(0, 5))
def test_every_query_is_tested_once_and_parts_do_not_meet(count, folds, seed):
    collection = made([[i + 1] for i in range(count)])
    parts = cross_validation(collection, folds, seed)
    tested = [query for part in parts for query in part.test.queries]
    assert sorted(tested) == sorted(collection.test.queries)
    for part in parts:
        sets = [set(part.splits[name].queries) for name in ("train", "dev", "test")]
        assert set.union(*sets) == set(collection.test.queries)
        assert sum(map(len, sets)) == count
        assert count // folds <= len(part.test) <= -(-count // folds)
        for split in part.splits.values():
            assert set(split.queries) == set(split.qrels) == set(split.candidates)
            assert all(split.qrels[query] == collection.test.qrels[query] for query in split.queries)


@given(st.lists(st.lists(st.integers(1, 60), min_size=1, max_size=2), min_size=30, max_size=40))
def test_by_target_no_relevant_document_is_in_two_parts(targets):
    try:
        parts = cross_validation(made(targets), 3, by="target")
    except UsageError:
        return
    for part in parts:
        train, dev, test = (relevant(part.splits[name]) for name in ("train", "dev", "test"))
        assert len(train | dev | test) == len(train) + len(dev) + len(test)


def test_queries_with_one_text_stay_together():
    texts = [f"text {i // 2}" for i in range(20)]
    for part in cross_validation(made([[i + 1] for i in range(20)], texts), 5):
        sets = [set(split.queries.values()) for split in part.splits.values()]
        assert len(set.union(*sets)) == sum(map(len, sets)) == 10


def test_equal_seeds_give_equal_folds_and_others_do_not():
    collection = made([[i + 1] for i in range(40)])
    first, again, other = (cross_validation(collection, 5, seed)[0].test.queries for seed in (1, 1, 2))
    assert first == again != other


def test_what_cannot_be_divided_says_why():
    with pytest.raises(UsageError, match="2 folds cannot give a train, a dev and a test part"):
        cross_validation(made([[1]] * 9), 2)
    with pytest.raises(UsageError, match="too few for 5 folds"):
        cross_validation(made([[1], [2], [3]]), 5)
    with pytest.raises(UsageError, match=r"8 of 10 queries tied together .* split by='query'"):
        cross_validation(made([[1]] * 8 + [[2], [3]]), 3, by="target")
    two = made([[1]], name="train")
    with pytest.raises(UsageError, match=r"has 2 splits \(train, test\); say which one"):
        cross_validation(Collection("two", [], [], {**two.splits, **made([[1]]).splits}))


@pytest.mark.parametrize("by", ["query", "target"])
def test_a_dev_split_is_held_out_of_train(by):
    collection = made([[i // 2 + 1] for i in range(60)], name="train")
    held = hold_out_dev(collection, 0.2, seed=3, by=by)
    assert len(held.dev) == 12
    assert len(held.train) == 48
    assert not set(held.dev.queries) & set(held.train.queries)
    assert by == "query" or not relevant(held.dev) & relevant(held.train)
    with pytest.raises(UsageError, match="has a dev split already"):
        hold_out_dev(held)
    with pytest.raises(UsageError, match="cannot be divided"):
        hold_out_dev(made([[1]], name="train"))
    with pytest.raises(UsageError, match="between 0 and 1"):
        hold_out_dev(collection, 1.0)


def test_cranfield_is_divided(shared_data):
    parts = cross_validation(read_beir(shared_data / "cranfield" / "beir"), 5)
    assert [len(part.test) for part in parts] == [45] * 5
    assert [len(part.train) for part in parts] == [135] * 5
