"""``--skip-bad``: every command that reads data or runs leaves bad rows out, says so, and keeps them in a file."""

import json
import subprocess
import sys

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from lorank import lowrank
from lorank.cli.app import app
from lorank.data import Collection, Split, read_run, write_beir
from lorank.errors import DataError
from lorank.ranking.scorers import BiEncoder
from lorank.tuned.ranker import TunedRanker

TEXTS = [f"{word} {other}" for word in ("moon", "list", "rank", "word") for other in ("earth", "sort", "low", "sun")]


@pytest.fixture
def spoiled(tmp_path, monkeypatch):
    """A BEIR folder with one bad row in each of its files, and a run with three."""
    monkeypatch.chdir(tmp_path)
    documents = [f"d{i}" for i in range(len(TEXTS))]
    splits = {
        name: Split(
            name,
            {f"{name}{i}": TEXTS[i].split()[0] for i in range(16)},
            {f"{name}{i}": {f"d{i}": 1} for i in range(16)},
        )
        for name in ("train", "dev", "test")
    }
    write_beir(Collection("data", documents, TEXTS, splits), tmp_path / "data")
    for name, row in (
        ("corpus.jsonl", '{"text": "no id"}'),
        ("queries.jsonl", "[1]"),
        ("qrels/test.tsv", "test0\td99\t1"),
    ):
        with (tmp_path / "data" / name).open("a") as file:
            file.write(row + "\n")
    good = "".join(f"test{q} Q0 d{d} 1 {d} x\n" for q in range(16) for d in range(16))
    (tmp_path / "a.run").write_text(good + "test0 Q0 d1 1 nan x\ntest0 Q0 d77 1 1 x\ntest0 d1\n")
    both = "".join(f"{s}{q} Q0 d{d} 1 {d} x\n" for s in ("dev", "test") for q in range(16) for d in range(16))
    (tmp_path / "both.run").write_text(both + "dev0 Q0 d1 1 nan x\ntest0 Q0 d77 1 1 x\n")
    (tmp_path / "groups.tsv").write_text("".join(f"d{d}\t{'ab'[d % 2]}\n" for d in range(16)) + "d1\nd2\tb\n")
    (tmp_path / "askers.tsv").write_text("".join(f"test{q}\t{'ab'[q % 2]}\n" for q in range(16)) + "\ttest1\n")
    (tmp_path / "table.csv").write_text(
        "score,sex\n" + "".join(f"{i},{'ab'[i % 2]}\n" for i in range(9)) + "nan,a\nx,b\n"
    )
    (tmp_path / "events.tsv").write_text("".join(f"u{i % 3}\ti{i % 4}\n" for i in range(20)) + "u1\nu2\t\n")
    trial = "".join(f"{i % 2},{i % 5},{i % 2},{i % 7},{i % 3}\n" for i in range(40))
    (tmp_path / "trial.csv").write_text(f"arm,outcome,treated,index_0,index_1\n{trial}0,x,1,1,1\n0,1\n")
    _write_logs(tmp_path)
    return tmp_path


def _write_logs(folder):
    """A log with two bad rows in each format, over the queries and documents of the collection."""
    lists = [
        (f"train{q}", [f"d{(q + i) % 16}" for i in range(4)], [int(i == q % 3) for i in range(4)]) for q in range(16)
    ]
    rows = [
        {
            "session": f"s{n}",
            "query_id": q,
            "doc_ids": d[n % 4 :] + d[: n % 4],
            "clicks": c,
            "dwell": [9.0 * x for x in c],
        }
        for n, (q, d, c) in enumerate(each for each in lists for _ in range(5))
    ]
    shown = "".join(f"{q} Q0 {document} 1 {i} x\n" for q, d, _ in lists for i, document in enumerate(d))
    (folder / "shown.run").write_text(shown + "train0 Q0 d1 1 nan x\n")
    own = [*map(json.dumps, rows), '{"session": "x"}', "no json"]
    (folder / "log.jsonl").write_text("".join(row + "\n" for row in own))
    wide = [row | {"features": [[float(i), float(n % 3)] for i in range(4)]} for n, row in enumerate(rows)]
    bad = [json.dumps(rows[0]), "[]"]  # one list without features, and no list
    (folder / "features.jsonl").write_text("".join(row + "\n" for row in [*map(json.dumps, wide), *bad]))
    strange = [row | {"doc_ids": ["d1", "d99", "d2", "d3"]} for row in rows[:1]] + [rows[0] | {"query_id": "nobody"}]
    (folder / "foreign.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, *strange]))
    cells = [
        f"s{n},{q},{each},{at},{click}\n"
        for n, (q, d, c) in enumerate(lists * 5)
        for at, (each, click) in enumerate(zip(d, c, strict=True), start=1)
    ]
    extra = ["t1,train0,d1,1,0\n", "t1,train0,d2,zwei,0\n", "t1,train0,d3,3,0\n", "t2,train0,d1,1,7\n"]
    (folder / "table.log.csv").write_text("".join(["session,query,document,position,clicked\n", *cells, *extra]))
    yandex = [f"{n}\t{5 * n}\tQ\t{n % 9}\t1\t1\t2\t3\n{n}\t{5 * n + 1}\tC\t{1 + n % 3}\n" for n in range(60)]
    (folder / "yandex.tsv").write_text("".join(yandex) + "61\tx\tQ\t1\t1\t1\t2\n62\t1\tX\t1\n")


COMMANDS = {
    "retrieve": ("retrieve --data data --out out.run", "out.run.skipped.jsonl", 3),
    "evaluate": ("evaluate --data data --run a.run", "skipped.jsonl", 5),
    "evaluate a ranker": ("evaluate --data data --run a.run --ranker bm25", "skipped.jsonl", 6),
    "evaluate qrels": ("evaluate --qrels data/qrels/test.tsv --run a.run", "skipped.jsonl", 2),
    "rerank": ("rerank --data data --run a.run --ranker bm25 --out out.run", "out.run.skipped.jsonl", 6),
    "depth": ("depth --data data --run a.run --scores a.run --depths 5,10", "skipped.jsonl", 8),
    "aggregate": ("aggregate --run a.run --run a.run --out out.run", "out.run.skipped.jsonl", 4),
    "calibrate": ("calibrate bm25 --data data --run both.run --no-save", "skipped.jsonl", 5),
    "stress": ("stress bm25 --data data --perturbation typos --queries 4", "skipped.jsonl", 3),
    "stress interactions": ("stress --interactions events.tsv", "skipped.jsonl", 2),
    "fairness": ("fairness --data data --run a.run --document-groups groups.tsv", "skipped.jsonl", 7),
    "fairness queries": ("fairness --data data --run a.run --query-groups askers.tsv", "skipped.jsonl", 6),
    "fairness table": ("fairness --table table.csv --by score --group sex", "skipped.jsonl", 2),
    "agree": ("agree bm25 bm25 --data data --queries 4", "skipped.jsonl", 3),
    "agree of runs": ("agree a.run a.run --data data", "skipped.jsonl", 7),
    "recommend train": (
        "recommend train --data events.tsv --option steps=2 --option top=2 --out rec",
        "rec.skipped.jsonl",
        2,
    ),
    "clarify ask": ("clarify ask --ranker bm25 --data data --out asked.jsonl", "asked.jsonl.skipped.jsonl", 3),
    "clicks fit": ("clicks fit --log log.jsonl", "skipped.jsonl", 2),
    "clicks simulate": ("clicks simulate --data data --sessions 9 --out o.jsonl", "o.jsonl.skipped.jsonl", 3),
    "clicks simulate a run": (
        "clicks simulate --data data --split test --run a.run --sessions 9 --out o.jsonl",
        "o.jsonl.skipped.jsonl",
        6,
    ),
    "clicks report": ("clicks report --log log.jsonl", "skipped.jsonl", 2),
    "clicks report a table": ("clicks report --log table.log.csv", "skipped.jsonl", 2),
    "clicks report yandex": ("clicks report --log yandex.tsv", "skipped.jsonl", 2),
    "clicks convert": ("clicks convert --log table.log.csv --out o.jsonl", "o.jsonl.skipped.jsonl", 2),
    "clicks interleave": (
        "clicks interleave --run a.run --run a.run --qrels data/qrels/test.tsv --sessions 9",
        "skipped.jsonl",
        4,
    ),
    "clicks trial": ("clicks trial trial.csv", "skipped.jsonl", 2),
    "clicks gossip": ("clicks gossip log.jsonl log.jsonl --out o.run", "o.run.skipped.jsonl", 4),
    "clicks online": ("clicks online --log features.jsonl", "skipped.jsonl", 2),
    "clicks screen": ("clicks screen --log log.jsonl", "skipped.jsonl", 2),
    "evaluate a log": (
        "evaluate --log log.jsonl --run shown.run --estimator position --propensities harvest --support ignore",
        "skipped.jsonl",
        3,
    ),
}
"""What a person types, the file that the bad rows are kept in, and how many there are."""

NO_SKIPPING = {
    "demo": "it reads packaged collections, which have no bad rows",
    "rank": "it ranks the documents of one query, and a ranking without one of them answers another question",
    "plan": "--documents is a number there",
    "tune": "its trials read by the recipe, whose key skip_bad is stated by --set skip_bad=true",
    "push": "--run is a folder there",
    "index build": "an index that lacks documents never finds them, and nothing that searches it would say so",
    "index add": "an index that lacks documents never finds them, and nothing that searches it would say so",
    "label": "it proposes what to judge, and documents that were left out would never be proposed",
    "queries": "it writes a collection of what it reads; lorank import leaves bad rows out first, and says so",
    "route train": "its arms are compared over the same queries, and a row less for one of them favours another",
    "route add": "its arms are compared over the same queries, and a row less for one of them favours another",
    "route apply": "it writes one run of all queries, and a query without its row would have none",
    "route tune": "its trials are compared over the same queries, and a row less for one of them favours another",
    "federate simulate": "a client counts by its queries; lorank import leaves bad rows out first, and says so",
    "federate client": "a client counts by its queries; lorank import leaves bad rows out first, and says so",
    "reproduce": "--data says where recorded figures come from, which do not compare with those of fewer rows",
}
"""Commands that read rows and leave none out, and why."""

OWN_TESTS = ("train", "import", "inspect", "shrink", "recommend apply", "clarify answer", "clarify collect", "review")
"""Commands with tests of their own."""

READS = {"--data", "--log", "--logs", "--run", "--qrels", "--documents", "--table", "--interactions", "--first-stage"}


def leaves(command, path=()):
    """Every command by its words, with the names of its options and arguments."""
    if hasattr(command, "commands"):
        for name, own in command.commands.items():
            yield from leaves(own, (*path, name))
    else:
        names = {flag for each in command.params for flag in (*each.opts, f"--{each.name}")}
        yield " ".join(path), names


EVERY = dict(leaves(get_command(app)))


@pytest.mark.parametrize("name", sorted(EVERY))
def test_every_command_that_reads_rows_can_leave_bad_ones_out_or_says_why_not(name):
    reads = bool(EVERY[name] & READS)
    if name in NO_SKIPPING:
        assert reads
        assert "--skip-bad" not in EVERY[name]
    else:
        assert not reads or "--skip-bad" in EVERY[name], f"{name} reads {sorted(EVERY[name] & READS)}"
    tried = any(words.startswith(name) for words, *_ in COMMANDS.values())
    assert tried or "--skip-bad" not in EVERY[name] or name in OWN_TESTS


@pytest.mark.parametrize("name", COMMANDS)
def test_bad_rows_end_a_command_in_one_report_or_are_left_out_and_kept(name, spoiled):
    command, file, count = COMMANDS[name]
    refused = CliRunner().invoke(app, command.split())
    assert isinstance(refused.exception, DataError)
    if name != "retrieve":
        assert "--skip-bad" in str(refused.exception)
    done = CliRunner().invoke(app, [*command.split(), "--skip-bad"])
    assert done.exit_code == 0, done.output
    rows = [json.loads(line) for line in (spoiled / file).read_text().splitlines()]
    assert len(rows) == count
    assert f"left out {count} bad rows" in done.stderr
    assert file in done.stderr
    assert all(row["file"] and row["line"] and row["problem"] and "row" in row for row in rows)


def test_a_list_of_a_log_with_a_bad_row_is_left_out_whole(spoiled):
    command = "clicks convert --log table.log.csv --out o.jsonl --skip-bad"
    CliRunner().invoke(app, command.split(), catch_exceptions=False)
    sessions = [json.loads(line)["session"] for line in (spoiled / "o.jsonl").read_text().splitlines()]
    assert sessions == [f"s{n}" for n in range(80)]


def test_training_leaves_out_bad_rows_of_its_clicks(spoiled, tiny_folders):
    command = ["train", "--data", "data", "--base", str(tiny_folders["bert"]), "--kind", "bi-encoder"]
    command += ["--clicks", "foreign.jsonl", "--out", "runs/a", "--save-recipe", "r.toml"]
    refused = CliRunner().invoke(app, command)
    assert "bad rows" in str(refused.exception)
    done = CliRunner().invoke(app, [*command, "--skip-bad"])
    rows = [json.loads(line) for line in (spoiled / "runs" / "a.skipped.jsonl").read_text().splitlines()]
    found = [row["problem"] for row in rows if row["file"].endswith("foreign.jsonl")]
    assert sorted(found) == ["the document 'd99' is not in the collection", "the query 'nobody' is in no split"]
    assert done.exit_code == 0, done.output


def test_training_leaves_out_bad_rows_of_its_first_stage(spoiled, tiny_folders):
    good = "".join(f"{s}{q} Q0 d{d} 1 {d} x\n" for s in ("train", "dev", "test") for q in range(16) for d in range(16))
    (spoiled / "whole.run").write_text(good + "dev0 Q0 d1 1 nan x\ntest0 Q0 d77 1 1 x\ntrain1 d1\n")
    command = ["train", "--data", "data", "--base", tiny_folders["bert"], "--kind", "bi-encoder", "--rank", "2"]
    command += ["--steps", "2", "--batch-size", "4", "--first-stage", "whole.run", "--out", "runs/a"]
    refused = CliRunner().invoke(app, [*map(str, command)])
    assert isinstance(refused.exception, DataError)
    done = CliRunner().invoke(app, [*map(str, command), "--skip-bad"])
    assert done.exit_code == 0, (done.output, done.exception)
    rows = [json.loads(line) for line in (spoiled / "runs" / "a.skipped.jsonl").read_text().splitlines()]
    assert sum(row["file"] == "whole.run" for row in rows) == 3
    assert len(rows) == 6


def test_what_is_left_of_a_run_is_reranked(spoiled):
    CliRunner().invoke(app, [*COMMANDS["rerank"][0].split(), "--skip-bad"], catch_exceptions=False)
    assert {len(row) for row in read_run(spoiled / "out.run").values()} == {16}
    assert "d77" not in read_run(spoiled / "out.run")["test0"]


def test_nothing_bad_writes_no_file(spoiled):
    command = "aggregate --run out.run --run out.run --out twice.run --skip-bad"
    (spoiled / "out.run").write_text("q d 1\n")
    assert CliRunner().invoke(app, command.split(), catch_exceptions=False).exit_code == 0
    assert not (spoiled / "twice.run.skipped.jsonl").exists()


def test_a_ballot_is_not_thinned_out(spoiled):
    refused = CliRunner().invoke(app, ["aggregate", "--duels", "a.csv", "--skip-bad"])
    assert "--skip-bad leaves out rows of runs" in str(refused.exception)


@pytest.mark.slow
def test_training_leaves_bad_rows_out_and_its_record_says_so(spoiled):
    """A recipe takes the key too; the rows lie beside the run folder, which is there only once the run is."""
    rows = [f"{i % 2} qid:{i // 4} 1:{i % 4} 2:{(i * 7) % 5}" for i in range(64)]
    (spoiled / "rows").mkdir()
    for split in ("train", "vali"):
        (spoiled / "rows" / f"{split}.txt").write_text("\n".join([*rows, "x qid:99 1:1", "1 qid:99 1:"]))
    command = [sys.executable, "-m", "lorank", "train", "--base", "mlp", "--data", "rows", "--out", "runs/a"]
    command += ["--set", "training.steps=2"]
    refused = subprocess.run(command, capture_output=True, text=True)
    assert refused.returncode == 1
    assert "4 bad rows" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (spoiled / "runs").exists()
    done = subprocess.run([*command, "--skip-bad"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "left out 4 bad rows" in done.stderr
    assert len((spoiled / "runs" / "a.skipped.jsonl").read_text().splitlines()) == 4
    record = json.loads((spoiled / "runs" / "a" / "run.json").read_text())
    assert record["settings"]["skip_bad"] is True


@pytest.mark.parametrize("command", ["shrink tuned --method svd --ratio 0.5 --out small", "inspect tuned"])
def test_commands_on_a_tuned_ranker_leave_bad_rows_out(command, spoiled, tiny_folders):
    ranker = BiEncoder(tiny_folders["bert"])
    ranker.base = str(tiny_folders["bert"])
    TunedRanker(ranker, lowrank.attach(ranker.module, "lora", rank=2, seed=0)).save(spoiled / "tuned")
    words = [*command.split(), "--data", "data"]
    assert isinstance(CliRunner().invoke(app, words).exception, DataError)
    done = CliRunner().invoke(app, [*words, "--skip-bad"])
    assert done.exit_code == 0, (done.output, done.exception)
    assert len((spoiled / "skipped.jsonl").read_text().splitlines()) == 3
