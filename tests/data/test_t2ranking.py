"""T2Ranking's layout is read back as it was written, with four levels, and searched in Chinese."""

import json

import pytest
from typer.testing import CliRunner

import lorank
from lorank.cli.app import app
from lorank.data.t2ranking import is_t2ranking, read_t2ranking
from lorank.errors import DataError

PASSAGES = {
    "0": "大熊猫主要生活在四川的山区",
    "1": "绿茶是没有发酵的茶叶",
    "2": "北京是中国的首都",
    "3": "四川的大熊猫保护区",
}
QUERIES = {"train": {"10": "绿茶"}, "dev": {"20": "大熊猫生活在哪里", "21": "中国首都"}, "test": {"30": "没有判断"}}
QRELS = {"train": {"10": {"1": 3, "0": 0}}, "dev": {"20": {"0": 3, "3": 2, "1": 0}, "21": {"2": 2, "1": 1}}}


def write(folder, *, heads=False, graded=True):
    folder.mkdir()
    (folder / "collection.tsv").write_text(
        ("pid\ttext\n" if heads else "") + "".join(f"{name}\t{text}\n" for name, text in PASSAGES.items())
    )
    for split, queries in QUERIES.items():
        (folder / f"queries.{split}.tsv").write_text(
            ("qid\ttext\n" if heads else "") + "".join(f"{name}\t{text}\n" for name, text in queries.items())
        )
    for split, qrels in QRELS.items():
        rows = [(q, d, grade) for q, row in qrels.items() for d, grade in row.items()]
        if graded:
            (folder / f"qrels.{split}.tsv").write_text(
                ("qid\t-\tpid\trel\n" if heads else "") + "".join(f"{q}\t0\t{d}\t{g}\n" for q, d, g in rows)
            )
        retrieval = "".join(f"{q}\t{d}\n" for q, d, g in rows if g >= 2)
        (folder / f"qrels.retrieval.{split}.tsv").write_text(("qid\tpid\n" if heads else "") + retrieval)
    return folder


@pytest.mark.parametrize("heads", [False, True])
def test_the_layout_is_read_as_it_was_written(tmp_path, heads):
    data = lorank.load(write(tmp_path / "t2", heads=heads))
    assert dict(zip(data.document_ids, data.documents, strict=True)) == PASSAGES
    assert {name: split.qrels for name, split in data.splits.items()} == QRELS
    assert data.dev.queries == QUERIES["dev"]
    assert set(data.splits) == {"train", "dev"}
    assert data.search_language == "cjk"


def test_retrieval_counts_levels_of_2_and_above_where_only_it_is_there(tmp_path):
    data = read_t2ranking(write(tmp_path / "t2", graded=False))
    assert data.dev.qrels == {"20": {"0": 1, "3": 1}, "21": {"2": 1}}


def test_one_command_gives_the_baseline_row_and_counts_the_levels(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = write(tmp_path / "t2")
    done = CliRunner().invoke(
        app, ["evaluate", "--data", str(folder), "--split", "dev", "--ranker", "bm25", "--json",
              "--measures", "nDCG@10 RR@10"],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)["systems"]["bm25"]
    assert found["mean"]["RR@10"] == pytest.approx(1.0)
    assert found["values"]["nDCG@10"]["20"] > 0.9


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("qrels.dev.tsv", "20\t0\t9\t1\n", "qrels.dev.tsv:1: passage '9'"),
        ("qrels.dev.tsv", "20\t0\t0\tx\n", "qrels.dev.tsv:1"),
        ("qrels.dev.tsv", "99\t0\t0\t1\n", "qrels.dev.tsv:1: query '99'"),
        ("qrels.dev.tsv", "20\t0\t0\n", "3 columns"),
        ("collection.tsv", "0\ta\n0\tb\n", "collection.tsv:2: passage '0' stands twice"),
    ],
)
def test_bad_rows_are_named(tmp_path, file, text, said):
    folder = write(tmp_path / "t2")
    (folder / file).write_text(text)
    with pytest.raises(DataError, match=said.replace("(", r"\(")):
        read_t2ranking(folder)


def test_other_folders_are_none(tmp_path):
    assert not is_t2ranking(tmp_path)
    (tmp_path / "collection.tsv").write_text("a\tb\n")
    assert not is_t2ranking(tmp_path)
