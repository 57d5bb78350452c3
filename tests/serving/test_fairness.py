"""Turns, back-pressure, deadlines and draining, over a live server whose engine can be held."""

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from lorank.serving.requests.limits import Limits
from word_engine import WordEngine, live


def test_a_list_ten_times_too_long_does_not_stall_short_ones():
    with (
        live(WordEngine(0.0005), limits=Limits(latency_ms=100, collect_ms=0)) as (address, _),
        ThreadPoolExecutor(2) as pool,
    ):
        began = time.perf_counter()
        long = pool.submit(
            requests.post,
            f"{address}/v1/rerank",
            json={"query": "long", "documents": [f"a long list, document {i}" for i in range(1000)]},
        )
        time.sleep(0.1)
        spent = []
        for i in range(5):
            start = time.perf_counter()
            assert requests.post(f"{address}/v1/rerank", json={"query": "q", "documents": [f"short {i}"]}).ok
            spent.append(time.perf_counter() - start)
        assert long.result().ok
        assert sorted(spent)[2] < (time.perf_counter() - began) / 2


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
    while engine.started == batches and not sent[0].done():
        time.sleep(0.01)
    sent += [send(number) for number in range(1, count)]
    settle(application, sent)
    return pool, sent


def settle(application, sent):
    """Wait until each request but the one in the engine waits in the queue or has its answer."""
    while application.service.batcher.queue.count + sum(one.done() for one in sent) < len(sent) - 1:
        time.sleep(0.01)


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
    with (
        live(WordEngine(0.002), limits=Limits(backlog_s=0.3, latency_ms=50, collect_ms=0)) as (address, _),
        ThreadPoolExecutor(1) as pool,
    ):
        long = pool.submit(
            requests.post, f"{address}/v1/rerank", json={"query": "q", "documents": [f"number {i}" for i in range(900)]}
        )
        time.sleep(0.3)
        another = requests.post(
            f"{address}/v1/rerank", json={"query": "r", "documents": [f"number {i}" for i in range(900)]}
        )
        short = requests.post(f"{address}/v1/rerank", json={"query": "r", "documents": ["one"]})
        assert another.status_code == 429
        assert short.ok
        assert long.result().ok


@pytest.mark.parametrize("told", ["300", "0"])
def test_a_deadline_that_passes_is_504_and_leaves_the_queue(told):
    engine = WordEngine()
    with live(engine) as (address, application):
        pool, sent = held(engine, (address, application), 3, headers={"X-Timeout-Ms": told})
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
        pool, sent = held(engine, (address, application), 2, timeout=0.5)
        for one in sent:
            assert isinstance(one.exception(), requests.exceptions.ReadTimeout)
        while application.service.batcher.queue.count:
            time.sleep(0.01)
        engine.gate.set()
        pool.shutdown()
        while application.active:
            time.sleep(0.01)
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
    with live(WordEngine(0.002), limits=Limits(latency_ms=20, streamed_timeout_s=0.5, collect_ms=0)) as (address, _):
        ask = {"query": "q", "documents": [f"number {i}" for i in range(2000)], "stream": True}
        *rows, last = [json.loads(line) for line in requests.post(f"{address}/v1/rerank", json=ask).iter_lines()]
    assert last["error_type"] == "too_late"
    assert 0 < len(rows) < 2000


def test_slow_clients_stall_nobody_and_silent_ones_are_sent_away():
    head = b"POST /v1/rerank HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"
    with live(WordEngine(), limits=Limits(body_s=30, headers_s=0.5, collect_ms=0)) as (address, application):
        host, port = address.removeprefix("http://").split(":")
        slow = [socket.create_connection((host, int(port))) for _ in range(40)]
        silent = socket.create_connection((host, int(port)))
        silent.sendall(b"POST /v1/re")
        for client in slow:
            client.sendall(head + b"{")
        spent = []
        for i in range(20):
            began = time.perf_counter()
            assert requests.post(f"{address}/v1/rerank", json={"query": f"q{i}", "documents": ["a"]}).ok
            spent.append(time.perf_counter() - began)
        assert sorted(spent)[10] < 5  # a body may take 30 s
        silent.settimeout(10)
        assert silent.recv(100) == b""
        for client in (*slow, silent):
            client.close()
        while application.active:
            time.sleep(0.01)
    assert application.held == 0
