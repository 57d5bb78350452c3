"""Turns, back-pressure, deadlines and draining, over a live server whose engine can be held."""

import json
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from lorank.serving.requests.limits import Limits
from tiny_store import wait_until
from word_engine import SteppedEngine, WordEngine, live


def test_a_list_ten_times_too_long_does_not_stall_short_ones():
    """Judged by the order of the batches: what comes while one is scored is in the next ones."""
    engine = SteppedEngine(0.0005, permits=1)
    with (
        live(engine, limits=Limits(latency_ms=100, collect_ms=0)) as (address, application),
        ThreadPoolExecutor(6) as pool,
    ):

        def send(query, documents):
            body = {"query": query, "documents": documents}
            return pool.submit(requests.post, f"{address}/v1/rerank", json=body, timeout=120)

        long = send("long", [f"a long list, document {i}" for i in range(1000)])
        assert wait_until(lambda: engine.asked == 2)  # one batch of it is scored, the next is held
        short = [send(f"short {i}", [f"short {i}"]) for i in range(5)]
        assert wait_until(lambda: application.service.batcher.queue.count == 6)
        engine.let_go()
        assert all(one.result().ok for one in (long, *short))
    assert max(engine.batches_of("short")) <= 1 + len(short)
    assert max(engine.batches_of("short")) < max(engine.batches_of("long"))


def held(engine, served, count, query="held", **more):
    """Return a pool and ``count`` requests, the first in a batch that the engine holds, the others waiting."""
    address, application = served
    engine.gate.clear()
    pool, batches = ThreadPoolExecutor(count), engine.started

    def send(number):
        return pool.submit(
            requests.post, f"{address}/v1/rerank", json={"query": f"{query} {number}", "documents": ["a"]}, **more
        )

    sent = [send(0)]
    assert wait_until(lambda: engine.started > batches or sent[0].done())
    sent += [send(number) for number in range(1, count)]
    settle(application, sent)
    return pool, sent


def settle(application, sent):
    """Wait until each request but the one in the engine waits in the queue or has its answer."""
    queue = application.service.batcher.queue
    assert wait_until(lambda: queue.count + sum(one.done() for one in sent) >= len(sent) - 1)


def test_what_does_not_fit_the_queue_is_429_with_a_time_to_come_back():
    engine = WordEngine()
    with live(engine, limits=Limits(queued=3, collect_ms=0)) as (address, application):
        pool, sent = held(engine, (address, application), 1)  # in the batch under way, no longer waiting
        more = ThreadPoolExecutor(5)
        sent += [
            more.submit(requests.post, f"{address}/v1/rerank", json={"query": f"b{i}", "documents": ["a"]})
            for i in range(5)
        ]
        settle(application, sent)
        engine.gate.set()
        answers = [one.result() for one in sent]
        pool.shutdown()
        more.shutdown()
    assert sorted(answer.status_code for answer in answers) == [200] * 4 + [429] * 2
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert int(refused.headers["Retry-After"]) >= 1
    assert "try again" in refused.json()["message"]


def test_one_caller_cannot_fill_the_queue_for_the_others():
    engine = WordEngine()
    with live(engine, limits=Limits(queued=100, queued_of_one=2, collect_ms=0)) as (address, application):
        pool, sent = held(engine, (address, application), 6)
        other = requests.Session()
        with ThreadPoolExecutor(1) as one:
            ours = one.submit(
                other.post, f"{address}/v1/rerank", json={"model": "acme", "query": "q", "documents": ["a"]}
            )
            settle(application, [*sent, ours])
            engine.gate.set()
            assert ours.result().ok
        assert sorted(answer.result().status_code for answer in sent) == [200] * 3 + [429] * 3
        pool.shutdown()


def test_a_backlog_longer_than_allowed_is_refused():
    engine = SteppedEngine(0.002, permits=2)  # after two batches the speed is known, and all that is left waits
    with (
        live(engine, limits=Limits(backlog_s=0.3, latency_ms=50, collect_ms=0)) as (address, _),
        ThreadPoolExecutor(2) as pool,
    ):

        def send(query, count):
            body = {"query": query, "documents": [f"number {i}" for i in range(count)]}
            return pool.submit(requests.post, f"{address}/v1/rerank", json=body, timeout=120)

        long = send("q", 900)
        assert wait_until(lambda: engine.asked == 3)
        assert send("r", 900).result().status_code == 429
        short = send("r", 1)
        engine.let_go()
        assert short.result().ok
        assert long.result().ok


@pytest.mark.parametrize("milliseconds", ["300", "0"])
def test_a_deadline_that_passes_is_504_and_leaves_the_queue(milliseconds):
    engine = WordEngine()
    with live(engine) as (address, application):
        pool, sent = held(engine, (address, application), 3, headers={"X-Timeout-Ms": milliseconds})
        answers = [one.result() for one in sent]
        assert application.service.batcher.queue.count == 0
        engine.gate.set()
        pool.shutdown()
        assert [answer.status_code for answer in answers] == [504] * 3
        assert "X-Timeout-Ms" in answers[0].json()["message"]
        assert (
            requests.post(
                f"{address}/v1/rerank", json={"query": "q", "documents": ["a"]}, headers={"X-Timeout-Ms": "soon"}
            ).status_code
            == 400
        )


def test_a_client_that_hangs_up_leaves_the_queue():
    engine = WordEngine()
    with live(engine) as (address, application):
        pool, sent = held(engine, (address, application), 2, timeout=5)  # seconds in which both have come to the queue
        for one in sent:
            assert isinstance(one.exception(), requests.exceptions.ReadTimeout)
        assert wait_until(lambda: not application.service.batcher.queue.count)
        engine.gate.set()
        pool.shutdown()
        assert wait_until(lambda: not application.active)
        assert application.held == 0
        page = requests.get(f"{address}/metrics").text
        assert 'lorank_requests_total{route="/v1/rerank",status="499"} 2.0' in page
        assert "lorank_failures_total 0.0" in page


def test_draining_answers_what_was_accepted_and_refuses_what_is_new():
    engine = WordEngine()
    with live(engine) as (address, application):
        pool, sent = held(engine, (address, application), 4)
        application.service.batcher.stopping = True
        fresh = requests.post(f"{address}/v1/rerank", json={"query": "q", "documents": ["a"]})
        health = requests.get(f"{address}/health")
        engine.gate.set()
        assert [one.result().status_code for one in sent] == [200] * 4
        pool.shutdown()
        application.service.batcher.stopping = False
    assert fresh.status_code == health.status_code == 503
    assert fresh.headers["Connection"] == "close"
    assert "stop" in fresh.json()["message"]


def test_a_stream_whose_deadline_passes_ends_with_a_line_that_says_so():
    engine = SteppedEngine(permits=1)
    with live(engine, limits=Limits(latency_ms=20, streamed_timeout_s=5, collect_ms=0)) as (address, _):
        ask = {"query": "q", "documents": [f"number {i}" for i in range(2000)], "stream": True}
        *rows, last = [json.loads(line) for line in requests.post(f"{address}/v1/rerank", json=ask).iter_lines()]
        engine.let_go()
    assert last["error_type"] == "too_late"
    assert 0 < len(rows) < 2000


def test_slow_clients_stall_nobody_and_silent_ones_are_sent_away():
    head = b"POST /v1/rerank HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"
    with live(WordEngine(), limits=Limits(body_s=300, headers_s=3, collect_ms=0)) as (address, application):
        host, port = address.removeprefix("http://").split(":")
        slow = []
        for _ in range(40):
            slow.append(socket.create_connection((host, int(port))))
            slow[-1].sendall(head + b"{")
        assert wait_until(lambda: application.active == len(slow))
        silent = socket.create_connection((host, int(port)))
        silent.sendall(b"POST /v1/re")
        for i in range(20):
            assert requests.post(f"{address}/v1/rerank", json={"query": f"q{i}", "documents": ["a"]}, timeout=120).ok
        assert application.active >= len(slow)  # all were answered while the slow ones were at it
        silent.settimeout(120)
        assert silent.recv(100) == b""
        for client in (*slow, silent):
            client.close()
        assert wait_until(lambda: not application.active)
    assert application.held == 0
