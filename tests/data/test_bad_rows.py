"""One report of all bad rows, from every reader of rows and folders."""

import json
import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lorank.data import (
    Collection,
    Split,
    from_run,
    load,
    read_beir,
    read_clicks,
    read_letor,
    read_pages,
    read_qrels,
    read_rows,
    read_run,
    write_beir,
)
from lorank.data.bad_rows import BadRows, BadRowsError
from lorank.data.svmlight import read_feature_rows
from lorank.errors import DataError

GOOD = {"query": "a", "pos": ["x"], "neg": ["y"]}


def test_a_report_counts_kinds_and_shows_three_of_each(tmp_path):
    rows = [GOOD, *({**GOOD, "neg": ["x"]} for _ in range(5)), {"query": "a"}, GOOD]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"query"\n')
    with pytest.raises(BadRowsError) as caught:
        read_rows(path)
    said = str(caught.value)
    assert said.startswith(f"{path}:2: the document 'x' is listed twice, and 6 more\n7 bad rows:\n")
    assert re.search(r"\n +5  the document … is listed twice\n.*:2: .*\n.*:3: .*\n.*:4: .*\n +a row is ", said)
    assert re.search(r"\n +1  the fields are \[…\]\n.*:7: ", said)
    assert re.search(r"\n +1  broken JSON .*\n.*:9: ", said)
    assert "--skip-bad" in said
    assert caught.value.line == 2
    assert len(caught.value.rows) == 7


def test_one_bad_row_is_its_own_message(tmp_path):
    path = tmp_path / "a.qrels"
    path.write_text("q 0 d 1\nq 0 e x\n")
    with pytest.raises(DataError, match=r"a\.qrels:2: the relevance 'x' is not a number") as caught:
        read_qrels(path)
    assert not isinstance(caught.value, BadRowsError)


def test_bad_judgments_of_all_kinds_are_in_one_report(tmp_path):
    path = tmp_path / "a.qrels"
    path.write_bytes(b"q 0 d 1\nq 0 e x\nq 0 d 1\nq 0\ncaf\xe9\n")
    with pytest.raises(BadRowsError, match="and 3 more\n4 bad rows") as caught:
        read_qrels(path)
    rows = BadRows(keep=True)
    assert read_qrels(path, on_bad=rows.add) == {"q": {"d": 1}}
    assert [error.line for error, _ in rows.rows] == [2, 3, 4, 5]
    assert caught.value.rows.counts == rows.counts
    rows.write(tmp_path / "skipped.jsonl")
    skipped = [json.loads(line) for line in (tmp_path / "skipped.jsonl").read_text().splitlines()]
    assert [row["row"] for row in skipped] == ["q 0 e x", "q\td\t1", "q 0", "caf\ufffd"]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "qrels").mkdir()
    (tmp_path / "corpus.jsonl").write_text('{"_id": "d", "text": "t"}\n{"_id": "d", "text": "t"}\n{"text": "t"}\n')
    (tmp_path / "queries.jsonl").write_text('{"_id": "q", "text": "t"}\n{"_id": "r", "text": ""}\n')
    (tmp_path / "qrels" / "train.tsv").write_text("q\td\t1\nq\tx\t1\nr\td\t1\n")
    (tmp_path / "qrels" / "test.tsv").write_text("q\td\t1\nq\td\t0\n")
    return tmp_path


def test_a_beir_folder_has_one_report_of_its_texts_and_one_of_its_judgments(folder):
    with pytest.raises(BadRowsError, match="and 2 more\n3 bad rows"):
        read_beir(folder)
    (folder / "corpus.jsonl").write_text('{"_id": "d", "text": "t"}\n')
    (folder / "queries.jsonl").write_text('{"_id": "q", "text": "t"}\n')
    with pytest.raises(BadRowsError, match=r"train\.tsv:2: .*and 2 more\n3 bad rows"):
        read_beir(folder)


def test_load_leaves_bad_rows_out_and_writes_them(folder, caplog):
    collection = load(folder, skip_bad=True, skipped=folder / "skipped.jsonl")
    assert collection.document_ids == ["d"]
    assert {name: split.qrels for name, split in collection.splits.items()} == {
        "train": {"q": {"d": 1}},
        "test": {"q": {"d": 1}},
    }
    assert len((folder / "skipped.jsonl").read_text().splitlines()) == 6
    assert "left out: 6 bad rows" in caplog.text


def test_what_concerns_the_whole_file_is_raised_at_once(tmp_path):
    with pytest.raises(DataError, match="there is no such file"):
        read_qrels(tmp_path / "none", on_bad=BadRows().add)


def skipped_lines(read):
    """Return what a reader returns where bad rows are left out, and the lines that it left out."""
    rows = BadRows(keep=True)
    return read(rows.add), [error.line for error, _ in rows.rows]


def test_bad_impressions_of_a_click_log_are_in_one_report(tmp_path):
    good = {"session": "s", "query_id": "q", "doc_ids": ["a", "b"], "clicks": [0, 1]}
    rows = [
        good,
        {**good, "clicks": [0, 2]},
        {**good, "doc_ids": "a"},
        good,
        {**good, "clicks": [0, 3]},
        {"session": 1},
    ]
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + "[1]\n")
    with pytest.raises(BadRowsError, match=r"log\.jsonl:2: clicks hold 2, .*, and 4 more\n5 bad rows") as caught:
        list(read_clicks(path))
    assert caught.value.rows.counts["clicks hold …, which is neither … nor …"] == 2
    read, lines = skipped_lines(lambda on_bad: list(read_clicks(path, on_bad=on_bad)))
    assert [each.clicks for each in read] == [(0, 1), (0, 1)]
    assert lines == [2, 3, 5, 6, 7]


def test_bad_rows_of_a_run_are_in_one_report(tmp_path):
    path = tmp_path / "a.run"
    path.write_bytes(b"q d\nq Q0 d 1 0.5 x\nq Q0 d 2 0.4 x\nq Q0 e 3 nan x\nq e 1\ncaf\xe9\nq Q0 f 4 0.1 x\n")
    with pytest.raises(BadRowsError, match=r"a\.run:1: 2 columns.*, and 4 more\n5 bad rows"):
        read_run(path)
    read, lines = skipped_lines(lambda on_bad: read_run(path, on_bad=on_bad))
    assert read == {"q": {"d": 0.5, "f": 0.1}}  # exact: read, not computed
    assert lines == [1, 3, 4, 5, 6]


def test_a_run_of_bad_rows_alone_is_reported_as_such(tmp_path):
    (tmp_path / "a.run").write_text("q d\nq e\n")
    with pytest.raises(BadRowsError, match="2 bad rows"):
        read_run(tmp_path / "a.run")
    with pytest.raises(DataError, match="the run is empty"):
        read_run(tmp_path / "a.run", on_bad=lambda error, row: None)


def test_what_a_run_ranks_and_its_collection_lacks_is_in_one_report(tmp_path):
    collection = Collection("c", ["d", "e"], ["one", "two"], {"test": Split("test", {"q": "one"}, {"q": {"d": 1}})})
    path = tmp_path / "a.run"
    path.write_text("q x 3\nq d 2\nr d 1\nr e 0\nq y 0\n")
    with pytest.raises(BadRowsError, match=r"a\.run:1: document 'x' is not in .* and 2 more\n3 bad rows"):
        from_run(path, collection, "test")
    read, lines = skipped_lines(lambda on_bad: from_run(path, collection, "test", on_bad=on_bad))
    assert read == {"q": {"d": 2.0}}  # exact: read, not computed
    assert lines == [1, 3, 5]


LETOR = """1 qid:1 1:0.5 2:1 # docid = a
x qid:1 1:0.5
0 qid:1 2:0.5 1:1
0 qid:1 1:nan
0 qid:2 1:0.25
1 1:3
2 qid:1 1:3
0 qid:2 1:0.75
0 qid:3 1:1 junk
"""


def test_bad_rows_of_a_letor_file_are_in_one_report(tmp_path):
    path = tmp_path / "train.txt"
    path.write_text(LETOR)
    with pytest.raises(BadRowsError, match=r"train\.txt:2: the label 'x' is not a number.*, and 5 more\n6 bad rows"):
        read_letor(path)
    read, lines = skipped_lines(lambda on_bad: read_feature_rows(path, on_bad=on_bad))
    assert lines == [2, 3, 4, 9, 6, 7]
    assert (read.query_ids, read.offsets.tolist()) == (["1", "2"], [0, 1, 3])
    assert read.features.tolist() == [[0.5, 1.0], [0.25, 0.0], [0.75, 0.0]]  # exact: read, not computed
    assert (read.labels.tolist(), read.document_ids) == ([1, 0, 0], ["1:a", "2:1", "2:2"])
    assert load(path, skip_bad=True).train.qrels == {"1": {"1:a": 1}, "2": {"2:1": 0, "2:2": 0}}


def test_lightgbms_row_counts_count_the_bad_rows_too(tmp_path):
    path = tmp_path / "rank.train"
    path.write_text("1 1:1\nx 1:2\n0 1:3\nx 1:4\nx 1:5\n2 1:6\n")
    (tmp_path / "rank.train.query").write_text("3\n2\n1\n")
    with pytest.raises(BadRowsError, match="3 bad rows"):
        read_letor(path)
    read, lines = skipped_lines(lambda on_bad: read_feature_rows(path, tmp_path / "rank.train.query", on_bad=on_bad))
    assert lines == [2, 4, 5]
    assert (read.query_ids, read.offsets.tolist()) == (["1", "3"], [0, 2, 3])
    assert read.features.tolist() == [[1.0], [3.0], [6.0]]  # exact: read, not computed


@given(st.lists(st.booleans(), min_size=1, max_size=12), st.integers(1, 4))
def test_what_is_left_of_a_letor_file_is_what_its_good_rows_alone_would_be(good, width):
    rows = [f"{i % 3} qid:{i // width} 1:{i}" if fine else f"0 qid:{i // width} 1:" for i, fine in enumerate(good)]
    assume(any(good))
    with tempfile.TemporaryDirectory() as folder:
        whole, part = Path(folder) / "whole.txt", Path(folder) / "part.txt"
        whole.write_text("\n".join(rows))
        part.write_text("\n".join(row for row, fine in zip(rows, good, strict=True) if fine))
        left, lines = skipped_lines(lambda on_bad: read_feature_rows(whole, on_bad=on_bad))
        alone = read_feature_rows(part)
    assert lines == [i + 1 for i, fine in enumerate(good) if not fine]
    assert (left.query_ids, left.document_ids) == (alone.query_ids, alone.document_ids)
    assert left.features.tolist() == alone.features.tolist()
    assert left.labels.tolist() == alone.labels.tolist()


def test_bad_rows_of_a_map_of_pages_are_in_one_report(tmp_path):
    path = tmp_path / "pages.tsv"
    path.write_text("a#1\ta\nb#1\nc#1\t\na#1\tb\na#1\ta\n")
    with pytest.raises(BadRowsError, match=r"pages\.tsv:2: 1 columns.*and 2 more\n3 bad rows"):
        read_pages(path)
    assert skipped_lines(lambda on_bad: read_pages(path, on_bad=on_bad)) == ({"a#1": "a"}, [2, 3, 4])


def test_candidates_and_propensities_of_a_beir_folder_are_in_the_report(tmp_path):
    write_beir(Collection("c", ["d"], ["one"], {"test": Split("test", {"q": "one"}, {"q": {"d": 1}})}), tmp_path)
    (tmp_path / "candidates").mkdir()
    (tmp_path / "candidates" / "test.run").write_text("q d 2\nq x 1\nq e nan\n")
    with pytest.raises(BadRowsError, match=r"test\.run:3: the score nan is not finite.* and 1 more\n2 bad rows"):
        read_beir(tmp_path)
    read, lines = skipped_lines(lambda on_bad: read_beir(tmp_path, on_bad=on_bad))
    assert read.split("test").candidates == {"q": {"d": 2.0}}  # exact: read, not computed
    assert lines == [3, 2]
