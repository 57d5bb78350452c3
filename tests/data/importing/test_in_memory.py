"""Frames, tables, lists of records and data sets in memory, as collections."""

import re

import pytest

import lorank
from lorank.errors import DataError, UsageError

ROWS = [
    {"query": "sorting", "document": "sort a list", "label": 2.5},
    {"query": "sorting", "document": "a map", "label": 0},
]
QRELS = {"q1": {"d1": 2.5, "d2": 0}}


def pandas_frame(rows):
    return pytest.importorskip("pandas").DataFrame(rows)


def polars_frame(rows):
    return pytest.importorskip("polars").DataFrame(rows, strict=False)


def arrow_table(rows):
    return pytest.importorskip("pyarrow").Table.from_pylist(rows)


def data_set(rows):
    return pytest.importorskip("datasets").Dataset.from_list(rows)


FRAMES = {"list": list, "pandas": pandas_frame, "polars": polars_frame, "pyarrow": arrow_table, "datasets": data_set}
every_frame = pytest.mark.parametrize("make", FRAMES.values(), ids=FRAMES)


@every_frame
def test_rows_in_memory_are_a_collection(make):
    collection = lorank.load(make(ROWS))
    assert collection.documents == ["sort a list", "a map"]
    assert collection.train.queries == {"q1": "sorting"}
    assert collection.train.qrels == QRELS  # exact: read, not computed


@every_frame
def test_lists_within_rows_and_parts_by_split(make):
    parts = {
        "train": make([{"anchor": "sorting", "positive": "sort a list", "negatives": ["a map", "a set"]}]),
        "validation": make([{"anchor": "maps", "positive": "a map", "negatives": ["a set"]}]),
    }
    collection = lorank.load(parts)
    assert collection.train.qrels == {"q1": {"d1": 1, "d2": 0, "d3": 0}}
    assert collection.dev.qrels == {"q2": {"d2": 1, "d3": 0}}


@every_frame
def test_documents_queries_and_judgments_in_frames_of_their_own(make):
    collection = lorank.load(
        {
            "documents": make([{"id": 7, "text": "sort a list"}, {"id": 8, "text": "a map"}]),
            "queries": make([{"id": 1, "text": "sorting"}]),
            "judgments": make([{"query_id": 1, "doc_id": 7, "relevance": 1}]),
        }
    )
    assert collection.document_ids == ["7", "8"]
    assert collection.train.queries == {"1": "sorting"}
    assert collection.train.qrels == {"1": {"7": 1}}


@every_frame
def test_columns_are_mapped_and_unknown_ones_named(make):
    rows = [{"frage": "sorting", "antwort": "sort a list"}]
    assert lorank.load(make(rows), columns={"query": "frage", "document": "antwort"}).train.qrels == {"q1": {"d1": 1}}
    with pytest.raises(DataError, match=r"<frame>: the fields are frage, antwort \(first row: frage='sorting'"):
        lorank.load(make(rows))
    with pytest.raises(UsageError, match="unknown role in --columns: 'queri'; did you mean 'query'"):
        lorank.load(make(rows), columns={"queri": "frage"})


def test_bad_rows_are_reported_together_or_left_out_and_written(tmp_path, caplog):
    rows = [*ROWS, {"query": "", "document": "x", "label": 1}, {"query": "y", "document": "x", "label": "z"}]
    with pytest.raises(DataError, match=re.escape("<frame>:3: the query is empty, and 1 more\n2 bad rows:")):
        lorank.load(rows)
    assert lorank.load(rows, skip_bad=True, skipped=tmp_path / "skipped.jsonl").train.qrels == QRELS  # exact: read
    assert len((tmp_path / "skipped.jsonl").read_text().splitlines()) == 2
    assert "2 bad rows" in caplog.text


def test_another_object_is_refused():
    with pytest.raises(UsageError, match="a int is no collection; give a path, a frame"):
        lorank.load(3)
