"""One tenant's load on a live server in a process of its own, and what another tenant sees of it."""

import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from lorank.serving.http.middleware import Shares
from lorank.serving.requests.keys import Caller
from lorank.serving.requests.limits import Limits
from lorank.serving.requests.overload import HOLD_S
from lorank.serving.requests.refusal import Refusal
from lorank.serving.requests.usage import Rates, Usage
from tiny_store import wait_until
from word_engine import SteppedEngine, WordEngine, bearer, live, tenant_keys
from words_server import words_server


@pytest.fixture(scope="module")
def slow(tmp_path_factory):
    """A server that scores 200 documents a second, for two tenants."""
    log = tmp_path_factory.mktemp("load") / "log.txt"
    with words_server(
        log, keyed=True, second_a_document=0.005, limits={"latency_ms": 100, "cache_bytes": 0, "backlog_s": 1}
    ) as server:
        yield server


def quiet_answers(server, count, pause=0.05):
    """Send small lists as globex, one after another; return their statuses."""
    found = []
    for number in range(count):
        answer = server.rerank([f"a quiet one {number} {i}" for i in range(3)], bearer("globex"))
        found.append(answer.status_code)
        time.sleep(pause)
    return found


def test_a_flood_of_one_tenant_refuses_and_delays_no_other(slow):
    over, refused = threading.Event(), []

    def flood():
        while not over.is_set():
            answer = slow.rerank([f"a flood {time.perf_counter()} {i}" for i in range(60)], bearer("acme"))
            refused.append(answer.status_code)
            if answer.status_code == 429:
                assert int(answer.headers["Retry-After"]) >= 1
                time.sleep(0.02)

    threads = [threading.Thread(target=flood, daemon=True) for _ in range(24)]
    for thread in threads:
        thread.start()
    try:
        assert wait_until(lambda: 429 in refused and slow.metric("lorank_waiting_requests"))
        before = len(refused)
        found = quiet_answers(slow, 10)
        assert wait_until(lambda: len(refused) > before)  # the flood goes on
    finally:
        over.set()
        for thread in threads:
            thread.join(120)
    assert found == [200] * 10
    assert set(refused) <= {200, 429}


def test_a_list_whose_documents_cost_more_than_a_batch_starves_nobody():
    """Judged by the order of the batches: another tenant's lists are in the next ones, whatever a document costs."""
    engine = SteppedEngine(permits=1)
    limits = Limits(collect_ms=0, latency_ms=100, cache_bytes=0)
    with live(engine, tenant_keys(), limits) as (address, application), ThreadPoolExecutor(6) as pool:

        def send(query, tenant, documents):
            body = {"query": query, "documents": documents}
            return pool.submit(requests.post, f"{address}/v1/rerank", json=body, headers=bearer(tenant), timeout=120)

        long = send("long", "acme", ["a very long document " * 8000 + str(i) for i in range(40)])
        assert wait_until(lambda: engine.asked == 2)  # one batch of it is scored, the next is held
        quiet = [send(f"quiet {i}", "globex", ["one", "two", "three"]) for i in range(5)]
        assert wait_until(lambda: application.service.batcher.queue.count == 6)
        engine.let_go()
        assert all(one.result().ok for one in (long, *quiet))
    assert max(engine.batches_of("quiet")) <= 1 + len(quiet)
    assert max(engine.batches_of("quiet")) < max(engine.batches_of("long"))


def test_a_full_queue_makes_room_at_the_cost_of_whoever_fills_it():
    engine = WordEngine()
    limits = Limits(queued=4, queued_of_one=10, collect_ms=0)
    with live(engine, tenant_keys(), limits) as (address, application), ThreadPoolExecutor(8) as pool:

        def send(query, tenant):
            body = {"query": query, "documents": ["a"]}
            return pool.submit(requests.post, f"{address}/v1/rerank", json=body, headers=bearer(tenant), timeout=120)

        queue = application.service.batcher.queue
        engine.gate.clear()
        flood = [send("first", "acme")]
        assert wait_until(lambda: engine.started and not queue.count)
        for number in range(4):
            flood.append(send(f"flood {number}", "acme"))
            assert wait_until(lambda: queue.count == len(flood) - 1)
        quiet = [send("quiet", "globex")]
        assert flood[-1].result().status_code == 429  # the newest of the tenant that has the most
        assert int(flood[-1].result().headers["Retry-After"]) >= 1
        assert send("one more", "acme").result().status_code == 429
        quiet.append(send("quiet too", "globex"))
        assert flood[-2].result().status_code == 429
        engine.gate.set()
        assert [one.result().status_code for one in (*flood[:-2], *quiet)] == [200] * 5


def test_a_client_that_does_not_wait_as_told_is_refused_unread_and_others_are_not():
    engine = SteppedEngine()
    with (
        live(engine, tenant_keys(), Limits(queued_of_one=1, collect_ms=0)) as (address, application),
        ThreadPoolExecutor(4) as pool,
    ):

        def send(query, tenant):
            body = {"query": query, "documents": ["a"]}
            return pool.submit(requests.post, f"{address}/v1/rerank", json=body, headers=bearer(tenant), timeout=120)

        queue = application.service.batcher.queue
        accepted = [send("first", "acme")]
        assert wait_until(lambda: engine.asked == 1)
        accepted.append(send("second", "acme"))
        assert wait_until(lambda: queue.of("acme") == 1)
        third = send("third", "acme").result()
        assert third.status_code == 429
        wait_s = int(third.headers["Retry-After"])
        host, _, port = address.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), timeout=60) as client:
            head = (
                "POST /v1/rerank HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n"
                f"Authorization: {bearer('acme')['Authorization']}\r\n\r\n{{"
            )
            began = time.monotonic()
            client.sendall(head.encode())  # the rest of the body never comes
            answer = client.recv(1 << 16).decode()
        assert answer.startswith("HTTP/1.1 429")
        assert 1 <= int(re.search(r"retry-after: (\d+)", answer.lower()).group(1)) <= wait_s
        assert time.monotonic() - began > 0.5 * HOLD_S  # held, so that a loop without pauses is slow
        accepted.append(send("quiet", "globex"))
        engine.let_go()
        assert all(one.result().ok for one in accepted)


def test_large_bodies_of_one_tenant_leave_memory_for_the_others(tmp_path):
    with words_server(tmp_path / "log.txt", keyed=True, limits={"held_bytes": 1 << 20}) as server:
        head = (
            "POST /v1/rerank HTTP/1.1\r\nHost: x\r\nAuthorization: {}\r\nContent-Type: application/json\r\n"
            "Content-Length: 150000\r\n\r\n{{"
        ).format(bearer("acme")["Authorization"])
        clients = [server.connect(head.encode() + b" " * 149_000) for _ in range(12)]
        large = ["quiet " * 20_000]
        assert wait_until(lambda: server.rerank(large, bearer("acme"), query="q").status_code == 429)
        assert server.rerank(large, bearer("globex"), query="q").ok
        for client in clients:
            client.close()


def test_shares_leave_room_for_a_newcomer_however_many_hold_memory():
    memory = Shares(1000)
    for tenant in "abcdef":
        while memory.take(tenant, 1):
            pass
        assert memory.held < 1000
    held = memory.held
    for tenant, count in list(memory.by_tenant.items()):
        memory.give(tenant, count)
    assert (memory.held, memory.by_tenant) == (0, {})
    assert held > 800


def test_rates_are_by_name_and_say_when_to_come_back():
    now = [0.0]
    rates = Rates(clock=lambda: now[0])
    limited = Caller("acme", None, requests_per_minute=60, tokens_per_minute=6000)
    for _ in range(10):
        rates.take_request(limited)
    with pytest.raises(Refusal) as refused:
        rates.take_request(limited)
    assert (refused.value.status, refused.value.retry_s) == (429, pytest.approx(1.0))
    rates.take_request(Caller("globex", None, requests_per_minute=60))
    rates.take_request(Caller("free"))
    now[0] = 1.0
    rates.take_request(limited)
    rates.take_tokens(limited, 5000)  # more than it may use at once: taken, and owed
    with pytest.raises(Refusal) as refused:
        rates.take_tokens(limited, 1)
    assert 40 < refused.value.retry_s < 51
    halved = Rates(share=0.5, clock=lambda: now[0])
    for _ in range(5):
        halved.take_request(limited)
    with pytest.raises(Refusal):
        halved.take_request(limited)


def test_a_key_sees_its_own_usage_and_an_operator_everybody_s(slow):
    slow.rerank(["one", "two"], bearer("globex"))
    own = requests.get(f"{slow.address}/v1/usage", headers=bearer("globex"), timeout=120).json()["data"]
    assert list(own) == ["globex"]
    assert own["globex"]["documents"] >= 2
    assert {"acme", "globex"} >= set(own)
    everybody = requests.get(f"{slow.address}/v1/usage", headers=bearer("operator"), timeout=120).json()["data"]
    assert "globex" in everybody
    assert requests.get(f"{slow.address}/v1/usage", timeout=120).status_code == 401
    assert Usage().counts() == {}
