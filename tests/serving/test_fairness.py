"""Turns, back-pressure, deadlines and draining, over a live server whose engine can be held."""

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st

from lorank.serving.requests.engine import Job
from lorank.serving.requests.limits import Limits
from lorank.serving.requests.queue import SLICES, PendingList, Queue, Rings
from word_engine import WordEngine, live


def waiting(caller, costs, name="q"):
    return PendingList(caller, Job(None, name, ["d"] * len(costs)), np.array(costs, np.int64), float("inf"))


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.lists(st.integers(1, 50), min_size=1, max_size=30)), max_size=12),
    st.integers(1, 200),
    st.integers(1, 60),
)
@settings(max_examples=60, deadline=None)
def test_every_document_is_taken_once_in_order_and_batches_keep_their_cost(lists, batch_cost, slice_cost):
    rings = Rings()
    requests_ = [waiting(caller, costs) for caller, costs in lists]
    for request in requests_:
        rings.add(request)
    taken = {request: [] for request in requests_}
    while rings.count:
        batch = rings.take(batch_cost, slice_cost)
        assert batch
        spent = 0
        for request, (start, stop) in batch.items():
            taken[request].append((start, stop))
            spent += int(request.costs[start:stop].sum())
        assert spent <= batch_cost + 50  # one document may run over
    for request, ranges in taken.items():
        assert ranges[0][0] == 0
        assert ranges[-1][1] == len(request.costs)
        assert all(one[1] == other[0] for one, other in pairwise(ranges))
    assert not rings.callers
    assert not rings.requests


def test_turns_go_to_callers_first_then_to_their_requests():
    rings = Rings()
    busy = [waiting("busy", [1] * 10) for _ in range(5)]
    quiet = waiting("quiet", [1] * 10)
    for request in (*busy, quiet):
        rings.add(request)
    batch = rings.take(40, 10)
    assert batch[quiet] == (0, 10)
    assert [request in batch for request in busy] == [True, True, True, False, False]


def test_a_long_list_gets_a_slice_of_every_batch_and_half_of_what_nobody_else_wants():
    queue, long = Queue(), waiting("long", [10] * 1000)
    queue.add(long)
    assert queue.take(100)[long] == (0, 10)
    assert long in queue.long  # it has had a batch
    for i in range(30):  # more short lists than a batch holds
        queue.add(waiting(f"short{i}", [10] * 2))
    for _ in range(7):
        before = long.had
        batch = queue.take(100)
        assert long.had - before == 20  # an eighth of a batch, 13, rounded up to whole documents
        assert len(batch) == 5
    while queue.short.count:
        queue.take(100)
    for costs, left in (([10], 40), ([10] * 7, 20), ([], 50)):  # half a batch less the short list, at least a share
        before, short = long.had, waiting("last", costs)
        if costs:
            queue.add(short)
        assert (short in queue.take(100)) == bool(costs)
        assert not short.left
        assert long.had - before == left


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.lists(st.integers(1, 50), min_size=1, max_size=30)), max_size=12),
    st.integers(1, 200),
)
@settings(max_examples=60, deadline=None)
def test_the_queue_takes_every_document_once_in_order_and_serves_whoever_is_new(lists, cost):
    queue, taken = Queue(), {}
    newcomers = [waiting(caller, costs) for caller, costs in lists]
    while queue.count or newcomers:
        if newcomers:
            taken[newcomers[-1]] = []
            queue.add(newcomers.pop())
        batch = queue.take(cost)
        assert batch
        for request, place in batch.items():
            taken[request].append(place)
        assert sum(int(r.costs[start:stop].sum()) for r, (start, stop) in batch.items()) <= cost + 100
    for request, ranges in taken.items():
        assert ranges[0][0] == 0
        assert ranges[-1][1] == len(request.costs)
        assert all(one[1] == other[0] for one, other in pairwise(ranges))
    assert queue.of("a") == 0
    assert not list(queue)
    assert SLICES > 1


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
    with live(engine, limits=Limits(waiting=3, collect_ms=0)) as (address, application):
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
    with live(engine, limits=Limits(waiting=100, waiting_of_one=2, collect_ms=0)) as (address, application):
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


def test_slow_clients_stall_nobody_and_silent_ones_are_sent_away(monkeypatch):
    monkeypatch.setattr("lorank.serving.http.server.HEADERS_S", 0.5)
    head = b"POST /v1/rerank HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"
    with live(WordEngine(), limits=Limits(body_s=30, collect_ms=0)) as (address, application):
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
