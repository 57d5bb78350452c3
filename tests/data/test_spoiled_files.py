"""Every reader over every way in which a file can be spoiled: it reads the same, or names the file and the line."""

import bz2
import gzip
import json
import lzma
import os
import subprocess
import sys
import threading

import pytest

from lorank.data import (
    load,
    read_beir,
    read_clicks,
    read_feature_rows,
    read_qrels,
    read_rows,
    read_run,
)
from lorank.data.beir import read_queries
from lorank.errors import DataError, UsageError
from lorank.ranking.consensus.duel_files import read_duels
from lorank.ranking.consensus.leaderboards import read_leaderboard
from lorank.ranking.consensus.preflib import read_preflib

RUN = "q1 Q0 d1 1 2.5 tag\nq1 Q0 d2 2 1.5 tag\nq2 Q0 d1 1 0.5 tag\n"
QRELS = "q1 0 d1 2\nq1 0 d2 0\nq2 0 d1 1\n"
ROWS = "".join(
    json.dumps(row) + "\n"
    for row in (
        {"query": "what", "docs": ["one", "two"], "labels": [1, 0]},
        {"query": "who", "pos": ["é"], "neg": ["two"], "pos_scores": [0.5], "neg_scores": [0.25]},
        {"query": "why", "chosen": "one", "rejected": "three", "weight": 0.5},
    )
)
QUERIES = '{"_id": "q1", "text": "é?"}\n{"_id": "q2", "text": "two"}\n'
CLICKS = '{"session": "s", "query_id": "q", "doc_ids": ["a", "b"], "clicks": [0, 1], "propensities": [1, 0.5]}\n' * 2
LETOR = "1 qid:1 1:0.5 2:1e-3 # docid = a\n0 qid:1 1:0.25 2:2 # docid = b\n2 qid:2 1:1 2:0 # docid = c\n"
DUELS = "winner,loser\na,b\nb,c\na,c\n"
BOARD = "model,T1,T2\nx,1.5,2\ny,2.5,1\n"
PREFLIB = (
    "# NUMBER ALTERNATIVES: 2\n# NUMBER VOTERS: 3\n# NUMBER UNIQUE ORDERS: 2\n"
    "# ALTERNATIVE NAME 1: é\n# ALTERNATIVE NAME 2: b\n2: 1,2\n1: 2,1\n"
)


def plain_rows(path):
    data = read_rows(path)
    return data.documents, data.train


def feature_parts(path):
    rows = read_feature_rows(path)
    return rows.features.tolist(), rows.labels.tolist(), rows.query_ids, rows.document_ids


def ballots(profile):
    return profile.items, profile.item.tolist(), profile.level.tolist(), profile.weight.tolist()


READERS = {
    "run": (read_run, "a.run", RUN),
    "qrels": (read_qrels, "a.qrels", QRELS),
    "rows": (plain_rows, "a.jsonl", ROWS),
    "queries": (read_queries, "queries.jsonl", QUERIES),
    "clicks": (lambda path: list(read_clicks(path)), "clicks.jsonl", CLICKS),
    "letor": (feature_parts, "train.txt", LETOR),
    "duels": (lambda path: ballots(read_duels(path)), "duels.csv", DUELS),
    "leaderboard": (lambda path: ballots(read_leaderboard(path)), "board.csv", BOARD),
    "preflib": (lambda path: ballots(read_preflib(path)), "votes.soc", PREFLIB),
}
every_reader = pytest.mark.parametrize("reader", READERS)

SAME = {
    "gzip": lambda raw: gzip.compress(raw),
    "two gzip members": lambda raw: gzip.compress(raw[:20]) + gzip.compress(raw[20:]),
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "a byte order mark": lambda raw: b"\xef\xbb\xbf" + raw,
    "carriage returns before newlines": lambda raw: raw.replace(b"\n", b"\r\n"),
    "no newline at the end": lambda raw: raw.rstrip(b"\n"),
    "blank lines at the end": lambda raw: raw + b"\n \n",
}
REFUSED = {
    "UTF-16": lambda raw: raw.decode().encode("utf-16"),
    "UTF-16, without a mark": lambda raw: raw.decode().encode("utf-16-le"),
    "Latin-1": lambda raw: raw + b"caf\xe9 \xe9\n",
    "a NUL": lambda raw: raw.replace(b"\n", b"\0\n", 1),
    "a zip archive": lambda raw: b"PK\x03\x04" + raw,
    "gzip, cut off": lambda raw: gzip.compress(raw)[:-9],
    "bzip2, damaged": lambda raw: bz2.compress(raw)[:-12] + b"x" * 12,
    "xz, damaged": lambda raw: lzma.compress(raw)[:-30] + b"x" * 30,
    "nothing": lambda raw: b"",
}
OF_THE_WHOLE_FILE = ("a zip archive", "gzip, cut off", "bzip2, damaged", "xz, damaged", "nothing")


def written(folder, name, raw):
    path = folder / name
    path.write_bytes(raw)
    return path


@every_reader
def test_what_holds_the_same_is_read_alike(reader, tmp_path):
    read, name, text = READERS[reader]
    (tmp_path / "plain").mkdir()
    expected = read(written(tmp_path / "plain", name, text.encode()))
    for spoiling, spoil in SAME.items():
        assert read(written(tmp_path, name, spoil(text.encode()))) == expected, spoiling


@every_reader
def test_pipes_are_read(reader, tmp_path):
    read, name, text = READERS[reader]
    expected = read(written(tmp_path, name, text.encode()))
    for number, raw in enumerate((text.encode(), gzip.compress(text.encode()))):
        pipe = tmp_path / f"{number}" / name
        pipe.parent.mkdir()
        os.mkfifo(pipe)
        writer = threading.Thread(target=pipe.write_bytes, args=(raw,), daemon=True)
        writer.start()
        assert read(pipe) == expected
        assert read(pipe) == expected, "what came out of a pipe is kept"


@every_reader
def test_what_is_spoiled_names_file_and_line(reader, tmp_path):
    read, name, text = READERS[reader]
    for spoiling, spoil in REFUSED.items():
        if reader in ("clicks", "queries") and spoiling == "nothing":
            continue
        path = written(tmp_path, name, spoil(text.encode()))
        with pytest.raises(DataError) as caught:
            read(path)
        assert str(caught.value).startswith(str(path)), spoiling
        if spoiling not in OF_THE_WHOLE_FILE:
            assert caught.value.line is not None, spoiling


NUMBERS = {
    "1_0": False,
    "nan": False,
    "inf": False,
    "-inf": False,
    "1e400": False,
    "9" * 400: False,
    "9" * 5000: False,
    "0x10": False,
    "\u0663": False,
    "1e30": True,
    "1e-30": True,
    "+2": True,
    "-0": True,
    "3.": True,
    ".5": True,
}
WITH_A_NUMBER = {
    "run": "q1 Q0 d1 1 {} tag\n",
    "qrels": "q1 0 d1 {}\n",
    "letor": "{} qid:1 1:1\n",
    "duels": None,
    "leaderboard": "model,T\nx,{}\ny,1\n",
}


@pytest.mark.parametrize("reader", [reader for reader, line in WITH_A_NUMBER.items() if line])
def test_numbers_are_plain_decimals_that_a_double_holds(reader, tmp_path):
    read, name, _ = READERS[reader]
    if reader == "leaderboard":
        read = lambda path: read_leaderboard(path, tasks=["T"])  # noqa: E731
    for number, good in NUMBERS.items():
        if reader == "leaderboard" and number == "nan":
            continue
        path = written(tmp_path, name, WITH_A_NUMBER[reader].format(number).encode())
        if good:
            read(path)
            continue
        with pytest.raises(DataError) as caught:
            read(path)
        assert caught.value.line is not None, number
        assert len(str(caught.value)) < 500 + len(str(path)), number


BROKEN_JSON = {
    "deep": "[" * 100_000,
    "deep within an object": '{"query": ' * 50_000,
    "a whole number of 5000 digits": '{"query": ' + "9" * 5000 + "}",
    "another value": "[1]",
    "cut off": '{"query": "a", ',
    "a raw control character": '{"query": "a\0"}',
}


@pytest.mark.parametrize("reader", ["rows", "queries", "clicks"])
def test_broken_json_names_its_line(reader, tmp_path):
    read, name, text = READERS[reader]
    for spoiling, line in BROKEN_JSON.items():
        path = written(tmp_path, name, f"{text}{line}\n".encode())
        with pytest.raises(DataError) as caught:
            read(path)
        assert caught.value.line == text.count("\n") + 1, spoiling
        assert len(str(caught.value)) < 500 + len(str(path)), spoiling


def test_numbers_in_rows_and_logs_are_finite(tmp_path):
    for number in ("NaN", "Infinity", "1e400", "9" * 400, "true", '"1"', "null"):
        for text, read in (
            ('{{"query": "a", "docs": ["x"], "labels": [{}]}}', read_rows),
            ('{{"query": "a", "pos": ["x"], "neg": [], "pos_scores": [{}], "neg_scores": []}}', read_rows),
            ('{{"session": "s", "query_id": "q", "doc_ids": ["a"], "clicks": [1], "propensities": [{}]}}', read_clicks),
            ('{{"session": "s", "query_id": "q", "doc_ids": ["a"], "clicks": [1], "features": [[{}]]}}', read_clicks),
        ):
            path = written(tmp_path, "a.jsonl", text.format(number).encode())
            with pytest.raises(DataError, match=r"a\.jsonl:1: "):
                list(read(path) if read is read_clicks else [read(path)])


def test_half_a_character_is_replaced_and_told_of_with_file_and_line(tmp_path, caplog):
    row = r'{"query": "caf\ud83d", "docs": ["\ude00x", "whole \ud83d\ude00"], "labels": [1, 0]}'
    data = read_rows(written(tmp_path, "a.jsonl", f"{ROWS}{row}\n".encode()))
    assert data.train.queries["q4"] == "caf\ufffd"
    assert {"\ufffdx", "whole \U0001f600"} <= set(data.documents)
    assert "a.jsonl:4: 2 halves of characters" in caplog.text
    for text in data.documents:
        text.encode()


BLANKS = {
    "run, seven columns": (read_run, "q1 Q0 New York 1 2.5 tag\n", 1),
    "run, six columns without a tag": (read_run, "q1 Q0 d1 1 2.5 tag\nq1 Q0 New York 1 2.5\n", 2),
    "run, a number after the blank": (read_run, "q1 Q0 Route 66 1 2.5 tag\n", 1),
    "run, three columns": (read_run, "q1 d1 2.5\nq1 New York 1.5\n", 2),
    "run, two blanks and three columns": (read_run, "q1 New York City Hall 1.5\n", 1),
    "qrels": (read_qrels, "q1 0 d1 1\nq1 0 New York 1\n", 2),
    "qrels, three columns": (read_qrels, "q1 New York 1\n", 1),
}


@pytest.mark.parametrize("case", BLANKS)
def test_a_docno_with_a_blank_is_refused_with_its_line(case, tmp_path):
    read, text, line = BLANKS[case]
    with pytest.raises(DataError) as caught:
        read(written(tmp_path, "a.txt", text.encode()))
    assert caught.value.line == line


def test_tabs_allow_ids_with_blanks(tmp_path):
    run = "q1\tQ0\tNew York\t1\t2.5\tmy tag\nq1\tQ0\tRoute 66\t2\t1.5\tmy tag\n"
    assert read_run(written(tmp_path, "a.run", run.encode())) == (  # exact: read, not computed
        {"q1": {"New York": 2.5, "Route 66": 1.5}}
    )
    short_run = run.replace("\tQ0", "").replace("\t1\t", "\t").replace("\t2\t", "\t").replace("\tmy tag", "")
    assert read_run(written(tmp_path, "b.run", short_run.encode())) == (  # exact: read, not computed
        {"q1": {"New York": 2.5, "Route 66": 1.5}}
    )
    qrels = "q 1\t0\tNew York\t1\nq 1\t0\tRoute 66\t0\n"
    assert read_qrels(written(tmp_path, "a.qrels", qrels.encode())) == {"q 1": {"New York": 1, "Route 66": 0}}
    beir = "query-id\tcorpus-id\tscore\nq 1\tNew York\t0.5\n"
    assert read_qrels(written(tmp_path, "a.tsv", beir.encode())) == (  # exact: read, not computed
        {"q 1": {"New York": 0.5}}
    )


def test_line_ends_of_one_carriage_return_are_refused(tmp_path):
    for reader in ("run", "qrels", "rows", "duels"):
        read, name, text = READERS[reader]
        with pytest.raises(DataError, match="carriage return"):
            read(written(tmp_path, name, text.replace("\n", "\r").encode() + b"\n"))


def zstd(raw):
    return pytest.importorskip("zstandard").ZstdCompressor().compress(raw)


@every_reader
def test_zstandard_is_read_or_the_package_is_named(reader, tmp_path):
    read, name, text = READERS[reader]
    magic = b"\x28\xb5\x2f\xfd"
    try:
        import zstandard  # noqa: F401
    except ImportError:
        with pytest.raises(UsageError, match=r"pip install 'lorank\[zst\]'"):
            read(written(tmp_path, name, magic + b"x"))
        return
    expected = read(written(tmp_path, name, text.encode()))
    assert read(written(tmp_path, name, zstd(text.encode()))) == expected
    with pytest.raises(DataError, match="Zstandard data is damaged"):
        read(written(tmp_path, name, zstd(text.encode())[:-5]))


def test_a_beir_folder_of_compressed_files_is_read(tmp_path):
    (tmp_path / "qrels").mkdir()
    corpus = "".join(json.dumps({"_id": f"d{i}", "title": "", "text": f"text {i}"}) + "\n" for i in range(3))
    (tmp_path / "corpus.jsonl.xz").write_bytes(lzma.compress(corpus.encode()))
    (tmp_path / "queries.jsonl.bz2").write_bytes(bz2.compress(QUERIES.encode()))
    (tmp_path / "qrels" / "test.tsv.gz").write_bytes(gzip.compress(b"q1\td1\t0.5\nq2\td2\t2\n"))
    assert read_beir(tmp_path).test.qrels == {"q1": {"d1": 0.5}, "q2": {"d2": 2}}  # exact: read, not computed
    (tmp_path / "corpus.jsonl").write_text(corpus)
    with pytest.raises(DataError, match=r"both corpus\.jsonl and corpus\.jsonl\.xz are there"):
        load(tmp_path)


def test_pipes_and_the_standard_input_reach_the_commands(tmp_path):
    written(tmp_path, "a.run", RUN.encode())
    written(tmp_path, "a.qrels.gz", gzip.compress(QRELS.encode()))
    command = (
        f"{sys.executable} -m lorank evaluate --qrels <(zcat a.qrels.gz) --run - --run <(cat a.run) "
        "--measures 'nDCG@10' --json < a.run"
    )
    if not has_main():
        command = command.replace("-m lorank", "-c 'from lorank.cli import main; main()'")
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    means = [system["mean"]["nDCG@10"] for system in json.loads(done.stdout)["systems"].values()]
    assert means == pytest.approx([1.0, 1.0])


def has_main():
    import importlib.util

    return importlib.util.find_spec("lorank.__main__") is not None
