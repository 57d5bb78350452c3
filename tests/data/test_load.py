"""``load``: names, paths, layouts, and what is said where there is nothing to load."""

import re
import sys
from itertools import combinations

import pytest

import lorank
from lorank.data import load, write_beir
from lorank.errors import DataError, UsageError


@pytest.mark.parametrize(
    ("name", "documents", "splits"),
    [
        ("cranfield/beir", 1400, {"test": 225}),
        ("trec-dl19-smallcorpus", 5000, {"test": 43}),
        ("mq2008/S1.txt.gz", 2933, {"train": 157}),
        ("trec-news-2018-sample", 782 + 41, {"train": 45, "test": 5}),
        ("lightgbm-lambdarank", 3005 + 768, {"train": 201, "test": 50}),
        ("lightgbm-lambdarank/rank.test.gz", 768, {"test": 50}),
    ],
)
def test_layouts_are_told_apart(shared_data, name, documents, splits):
    collection = lorank.load(str(shared_data / name))
    assert len(collection.document_ids) == len(set(collection.document_ids)) == documents
    assert {name: len(split) for name, split in collection.splits.items()} == splits


def test_training_rows_are_known_by_their_fields(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text('{"query": "a", "pos": ["x"], "neg": ["y"]}\n')
    assert load(path).train.qrels == {"q1": {"d1": 1, "d2": 0}}


def test_the_packaged_collection_and_its_second_query_set(tmp_path):
    pydocs, names = load("pydocs"), load("pydocs-names")
    assert list(pydocs.splits) == ["train", "dev", "test"]
    assert list(names.splits) == ["test"]
    assert names.document_ids == pydocs.document_ids
    assert pydocs.card
    write_beir(pydocs, tmp_path / "pydocs")
    assert load(tmp_path / "pydocs") == pydocs


def test_the_second_packaged_collection_keeps_groups_in_one_split():
    lohelp = load("lohelp")
    assert lohelp.card
    assert {name: len(split) for name, split in lohelp.splits.items()} == {"train": 3314, "dev": 990, "test": 2315}
    relevant = [{page for row in split.qrels.values() for page in row} for split in lohelp.splits.values()]
    assert not any(a & b for a, b in combinations(relevant, 2))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("pydoc", "unknown collection 'pydoc'; did you mean 'pydocs'? known: "),
        ("no/such/folder", "there is nothing at no/such/folder; give a path that exists, a packaged collection"),
    ],
)
def test_an_unknown_name_says_what_exists(source, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        load(source)


def test_a_path_of_no_collection_says_what_it_holds_and_what_is_missing(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing of the kind\n")
    for path in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(DataError, match=r"it holds 1 pages and no queries with judgments .*: lorank import "):
            load(path)


def test_without_ir_datasets_the_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ir_datasets", None)
    with pytest.raises(UsageError, match="pip install ir_datasets"):
        load("ir_datasets:beir/scifact/test")


def test_negative_relevance_is_read_as_asked(tmp_path):
    (tmp_path / "qrels").mkdir()
    (tmp_path / "corpus.jsonl").write_text('{"_id": "d", "text": "t"}\n')
    (tmp_path / "queries.jsonl").write_text('{"_id": "q", "text": "t"}\n')
    (tmp_path / "qrels" / "test.tsv").write_text("q\td\t-1\n")
    with pytest.raises(DataError, match=r"test.tsv:1: the relevance -1 is below 0; .*negative='zero'"):
        load(tmp_path)
    assert load(tmp_path, negative="zero").test.qrels == {"q": {"d": 0}}
