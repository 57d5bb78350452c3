"""`lorank rerank` with a judge: real processes, and a real endpoint on loopback that counts what it is asked."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from typer.testing import CliRunner

from lorank.cli.app import app
from lorank.data import order_documents, read_run, write_beir, write_run
from lorank.errors import UsageError
from lorank.ranking.judges import JudgeError

LORANK = [sys.executable, "-c", "from lorank.cli import main; main()", "rerank"]


class Shop(ThreadingHTTPServer):
    """An OpenAI-like endpoint that prefers long passages; it counts, and ``at`` calls tells somebody."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Clerk)
        self.calls, self.at, self.tell, self.broken = 0, None, None, False

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, request, client_address):
        """A client that was killed is part of the tests."""


class Clerk(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def send(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        self.send(200, {"data": [{"id": "tiny"}]})

    def do_POST(self):
        prompt = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["messages"][0]["content"]
        self.server.calls += 1
        if self.server.broken:
            return self.send(400, {"error": "no"})
        if self.server.calls == self.server.at:
            self.server.tell()
        shown = re.findall(r"^\[(\d+)\] (.*)$", prompt, flags=re.MULTILINE)
        best = max(shown, key=lambda pair: (len(pair[1]), pair[1]))[0]
        return self.send(
            200,
            {
                "choices": [{"message": {"content": f"[{best}]"}}],
                "usage": {"prompt_tokens": len(prompt.split()), "completion_tokens": 3},
            },
        )


@pytest.fixture
def shop():
    server = Shop()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


@pytest.fixture
def given(texts, tmp_path):
    write_beir(texts, tmp_path / "beir")
    write_run(
        {q: {f"d{i}": float(40 - (i * 7 + n) % 40) for i in range(40)} for n, q in enumerate(texts.test.queries)},
        tmp_path / "first.run",
    )
    return ["--data", str(tmp_path / "beir"), "--run", str(tmp_path / "first.run")]


def started(arguments):
    return subprocess.Popen(
        [*LORANK, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


@pytest.mark.slow
def test_after_kill_9_the_same_command_pays_only_for_what_is_left(shop, given, tmp_path):
    command = [
        *given,
        "--judge",
        f"openai:{shop.url}",
        "--strategy",
        "setwise",
        "--top",
        "3",
        "--depth",
        "20",
        "--out",
        tmp_path / "llm.run",
    ]
    killed = started(command)
    shop.at, shop.tell = 30, lambda: killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "llm.run").exists()
    finished = started(command)
    out, told = finished.communicate()
    assert finished.returncode == 0, told
    assert out.strip() == str(tmp_path / "llm.run")
    assert "which holds 29" in " ".join(told.split())
    paid = shop.calls

    shop.calls, shop.at = 0, None
    assert run([*command[:-1], tmp_path / "again.run"]).exit_code == 0
    assert read_run(tmp_path / "again.run") == read_run(tmp_path / "llm.run")
    assert paid == shop.calls + 1, "the call under way when the process was killed, and no other, is paid twice"
    calls = re.search(r"^calls +([\d,]+)", told, re.MULTILINE)
    assert int(calls[1].replace(",", "")) == paid - 30
    assert re.search(r"^answers from the cache +29\b", told, re.MULTILINE)


def run(arguments):
    return CliRunner().invoke(app, ["rerank", *map(str, arguments)])


def test_a_budget_holds_for_each_query_across_a_crash(shop, given, tmp_path):
    command = [
        *given,
        "--judge",
        f"openai:{shop.url}",
        "--strategy",
        "setwise",
        "--depth",
        "20",
        "--budget",
        "calls=5",
        "--out",
    ]
    done = run([*command, tmp_path / "once.run"])
    assert done.exit_code == 0, done.output
    assert shop.calls == 6 * 5
    assert "the budget ended 6 of 6 queries early" in done.stderr
    answers = (tmp_path / "once.run.answers.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "half.jsonl").write_text("".join(answers[:13]))
    again = run([*command, tmp_path / "half.run", "--cache", tmp_path / "half.jsonl"])
    assert again.exit_code == 0, again.output
    assert shop.calls == 30 + 17
    assert read_run(tmp_path / "half.run") == read_run(tmp_path / "once.run")


def test_an_oracle_as_judge_and_what_it_cost(texts, given, tmp_path):
    done = run(
        [
            *given,
            "--judge",
            "oracle",
            "--strategy",
            "prp",
            "--option",
            "method=sliding",
            "--top",
            2,
            "--out",
            tmp_path / "o.run",
        ]
    )
    assert done.exit_code == 0, done.output
    before, after = read_run(tmp_path / "first.run"), read_run(tmp_path / "o.run")
    for query, row in texts.test.qrels.items():
        assert set(after[query]) == set(before[query])
        assert set(order_documents(after[query])[:2]) == set(row)
    assert re.search(r"^calls +924 +154\.0$", done.stderr, re.MULTILINE), "6 queries of 2 (39 + 38) calls"
    erring = run(
        [
            *given,
            "--judge",
            "oracle:noise=2,malformed=0.5",
            "--strategy",
            "full",
            "--seed",
            4,
            "--out",
            tmp_path / "e.run",
        ]
    )
    assert "malformed answers" in erring.stderr
    assert {q: set(row) for q, row in read_run(tmp_path / "e.run").items()} == {q: set(r) for q, r in before.items()}


def test_a_judge_whose_every_answer_is_malformed_fails_with_a_sample_and_again_from_its_cache(given, tmp_path):
    kept = ["--cache", tmp_path / "kept.jsonl", "--strategy", "prp", "--top", 2]
    for _ in range(2):
        done = run([*given, "--judge", "oracle:malformed=1", *kept, "--out", tmp_path / "m.run"])
        assert isinstance(done.exception, JudgeError)
        assert re.search(
            r"(\d+) of the judge's \1 answers \(100%\) were malformed.*question answered by", str(done.exception)
        )
        assert not (tmp_path / "m.run").exists()
    taken = run([*given, "--judge", "oracle:malformed=1", *kept, "--accept-malformed", "--out", tmp_path / "m.run"])
    assert taken.exit_code == 0
    assert "warning: " in taken.stderr
    assert (tmp_path / "m.run").exists()


def test_documents_below_the_depth_stay_below_in_their_order(given, tmp_path):
    done = run([*given, "--judge", "oracle", "--strategy", "full", "--depth", 3, "--out", tmp_path / "d.run"])
    assert done.exit_code == 0, done.output
    before, after = read_run(tmp_path / "first.run"), read_run(tmp_path / "d.run")
    for query, row in after.items():
        first = order_documents(before[query])
        assert len(first) > 3
        assert set(order_documents(row)[:3]) == set(first[:3])
        assert order_documents(row)[3:] == first[3:]


def test_a_ranker_alone_and_as_the_judge_of_a_strategy_agree(tiny_folders, given, tmp_path):
    from lorank.ranking.scorers import CrossEncoder
    from lorank.training import TunedRanker

    TunedRanker(CrossEncoder(tiny_folders["bert"], head="random")).save(tmp_path / "ranker")
    orders = []
    for extra in ([], ["--strategy", "pointwise"], ["--strategy", "full", "--cache", tmp_path / "kept.jsonl"]):
        done = run([*given, "--ranker", tmp_path / "ranker", *extra, "--out", tmp_path / "r.run"])
        assert done.exit_code == 0, done.output
        orders.append({query: order_documents(row) for query, row in read_run(tmp_path / "r.run").items()})
    assert orders[0] == orders[1] == orders[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to rerank with"),
        (["--judge", "ranker"], "nothing to rerank with"),
        (["--judge", "orakel"], "unknown judge 'orakel'"),
        (["--judge", "oracle:nois=1"], "an oracle takes numbers"),
        (["--judge", "oracle", "--strategy", "bubble"], "unknown strategy 'bubble'"),
        (["--judge", "oracle", "--option", "bloks=3"], "unknown option of strategy 'jointrank'"),
        (["--judge", "oracle", "--option", "size"], "is not key=value"),
        (["--judge", "oracle", "--budget", "30"], "cannot read the budget"),
        (["--judge", "oracle", "--engine", "grid"], "unknown engine 'grid'"),
        (["--ranker", "x", "--budget", "calls=3"], "belong to a strategy"),
        (["--judge", "openai:ftp://x"], "begins with http"),
        (["--judge", "oracle", "--prompts", "/nowhere"], "no folder"),
    ],
)
def test_wrong_use_is_told(arguments, message, given, tmp_path):
    done = run([*given, *arguments, "--out", tmp_path / "x.run"])
    assert isinstance(done.exception, UsageError), done.output
    assert message in str(done.exception)
    assert not (tmp_path / "x.run").exists()


def test_an_endpoint_that_fails_is_told_and_what_to_do(shop, given, tmp_path):
    shop.broken = True
    done = run([*given, "--judge", f"openai:{shop.url}", "--strategy", "setwise", "--out", tmp_path / "x.run"])
    assert isinstance(done.exception, JudgeError)
    assert "status 400" in str(done.exception)
    assert "0 of 6 queries were done; the same command goes on" in str(done.exception)
    assert not (tmp_path / "x.run").exists()
    wrong = run([*given, "--judge", f"openai:{shop.url}", "--strategy", "first", "--out", tmp_path / "x.run"])
    assert isinstance(wrong.exception, UsageError)
    assert "does not answer identifiers questions" in str(wrong.exception)
