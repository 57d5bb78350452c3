"""`lorank compare`, `tune` and their exit codes: 0 done, 1 a row without a result, 2 a file that cannot be."""

import json
import shlex
import sys
from pathlib import Path

import pytest

from lorank.cli import main

ROWS = """
data = {data}
baseline = {baseline}
lists.depth = 8
[[row]]
name = "BM25"
ranker = "bm25"
[[row]]
name = "peer"
run = {run}
"""


def run(capsys, *arguments):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["lorank", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            main()
    said = capsys.readouterr()
    return left.value.code or 0, said.out, said.err


@pytest.fixture
def file(splits, tmp_path):
    peer = tmp_path / "peer.run"
    peer.write_text("".join(f"test{i} Q0 d{26 + i} 1 1.0 peer\n" for i in range(12)))

    def write(baseline="BM25", more=""):
        path = tmp_path / "e.toml"
        text = ROWS.format(data=json.dumps(str(splits)), baseline=json.dumps(baseline), run=json.dumps(str(peer)))
        path.write_text(text + more)
        return path

    return write


def test_the_summary_is_printed_and_the_page_named(capsys, file, tmp_path):
    code, out, err = run(capsys, "compare", file(), "--out", tmp_path / "out")
    assert code == 0
    assert "| BM25" in out
    assert max(map(len, out.splitlines())) <= 80 or "A true difference" in out
    assert f"The page: {tmp_path / 'out' / 'index.html'}" in err
    code, out, err = run(capsys, "compare", file(), "--out", tmp_path / "out", "--json", "--quiet")
    assert (code, err) == (0, "")
    assert {record["row"] for record in json.loads(out)} == {"BM25", "peer"}


def test_a_dry_run_prints_the_rows_and_runs_nothing(capsys, file, tmp_path):
    code, out, _ = run(capsys, "compare", file(), "--out", tmp_path / "out", "--dry-run")
    assert code == 0
    assert "BM25: 1 trial\n" in out
    assert "2 rows, 2 trials" in out
    assert not (tmp_path / "out" / "ledger.jsonl").exists()


def test_a_bad_file_is_wrong_use(capsys, file, tmp_path):
    code, out, err = run(capsys, "compare", file(baseline="BM52"), "--out", tmp_path / "out")
    assert (code, out) == (2, "")
    assert f"lorank: {tmp_path / 'e.toml'}: baseline: unknown row 'BM52'; did you mean 'BM25'" in err
    code, _, err = run(capsys, "compare", file(), "--out", tmp_path / "out", "--engine", "slurm")
    assert (code, "unknown --engine 'slurm'" in err) == (2, True)
    code, _, err = run(capsys, "compare", file(), "--out", tmp_path / "out", "--address", "auto")
    assert (code, "add --engine ray" in err) == (2, True)


def test_a_baseline_without_a_result_leaves_a_page_and_an_exit_code(capsys, file, tmp_path, bert):
    bad = f'[[row]]\nname = "wide"\nbase = {json.dumps(bert)}\nkind = "bi-encoder"\nadapter.targets = "no such layer"\n'
    code, out, err = run(capsys, "compare", file("wide", bad), "--out", tmp_path / "out")
    assert code == 1
    assert "| BM25" in out
    assert "the baseline wide has no result" in err
    assert "no such layer" in err
    assert (tmp_path / "out" / "index.html").is_file()


def test_the_command_of_a_row_runs_it_alone_in_a_folder_of_its_own(capsys, file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = run(capsys, "compare", file(), "--set", "measures=RR@10", "--set", "lists.depth=4", "--json")
    assert code == 0
    commands = {record["row"]: shlex.split(record["command"]) for record in json.loads(out)}
    start = ["lorank", "compare", str(tmp_path / "e.toml"), "--set=measures=RR@10", "--set=lists.depth=4", "--row"]
    assert commands == {name: [*start, name] for name in ("BM25", "peer")}
    code, again, _ = run(capsys, *commands["peer"][1:], "--json")
    assert (code, Path("runs/e-peer/index.html").is_file()) == (0, True)
    (alone,) = json.loads(again)
    whole = next(record for record in json.loads(out) if record["row"] == "peer")
    assert alone["mean"] == pytest.approx(whole["mean"])
    assert (tmp_path / "runs" / "e" / "index.html").is_file()


def test_named_experiments_are_listed_with_what_they_need(capsys):
    code, out, _ = run(capsys, "reproduce")
    assert code == 0
    assert {"letor", "pydocs", "strategies"} <= {line.partition(":")[0] for line in out.splitlines()}
    assert "    --data mq2008=PATH: " in out
    code, _, err = run(capsys, "reproduce", "letor")
    assert (code, "give --data mq2008=PATH, " in err) == (2, True)


def test_a_search_without_a_space_is_wrong_use(capsys):
    code, _, err = run(capsys, "tune", "--data", "pydocs", "--base", "minilm", "--steps", "9")
    assert (code, "nothing to search over; give --over" in err) == (2, True)
    code, _, err = run(capsys, "tune", "--data", "pydocs", "--base", "minilm", "--over", "adapter.rank=4,8")
    assert (code, "give --steps" in err) == (2, True)
