"""The command line and people: measures as they write them, quiet, the tab key, narrow terminals, a first word."""

import logging
import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from lorank.cli.app import app
from lorank.data import write_beir, write_qrels, write_run
from lorank.errors import UsageError
from lorank.ranking.metrics.evaluate import evaluate
from lorank.ranking.metrics.measure_names import ALIASES, canonical_measure, split_measures
from lorank.ranking.metrics.measures import parse_measure, per_query
from lorank.ranking.metrics.table import markdown, to_markdown

LORANK = [sys.executable, "-c", "from lorank.cli import main; main()"]
QRELS = {"q": {"a": 1, "b": 0}, "r": {"c": 2}}
RUN = {"q": {"a": 1.0, "b": 2.0}, "r": {"c": 1.0}}


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("ndcg@10", "nDCG@10"),
        ("NDCG@10", "nDCG@10"),
        ("ndcg_cut_10", "nDCG@10"),
        ("ndcg_cut.10", "nDCG@10"),
        ("map", "AP"),
        ("MAP@100", "AP@100"),
        ("mrr@10", "RR@10"),
        ("recip_rank", "RR"),
        ("recall@100", "R@100"),
        ("recall_100", "R@100"),
        ("p@5", "P@5"),
        ("P_5", "P@5"),
        ("hits@1", "Success@1"),
        ("r-precision", "Rprec"),
        ("ap(rel=2)", "AP(rel=2)"),
    ],
)
def test_measures_as_people_write_them(written, meant):
    assert canonical_measure(written) == meant
    assert str(parse_measure(written)) == meant
    assert per_query(RUN, QRELS, [written])[written] == pytest.approx(per_query(RUN, QRELS, [meant])[meant])


def test_a_measures_own_name_stays_as_it_is():
    for name in ("nDCG@10", "AP(rel=2)@100", "R@100", "Judged@10", "nDCG(dcg='exp-log2')@10", "IPrec@0.1"):
        assert canonical_measure(name) == name
    assert split_measures(["nDCG(dcg='exp-log2', judged_only=True)@10,map mrr"])[1:] == ["AP", "RR"]
    for alias in ALIASES:
        parse_measure(f"{alias}@5" if ALIASES[alias] in ("R", "P", "Success") else alias)


@pytest.mark.parametrize(("written", "near"), [("nDGC@10", "nDCG"), ("recal@10", "recall"), ("mapp", "map")])
def test_a_measure_that_is_none_is_met_with_the_nearest(written, near):
    with pytest.raises(UsageError, match=f"unknown measure '{written.partition('@')[0]}'; did you mean '{near}'"):
        parse_measure(written)


def lorank(*arguments, cwd=None, **more):
    own = {name: value for name, value in {**os.environ, "OMP_NUM_THREADS": "1", **more}.items() if value is not None}
    return subprocess.run(
        [*LORANK, *map(str, arguments)], capture_output=True, text=True, env=own, cwd=cwd, check=False
    )


@pytest.fixture
def judged(tmp_path):
    names = ("first-stage-of-bm25", "tuned-with-a-long-name", "another-one")
    for i, name in enumerate(names):
        run = {f"q{j}": {"a": 1.0 + (i + j) % 3, "b": 2.0, "c": 0.5} for j in range(6)}
        write_run(run, tmp_path / f"{name}.run")
    write_qrels({f"q{j}": {"a": 1, "c": j % 2} for j in range(6)}, tmp_path / "qrels.txt")
    return [part for name in names for part in ("--run", f"{name}.run")], "qrels.txt"


def test_tables_fit_in_80_columns(judged, tmp_path):
    runs, qrels = judged
    narrow = lorank("evaluate", *runs, "--qrels", qrels, "--measures", "ndcg@10,map", cwd=tmp_path, COLUMNS="80")
    assert narrow.returncode == 0, narrow.stderr
    assert max(map(len, narrow.stdout.split("\n"))) <= 80
    wide = lorank("evaluate", *runs, "--qrels", qrels, "--measures", "ndcg@10,map", cwd=tmp_path, COLUMNS=None)
    assert "| system " in wide.stdout
    assert max(map(len, wide.stdout.split("\n"))) > 80
    figures = {word for word in wide.stdout.split() if word.startswith("0.")}
    assert figures <= set(narrow.stdout.split())


@pytest.mark.parametrize("command", [["methods"], ["adapter", "list"]])
def test_lists_fit_in_80_columns(command):
    for columns in ("80", "200"):
        said = lorank(*command, COLUMNS=columns)
        assert max(map(len, said.stdout.split("\n"))) <= int(columns)


@pytest.mark.parametrize("command", ["train", "rank", "rerank", "evaluate", "depth", "retrieve", "push", "adapter"])
def test_help_fits_in_80_columns(command):
    said = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "80", "TERMINAL_WIDTH": "80"})
    assert said.exit_code == 0
    assert max(map(len, said.stdout.split("\n"))) <= 80


def test_an_evaluation_keeps_its_table_where_it_fits():
    judged = evaluate({"a": RUN}, QRELS, measures=["RR"])
    assert to_markdown(judged, 200).split("\n\n")[1] == to_markdown(judged).split("\n\n")[1]
    assert markdown([]) == ""


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("lorank tra", {"train"}),
        ("lorank train --loss softm", {"softmax"}),
        ("lorank train --adapter pis", {"pissa"}),
        ("lorank rank --ranker mini", {"minilm"}),
        ("lorank rerank --strategy joint", {"jointrank"}),
        ("lorank train --set reading.max", {"reading.max_length="}),
        ("lorank evaluate --measures ndcg@1", {"ndcg@10"}),
    ],
)
def test_the_tab_key_offers_names(words, expected):
    place = str(len(words.split()) - 1)
    said = lorank(_LORANK_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=place)
    assert set(said.stdout.split()) == expected
    assert lorank("--show-completion", "bash").returncode in (0, 1)  # 1 where no shell is found


@pytest.mark.slow
def test_quiet_says_nothing_but_what_went_wrong(texts, tmp_path):
    write_beir(texts, tmp_path / "beir")
    said = lorank(
        "retrieve", "--data", tmp_path / "beir", "--out", tmp_path / "a.run", "--quiet", XDG_CACHE_HOME=tmp_path
    )
    assert (said.returncode, said.stderr) == (0, "")
    loud = lorank("retrieve", "--data", tmp_path / "beir", "--out", tmp_path / "b.run", XDG_CACHE_HOME=tmp_path)
    assert loud.stderr.startswith("read ")
    wrong = lorank("retrieve", "--data", tmp_path / "none", "--out", tmp_path / "a.run", "--quiet")
    assert wrong.stderr.startswith("lorank: ")


def test_something_is_said_before_torch_is_imported(texts, tmp_path):
    """The first line comes while the command still imports and reads, not when it is done with that."""
    write_beir(texts, tmp_path / "beir")
    script = (
        "import sys\n"
        "from lorank.cli import progress\n"
        "class Watch:\n"
        "    def __init__(self, stream): self.stream = stream\n"
        "    def write(self, text):\n"
        "        if text.strip(): self.stream.write(f'{\"torch\" in sys.modules} {text}')\n"
        "    def flush(self): self.stream.flush()\n"
        "    def isatty(self): return False\n"
        "progress.console.file = Watch(sys.stderr)\n"
        "from lorank.cli import main\n"
        "main()\n"
    )
    command = [
        sys.executable,
        "-c",
        script,
        "train",
        "--data",
        tmp_path / "beir",
        "--base",
        tmp_path / "no",
        "--out",
        "x",
    ]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.stderr.startswith("False check the settings"), done.stderr


def test_a_note_is_printed_once(capsys):
    from lorank.cli.progress import console, report_notes

    report_notes()
    for _ in range(2):
        logging.getLogger("lorank.some.room").info("2 documents were cut")
    assert capsys.readouterr().err.count("2 documents were cut") == 1
    report_notes(quiet=True)
    logging.getLogger("lorank").info("3 documents were cut")
    logging.getLogger("lorank").warning("a warning")
    assert capsys.readouterr().err == "a warning\n"
    report_notes()
    assert not console.quiet


def test_a_command_prints_no_warnings_of_libraries_at_their_import(tmp_path):
    pytest.importorskip("torchao")
    (tmp_path / "docs.jsonl").write_text('{"_id": "a", "text": "sort a dict"}\n')
    line = ["rank", "--ranker", "minilm", "--query", "sorting", "--documents", "docs.jsonl"]
    done = subprocess.run([*LORANK, *line], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stderr.split("\n") == ["open minilm", ""]


def test_a_collection_prints_in_one_line(texts, rows):
    assert repr(texts) == "Collection('made-up', 40 texts, train: 12 queries, dev: 6 queries, test: 6 queries)"
    assert str(rows).startswith("Collection('made-up-rows', 240 rows of 4 features, train: 20 queries")
    assert repr(texts.test) == "Split('test', 6 queries, 12 judgments)"
