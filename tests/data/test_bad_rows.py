"""One report of all bad rows, from every reader of rows and folders."""

import json
import re

import pytest

from lorank.data import load, read_beir, read_qrels, read_rows
from lorank.data.bad_rows import BadRows, BadRowsError
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
