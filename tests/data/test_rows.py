"""Training rows: three layouts, JSON Lines and Parquet, bad rows, round trips."""

import json
import re
import sys

import pytest

from lorank.data.collection import Collection, Split
from lorank.data.parquet import write_records
from lorank.data.rows import read_rows, training_rows, write_rows
from lorank.errors import DataError, UsageError

NAMES = ["rows.jsonl", "rows.jsonl.gz", "rows.parquet"]


def stored(tmp_path, rows, name="rows.jsonl"):
    write_records(rows, tmp_path / name)
    return tmp_path / name


@pytest.mark.parametrize("name", NAMES)
def test_positives_and_negatives(tmp_path, name):
    rows = [
        {"query": "a", "pos": ["x"], "neg": ["y", "z"], "pos_scores": [2.5], "neg_scores": [1.0, 0.5]},
        {"query": "b", "pos": ["y"], "neg": ["x"], "pos_scores": [1.0], "neg_scores": [0.0]},
    ]
    path = stored(tmp_path, rows, name)
    collection = read_rows(path)
    assert collection.documents == ["x", "y", "z"]
    assert collection.train == Split(
        "train",
        {"q1": "a", "q2": "b"},
        {"q1": {"d1": 1, "d2": 0, "d3": 0}, "q2": {"d2": 1, "d1": 0}},
        {"q1": {"d1": 2.5, "d2": 1.0, "d3": 0.5}, "q2": {"d2": 1.0, "d1": 0.0}},
    )


@pytest.mark.parametrize("name", NAMES)
def test_labelled_lists_and_pairs(tmp_path, name):
    lists = read_rows(stored(tmp_path, [{"query": "a", "docs": ["x", "y"], "labels": [3, 0]}], name))
    assert lists.train.qrels == {"q1": {"d1": 3, "d2": 0}}
    assert lists.train.candidates == {"q1": {"d1": 0.0, "d2": 0.0}}
    pairs = read_rows(stored(tmp_path, [{"query": "a", "chosen": "x", "rejected": "y"}], name))
    assert pairs.train.qrels == {"q1": {"d1": 1, "d2": 0}}


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"query": "a", "docs": ["x"], "labels": [-1]}, "the label -1 is below 0"),
        ({"query": "a", "docs": ["x"], "labels": [10**400]}, "'labels' holds 1000"),
        ({"query": "a", "docs": ["x"], "labels": ["1"]}, "'labels' holds 1, which is not"),
        ({"query": "a", "docs": ["x", "y"], "labels": [1]}, "'labels' is not a list of 2 numbers"),
        ({"query": "a", "docs": ["x", "x"], "labels": [1, 0]}, "the document 'x' is listed twice"),
        ({"query": "a", "docs": ["x", ""], "labels": [1, 0]}, "docs[1] is empty"),
        ({"query": " ", "docs": ["x"], "labels": [1]}, "query is empty"),
        ({"query": "a", "docs": [], "labels": []}, "'docs' is empty"),
        ({"query": "a", "docs": ["x"]}, "'labels' is not a list of 1 numbers"),
        ({"query": "a", "pos": [], "neg": ["x"]}, "'pos' is empty"),
        ({"query": "a", "pos": "x", "neg": ["y"]}, "'pos' is not a list"),
        ({"query": "a", "pos": ["x"], "neg": ["y"], "pos_scores": [1]}, "'neg_scores' is not a list of 1 numbers"),
        ({"query": "a", "pos": ["x"], "neg": ["x"]}, "the document 'x' is listed twice"),
        ({"query": "a", "chosen": "x"}, "rejected is None, not a text"),
        ({"query": 3, "chosen": "x", "rejected": "y"}, "query is 3, not a text"),
        ({"query": "a", "text": "x"}, "the fields are ['query', 'text']"),
        ({"query": "a", "pos": ["x"], "docs": ["x"], "labels": [1]}, "the fields are"),
    ],
)
def test_a_bad_row_names_file_line_and_remedy(tmp_path, row, problem):
    good = {"query": "a", "pos": ["x"], "neg": ["y"]}
    path = stored(tmp_path, [good, row])
    with pytest.raises(DataError, match=rf"rows\.jsonl:2: {re.escape(problem)}.*; a row is "):
        list(training_rows(path))


def test_scores_must_be_finite_and_json_whole(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"query": "a", "pos": ["x"], "neg": [], "pos_scores": [NaN], "neg_scores": []}\n')
    with pytest.raises(DataError, match=r"rows.jsonl:1: 'pos_scores' holds nan, which is not a finite number"):
        read_rows(path)
    path.write_text('{"query": "a", "pos"\n')
    with pytest.raises(DataError, match=r"rows.jsonl:1: broken JSON.*write one JSON object a line"):
        read_rows(path)
    path.write_text("")
    with pytest.raises(DataError, match=r"rows.jsonl: the file holds no rows; a row is"):
        read_rows(path)


def test_parquet_rows_are_counted_and_bad_files_told_of(tmp_path):
    rows = [{"query": "a", "docs": ["x"], "labels": [label]} for label in (1, -2)]
    path = stored(tmp_path, rows, "rows.parquet")
    with pytest.raises(DataError, match=r"rows.parquet:2: the label -2 is below 0"):
        read_rows(path)
    path.write_bytes(b"PAR0")
    with pytest.raises(DataError, match=r"rows.parquet: not a readable Parquet file"):
        read_rows(path)


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(UsageError, match=re.escape("pip install 'lorank[parquet]'")):
        read_rows(tmp_path / "rows.parquet")


def sample():
    split = Split(
        "train",
        {"q1": "a", "q2": "b"},
        {"q1": {"d1": 2, "d3": 1}, "q2": {"d2": 0}},
        {"q1": {"d1": 3.0, "d2": 1.5}, "q2": {"d2": 1.0, "d1": 0.5}},
    )
    return Collection("sample", ["d1", "d2", "d3"], ["x", "y", "z"], {"train": split})


@pytest.mark.parametrize("name", NAMES)
def test_what_is_written_is_read_again(tmp_path, name):
    path = tmp_path / name
    write_rows(sample(), path, layout="labels")
    assert [(row.query, row.documents, row.labels) for _, row in training_rows(path)] == [
        ("a", ["x", "y", "z"], [2, 0, 1]),
        ("b", ["y", "x"], [0, 0]),
    ]
    write_rows(sample(), path, layout="pos-neg")
    assert [(row.query, row.documents, row.labels, row.scores) for _, row in training_rows(path)] == [
        ("a", ["x", "z", "y"], [1, 1, 0], [3.0, 1.5, 1.5])
    ]  # exact: read, not computed
    write_rows(sample(), path, layout="pairs")
    assert [row.documents for _, row in training_rows(path)] == [["x", "y"], ["x", "z"], ["z", "y"]]


def test_real_preferences_load_as_pairs(shared_data, tmp_path):
    import gzip

    with gzip.open(shared_data / "hh-rlhf" / "harmless-base.test.jsonl.gz", "rt") as file:
        given = [json.loads(line) for line in file]
    turns = [
        (each["chosen"].rpartition("\n\nAssistant:"), each["rejected"].rpartition("\n\nAssistant:")[2])
        for each in given
    ]
    rows = [
        {"query": query, "chosen": chosen, "rejected": rejected}
        for (query, _, chosen), rejected in turns
        if chosen.strip() and rejected.strip() and chosen != rejected
    ]
    collection = read_rows(stored(tmp_path, rows, "rows.jsonl.gz"))
    assert len(collection.train) == len(rows) > 2000


@pytest.mark.parametrize("name", NAMES)
def test_groups_and_propensities_come_along_and_go_back(name, tmp_path):
    row = {"query": "a", "docs": ["x", "y"], "labels": [1, 0], "group": "shop", "propensities": [1.0, 0.25]}
    train = read_rows(stored(tmp_path, [row], name)).train
    assert train.groups == {"q1": "shop"}
    assert train.propensities == {"q1": {"d1": 1.0, "d2": 0.25}}  # exact: read, not computed
    write_rows(read_rows(tmp_path / name), tmp_path / f"again-{name}")
    assert read_rows(tmp_path / f"again-{name}").train == train
    with pytest.raises(DataError, match="'propensities' holds 0.0, which is not above 0"):
        read_rows(stored(tmp_path, [{**row, "propensities": [1.0, 0.0]}], name))


def test_users_and_weights_come_along_and_go_back(tmp_path):
    rows = [
        {"query": "a", "chosen": "x", "rejected": "y", "user": "ann", "weight": 0.5},
        {"query": "b", "docs": ["x", "z"], "labels": [0, 0], "user": "bob"},
    ]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    split = read_rows(tmp_path / "p.jsonl").train
    assert split.users == {"q1": "ann", "q2": "bob"}
    assert split.weights == {"q1": 0.5}  # exact: read, not computed
    assert split.qrels["q2"] == {"d1": 0, "d3": 0}
    write_rows(read_rows(tmp_path / "p.jsonl"), tmp_path / "again.jsonl")
    again = read_rows(tmp_path / "again.jsonl").train
    assert (again.users, again.weights, again.qrels) == (split.users, split.weights, split.qrels)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"user": 3}, "p.jsonl:2: user is 3"),
        ({"user": "u", "weight": -1}, "p.jsonl:2: the weight -1"),
        ({"user": "u", "weight": True}, "the weight True"),
        ({}, 'p.jsonl:2: the row has no "user"'),
    ],
)
def test_wrong_users_and_weights_are_refused(tmp_path, extra, message):
    row = {"query": "a", "chosen": "x", "rejected": "y"}
    (tmp_path / "p.jsonl").write_text(json.dumps(row | {"user": "u"}) + "\n" + json.dumps(row | extra) + "\n")
    with pytest.raises(DataError, match=message):
        read_rows(tmp_path / "p.jsonl")
