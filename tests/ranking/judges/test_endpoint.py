"""The endpoint judge against a real HTTP server on loopback."""

import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from lorank.errors import DataError, UsageError
from lorank.ranking import rerank
from lorank.ranking.judges import Budget, Cache, Endpoint, JudgeError, Prompts, Question
from lorank.ranking.judges.endpoint import open_endpoint
from lorank.ranking.judges.opening import judge_of
from lorank.ranking.judges.reading import final_part, read_reply

KEY = "sk-a-secret-that-nobody-may-see"
LABELS = {"good": 9, "fair": 5, "poor": 2, "bad": 0}
TEXTS = ["the bad one", "the good one", "the poor one", "the fair one"]


def worth(text):
    return next(value for word, value in LABELS.items() if word in text)


def honest(prompt):
    """Answers by the words good, fair, poor and bad."""
    shown = [worth(text) for _, text in re.findall(r"^\[(\d+)\] (.*)$", prompt, flags=re.MULTILINE)]
    order = sorted(range(len(shown)), key=lambda place: -shown[place])
    if "Passage: " in prompt:
        return str(worth(prompt.split("Passage: ")[1]))
    if "Rank the" in prompt:
        return " > ".join(f"[{place + 1}]" for place in order)
    if "How relevant is each" in prompt:
        return "\n".join(f"[{place}]: {score}" for place, score in enumerate(shown, start=1))
    if "Name only those" in prompt:
        return " > ".join(f"[{place + 1}]" for place in order if shown[place] > 3) or "NONE"
    return f"[{order[-1 if 'least' in prompt else 0] + 1}]"


class Server(ThreadingHTTPServer):
    """Records requests; ``script`` may hold (status, headers, body) to send before answering honestly."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests, self.script, self.say, self.models = [], [], honest, ["tiny"]
        self.delay = 0.0
        self.together = threading.Barrier(1)  # so many requests wait for each other

    def handle_error(self, request, client_address):
        """A client that gave up is part of the tests."""

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def send(self, status, body, headers=None):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        self.send(200, {"data": [{"id": name} for name in self.server.models]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append((self.path, self.headers.get("Authorization"), body))
        time.sleep(self.server.delay)
        self.server.together.wait(timeout=60)
        if self.server.script:
            status, headers, sent = self.server.script.pop(0)
            self.send(status, sent, headers)
            return
        prompt = body["messages"][0]["content"]
        text = self.server.say(prompt)
        self.send(
            200,
            {
                "choices": [{"message": {"content": text}}],
                "usage": {"prompt_tokens": len(prompt.split()), "completion_tokens": len(text.split())},
            },
        )


@pytest.fixture
def server():
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def judge(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    return Endpoint(server.url, "tiny", wait_s=0.01, retries=2)


@pytest.mark.parametrize(
    "strategy",
    [
        "pointwise",
        "prp",
        "setwise",
        "sliding",
        "full",
        "grouprank",
        "iranker",
        "jointrank",
        "top-down",
        "listt5",
        "permutation-self-consistency",
    ],
)
def test_every_kind_of_question_is_asked_and_read(strategy, judge, server):
    done = rerank("which?", TEXTS, judge, strategy)
    assert done.order == (1, 3, 2, 0)
    assert done.usage.malformed == 0
    assert done.usage.calls == len(server.requests)
    assert done.usage.tokens_in == sum(len(body["messages"][0]["content"].split()) for _, _, body in server.requests)
    assert done.usage.tokens_out > 0
    assert {(path, key) for path, key, _ in server.requests} == {("/v1/chat/completions", f"Bearer {KEY}")}
    assert all(body["model"] == "tiny" and body["temperature"] == 0 for _, _, body in server.requests)


def test_a_selection_is_read(judge, server):
    assert rerank("which?", TEXTS, judge, "dynamicrag").selected == 2
    server.say = lambda prompt: "None."
    assert rerank("which?", TEXTS, judge, "dynamicrag").selected == 0


def test_it_is_opened_by_name(server):
    assert judge_of(f"openai:{server.url}#tiny").model == "tiny"
    assert open_endpoint(server.url).model == "tiny"
    server.models = ["a", "b"]
    with pytest.raises(UsageError, match="2 models; name one: openai:.*#MODEL.*one of a, b"):
        open_endpoint(server.url)
    assert rerank("q", TEXTS, f"openai:{server.url}#a", "full").order == (1, 3, 2, 0)


def test_no_key_is_sent_where_none_is_set(server, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    rerank("q", TEXTS, Endpoint(server.url, "tiny"), "full")
    assert server.requests[0][1] is None


@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_passes_is_tried_again(status, judge, server):
    server.script = [(status, {"Retry-After": "0"}, b"busy"), (status, {}, b"busy")]
    assert rerank("q", TEXTS, judge, "full").order == (1, 3, 2, 0)
    assert len(server.requests) == 3


def test_what_does_not_pass_is_an_error_without_the_key(judge, server):
    server.script = [(500, {}, f"broken, you sent {KEY}".encode())] * 3
    with pytest.raises(JudgeError, match=r"failed 3 times, lastly: status 500: broken, you sent \[key\]") as error:
        rerank("q", TEXTS, judge, "full")
    assert KEY not in str(error.value)
    assert error.value.__cause__ is None
    server.script = [(401, {}, f"bad key {KEY}".encode())]
    with pytest.raises(JudgeError, match=r"status 401: bad key \[key\]; is OPENAI_API_KEY set") as error:
        rerank("q", TEXTS, judge, "full")
    assert KEY not in repr(error.value) + repr(judge) + repr(vars(judge)) + judge.identity


def test_a_redirect_does_not_take_the_key_along(judge, server):
    server.script = [(307, {"Location": server.url.replace("127.0.0.1", "localhost") + "/elsewhere"}, b"")]
    with pytest.raises(JudgeError, match="status 307"):
        rerank("q", TEXTS, judge, "full")
    assert len(server.requests) == 1


def test_time_outs_and_absent_servers_are_errors(server):
    server.delay = 0.5
    slow = Endpoint(server.url, "tiny", timeout_s=0.05, retries=1, wait_s=0.01)
    with pytest.raises(JudgeError, match="failed 2 times, lastly: .*timed out"):
        rerank("q", TEXTS, slow, "full")
    with pytest.raises(JudgeError, match="failed 1 times, lastly: .*refused"):
        rerank("q", TEXTS, Endpoint("http://127.0.0.1:9", "tiny", retries=0), "full")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"choices": []},
        {"choices": [{"message": None}]},
        [],
        "no",
        {"choices": [{"message": {"content": None}}], "usage": {"prompt_tokens": "many"}},
    ],
)
def test_answers_of_another_shape_are_malformed_and_lose_no_document(body, judge, server):
    server.script = [(200, {}, body)]
    done = rerank("q", TEXTS, judge, "full")
    assert done.order == (0, 1, 2, 3)
    assert done.usage.malformed == 1


def test_an_answer_that_is_not_json_is_tried_again(judge, server):
    server.script = [(200, {}, b"<html>")]
    assert rerank("q", TEXTS, judge, "full").order == (1, 3, 2, 0)


def test_answers_paid_for_before_a_failure_are_kept(judge, server, tmp_path):
    path = tmp_path / "answers.jsonl"
    texts = [f"the {word} one, {i}" for i in range(10) for word in LABELS]
    refused = threading.Lock()

    def break_once(prompt):
        if "good one, 3" in prompt and refused.acquire(blocking=False):
            raise ConnectionAbortedError
        return honest(prompt)

    server.say = break_once
    fragile = Endpoint(server.url, "tiny", retries=0, workers=4)
    with pytest.raises(JudgeError):
        rerank("q", texts, fragile, "pointwise", cache=path)
    paid = len(server.requests) - 1
    assert len(Cache(path)) == paid
    done = rerank("q", texts, fragile, "pointwise", cache=path)
    assert done.usage.calls == 40 - paid
    assert [worth(texts[d]) for d in done.order] == sorted(map(worth, texts), reverse=True)
    assert KEY not in path.read_text()


def test_requests_go_out_together_and_answers_come_in_order(server):
    server.together = threading.Barrier(16)  # nobody is answered before all have asked
    texts = [f"the {word} one, {i}" for i in range(4) for word in LABELS]
    done = rerank("q", texts, Endpoint(server.url, "tiny", workers=16), "pointwise")
    assert [worth(texts[d]) for d in done.order] == sorted(map(worth, texts), reverse=True)


def test_a_budget_of_tokens_goes_by_the_estimate(server):
    judge = Endpoint(server.url, "tiny", max_tokens=5)
    one = judge.tokens("q", TEXTS, Question("pointwise", (0,)))
    done = rerank("q", TEXTS, judge, "pointwise", budget=Budget(tokens=2 * one))
    assert 1 <= done.usage.calls < 4
    assert done.usage.tokens <= 2 * one
    assert server.requests[0][2]["max_tokens"] == 5


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("listwise", "[2] > [1] > [3]", [1, 0, 2]),
        ("listwise", "2, 1, 3", [1, 0, 2]),
        ("listwise", "[3]>[9]", [2, 8]),
        ("listwise", "<think>[1] > [2] > [3]</think>[3] > [2] > [1]", [2, 1, 0]),
        ("listwise", "<think>so</think> text <answer> [2] > [3] > [1] </answer> as 10 of 12 say", [1, 2, 0]),
        ("listwise", "<think>[1] > [2] > [3]", None),
        ("listwise", "I cannot.", None),
        ("listwise", "", None),
        ("listwise", "<think>a</think> <think> [1] > [2]", None),
        ("setwise", "[2]", 1),
        ("setwise", "Passage 3.", 2),
        ("setwise", "[1] or [2]", None),
        ("setwise", "[2], [2]", 1),
        ("exclude", "<answer>[3]</answer>", 2),
        ("pairwise", "[1]", 1.0),
        ("pairwise", "[2]", 0.0),
        ("pairwise", "tie", 0.5),
        ("pairwise", "[3]", None),
        ("pointwise", "7", 7.0),
        ("pointwise", "7.5/10", 7.5),
        ("pointwise", "Yes.", 1.0),
        ("pointwise", "no", 0.0),
        ("pointwise", "between 3 and 5", None),
        ("groupwise", "[1]: 3\n[3]: 5.5", [3.0, None, 5.5]),
        ("groupwise", '{"[1]": 3, "[2]": 4, "[3]": 0}', [3.0, 4.0, 0.0]),
        ("groupwise", "3, 4, 5", [3.0, 4.0, 5.0]),
        ("groupwise", "3, 4", None),
        ("selection", "NONE", []),
        ("selection", "[3] > [1]", [2, 0]),
        ("selection", "all of them", None),
        ("identifiers", "[1]", None),
    ],
)
def test_replies_are_read(kind, text, value):
    size = {"pointwise": 1, "pairwise": 2}.get(kind, 3)
    assert read_reply(Question(kind, tuple(range(size))), text) == value


def test_final_part():
    assert final_part("plain") == "plain"
    assert final_part("<think>a</think>b</think> c ") == "c"
    assert final_part("<think>") is None


def test_prompts_can_be_replaced(tmp_path, server):
    (tmp_path / "pointwise.txt").write_text("Mark, for $$5: $query Passage: $documents")
    judge = Endpoint(server.url, "tiny", prompts=Prompts.load(tmp_path, words=2))
    server.say = lambda prompt: "3"
    rerank("which?", TEXTS, judge, "pointwise")
    assert server.requests[-4][2]["messages"][0]["content"].startswith("Mark, for $5: which? Passage: the ")
    assert all("one" not in body["messages"][0]["content"] for _, _, body in server.requests)
    assert judge.identity != Endpoint(server.url, "tiny").identity


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("duel.txt", "$query $documents", "no kind of question has this name"),
        ("setwise.txt", "$query", r"the template has the fields \['query'\]; write \$query and \$documents"),
        ("setwise.txt", "$query $documents $passages", "the template has the fields"),
    ],
)
def test_prompts_that_cannot_work_are_refused(name, text, message, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message):
        Prompts.load(tmp_path)


def test_settings_of_an_endpoint_are_checked(tmp_path):
    with pytest.raises(UsageError, match="begins with http"):
        Endpoint("ftp://here")
    with pytest.raises(UsageError, match="retries"):
        Endpoint("http://here", "m", retries=-1)
    with pytest.raises(UsageError, match="no folder of prompts"):
        Prompts.load(tmp_path / "absent")
    with pytest.raises(UsageError, match="words must be"):
        Prompts.load(words=0)
