"""`lorank import` in real processes: from 500 pages and a CSV of clicks to a ranker, and what it says on the way."""

import json
import os
import subprocess
import sys

import pytest

from lorank.data import load, order_documents, rank_pages, read_pages, read_run
from tiny_sites import write_site

LORANK = [sys.executable, "-c", "from lorank.cli import main; main()"]


@pytest.fixture
def lorank(tmp_path):
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}

    def run(*arguments, code=0):
        done = subprocess.run(
            [*LORANK, *map(str, arguments)], capture_output=True, text=True, env=environment, cwd=tmp_path
        )
        assert done.returncode == code, done.stderr
        return done

    return run


@pytest.mark.slow
def test_from_500_pages_and_a_csv_of_clicks_to_a_ranker(lorank, tiny_folders, tmp_path):
    clicks = write_site(tmp_path, 500)
    done = lorank("import", "site", "clicks.csv", "--out", "data", "--passage-words", 60)
    assert "documents  1000 of 500 pages" in done.stdout
    assert f"judgments  {clicks}" in done.stdout
    assert "on 500 of 500 pages: 'Welcome to the handbook'" in done.stdout
    assert "next       lorank train --data data" in done.stdout
    collection = load(tmp_path / "data")
    assert list(collection.splits) == ["train", "dev", "test"]
    base = ["--data", "data", "--base", tiny_folders["bert"], "--kind", "cross-encoder", "--adapter", "lora"]
    small = ["--rank", 2, "--steps", 4, "--batch-size", 4, "--negatives", 3, "--set", "lists.depth=10"]
    lorank("train", *base, *small, "--out", "runs/first")
    lorank("retrieve", "--data", "data", "--depth", 10, "--out", "bm25.run")
    lorank("rerank", "--ranker", "runs/first", "--data", "data", "--run", "bm25.run", "--out", "tuned.run")
    runs = ["--run", "bm25.run", "--run", "tuned.run"]
    judged = json.loads(lorank("evaluate", "--data", "data", "--pages", "data", *runs, "--json").stdout)
    pages = read_pages(tmp_path / "data")
    found, relevant = rank_pages(read_run(tmp_path / "bm25.run"), pages), rank_pages(collection.test.qrels, pages)
    first = [order_documents(row)[0] in relevant[query] for query, row in found.items()]
    assert judged["systems"]["bm25"]["mean"]["RR@10"] >= sum(first) / len(first) - 1e-9
    assert sum(first) > len(first) / 2
    ranked = lorank(
        "rank", "--ranker", "runs/first", "--query", "sorting words", "--documents", "data/corpus.jsonl", "--top", 3
    ).stdout.splitlines()
    assert len(ranked) == 3


def test_what_cannot_be_matched_is_counted_and_left_out_by_choice(lorank, tmp_path):
    write_site(tmp_path, 20)
    with (tmp_path / "clicks.csv").open("a") as file:
        file.write("lost,/nowhere.html,1\nbroken,/moon/page-1.html,often\n")
    refused = lorank("import", "site", "clicks.csv", "--out", "data", code=1)
    assert (
        "the label 'often' is not a finite number; mend the row, or leave such rows out with --skip-bad"
        in refused.stderr
    )
    refused = lorank("import", "site", "clicks.csv", "--out", "data", "--skip-bad", code=1)
    assert "leave them out with --dangling skip" in refused.stderr
    assert not (tmp_path / "data").exists()
    done = lorank("import", "site", "clicks.csv", "--out", "data", "--skip-bad", "--dangling", "skip")
    assert "left out   1 judgments or clicks of an unknown document" in done.stdout
    assert "wrote      data and skipped.jsonl in it" in done.stdout
    assert "data is there already" in lorank("import", "site", "clicks.csv", "--out", "data", code=1).stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--columns", "queri=q"], "unknown role in --columns: 'queri'; did you mean 'query'?"),
        (["--columns", "query"], "--columns: 'query' is not role=column"),
        (["--page-labels", "first"], "unknown --page-labels 'first'"),
        (["--shares", "1,2"], "--shares '1,2': write three numbers"),
        (["--passage-words", "5"], "passages of 5 words are too short"),
        (["--negative", "drop"], "drop"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_written(options, message, lorank, tmp_path):
    (tmp_path / "a.csv").write_text("query,document\na,x\n")
    assert message in lorank("import", "a.csv", "--out", "data", *options, code=2).stderr
    assert not (tmp_path / "data").exists()


def test_pages_alone_are_written_and_the_next_command_named(lorank, tmp_path):
    write_site(tmp_path, 8)
    done = lorank("import", "site", "--out", "data")
    assert "these are documents only; add clicks or judgments" in done.stdout
    assert len((tmp_path / "data" / "corpus.jsonl").read_text().splitlines()) == 8


@pytest.mark.slow
def test_a_table_of_labelled_pairs_trains_as_it_is(lorank, tiny_folders, tmp_path):
    rows = [
        f"about {word} {i},{word} text {i},{1 - i % 2}" for i in range(6) for word in ["sun", "moon", "earth", "list"]
    ]
    (tmp_path / "pairs.csv").write_text("query,document,label\n" + "\n".join(rows) + "\n")
    options = ["--kind", "cross-encoder", "--adapter", "lora", "--rank", 1, "--steps", 1, "--batch-size", 2]
    done = lorank("train", "--data", "pairs.csv", "--base", tiny_folders["bert"], *options, "--out", "runs/pairs")
    assert "runs/pairs/model" in done.stdout
