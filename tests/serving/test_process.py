"""`lorank serve` as a process on loopback: a tiny base, three adapters, all shapes; SIGTERM, kill -9, restart."""

import os
import signal
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import requests

from lorank.cli import main
from lorank.serving.requests.keys import hash_key
from tiny_encoders import DOCUMENTS, QUERY
from tiny_store import TENANTS, make_store, serving, tiny_adapter, wait_until

FAST = ("--memory-mb", "4", "--latency-ms", "100")
PATIENT = ("--backlog-s", "600", "--timeout-s", "600", "--drain-s", "600")
"""On a slow machine too, what is taken on is scored, and nothing is refused because much waits."""


@pytest.fixture(scope="module")
def store(tiny_folders, tmp_path_factory):
    """A base, its adapters' folder, and the rankers that they were saved from."""
    folder = tmp_path_factory.mktemp("adapters")
    return tiny_folders["bert"], folder, make_store(tiny_folders["bert"], folder)


@pytest.fixture(scope="module")
def running(store, tmp_path_factory):
    base, folder, _ = store
    keys = tmp_path_factory.mktemp("keys") / "keys.txt"
    keys.write_text("".join(f"{name} {hash_key('lr-' + name)} {name}\n" for name in TENANTS))
    with serving(base, folder, keys.with_name("log.txt"), ["--keys", str(keys), *FAST, *PATIENT]) as process:
        yield process


def bearer(name):
    return {"Authorization": f"Bearer lr-{name}"}


@pytest.mark.parametrize("tenant", TENANTS)
def test_all_shapes_give_the_ranker_s_own_scores(running, store, tenant):
    scores = store[2][tenant].score(QUERY, DOCUMENTS)
    order = np.argsort(-scores, kind="stable").tolist()

    def ask(path, **body):
        body = {"model": tenant, "query": QUERY, "raw_scores": True, **body}
        response = requests.post(running.address + path, json=body, headers=bearer(tenant), timeout=120)
        assert response.ok, response.text
        return response.json()

    answers = {
        "jina": ask("/v1/rerank", documents=DOCUMENTS)["results"],
        "rerank": ask("/rerank", documents=DOCUMENTS)["results"],
        "cohere": ask("/v2/rerank", documents=DOCUMENTS)["results"],
        "tei": ask("/rerank", texts=DOCUMENTS),
    }
    for shape, rows in answers.items():
        found = [row["score" if shape == "tei" else "relevance_score"] for row in rows]
        np.testing.assert_allclose(found, scores[order], atol=1e-5 * np.abs(scores).max())
        assert [scores[row["index"]] for row in rows] == pytest.approx(scores[order], abs=1e-5)


def test_mixed_tenants_at_once_get_their_own_scores(running, store):
    def ask(number):
        tenant = TENANTS[number % 3]
        documents = [f"{text} {number}" for text in DOCUMENTS]
        body = requests.post(
            f"{running.address}/v1/rerank",
            headers=bearer(tenant),
            timeout=120,
            json={"query": f"{QUERY} {number}", "documents": documents, "raw_scores": True},
        ).json()
        found = {row["index"]: row["relevance_score"] for row in body["results"]}
        return tenant, documents, f"{QUERY} {number}", [found[i] for i in range(len(documents))]

    with ThreadPoolExecutor(12) as pool:
        for tenant, documents, query, found in pool.map(ask, range(24)):
            expected = store[2][tenant].score(query, documents)
            np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_tenants_see_and_call_their_own_adapter_only(running, store):
    base = store[0].name
    for tenant in TENANTS:
        listed = requests.get(f"{running.address}/v1/models", headers=bearer(tenant), timeout=120).json()["data"]
        assert [row["id"] for row in listed] == [base, f"{base}:{tenant}"]
    for model in ("globex", f"{base}:globex", "../globex", "initech/../globex", "globex/", "./globex"):
        refused = requests.post(
            f"{running.address}/v1/rerank",
            headers=bearer("acme"),
            timeout=120,
            json={"model": model, "query": "q", "documents": ["a"]},
        )
        assert refused.status_code == 404
    assert "lr-acme" not in running.log.read_text()
    assert "caller=acme" in running.log.read_text()


def test_new_changed_and_broken_adapters_without_a_restart(running, store, tmp_path):
    base, folder, _ = store

    def ask(name):
        return requests.post(
            f"{running.address}/v1/rerank",
            headers=bearer("acme"),
            timeout=120,
            json={"model": "acme", "query": QUERY, "documents": DOCUMENTS, "raw_scores": True},
        )

    other, adapter = tiny_adapter(base, seed=9)
    adapter.save(tmp_path / "new", base_name=str(base))
    kept = folder / "acme"
    before = ask("acme").json()["results"]
    kept.rename(tmp_path / "acme")
    (tmp_path / "new").rename(kept)
    scores = other.score(QUERY, DOCUMENTS)

    def changed():
        return ask("acme").ok and max(r["relevance_score"] for r in ask("acme").json()["results"]) == pytest.approx(
            scores.max(), abs=1e-5
        )

    assert wait_until(changed)
    weights = kept / "adapter_model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    assert wait_until(lambda: ask("acme").status_code == 503)
    assert str(folder) not in ask("acme").text
    kept.rename(tmp_path / "broken")
    assert wait_until(lambda: ask("acme").status_code == 404)
    (tmp_path / "acme").rename(kept)
    assert wait_until(lambda: ask("acme").ok)
    assert ask("acme").json()["results"] == before


def test_sigterm_answers_what_was_accepted_refuses_the_rest_and_exits_with_0(running):
    """Stands last among the tests of this process, which it ends."""
    texts = [f"{DOCUMENTS[i % 10]} {i}" for i in range(500)]

    def ask(query):
        return requests.post(
            f"{running.address}/v1/rerank",
            headers=bearer("acme"),
            timeout=600,
            json={"model": "acme", "query": query, "documents": texts},
        )

    def taken():
        done = sum(one.done() for one in accepted)
        time.sleep(0.3)  # the page is kept for a moment: this one is younger than the count
        page = requests.get(f"{running.address}/metrics", timeout=120).text
        return done + float(page.split("\nlorank_waiting_requests ")[1].split()[0])

    def health():
        return requests.get(f"{running.address}/health", timeout=120).status_code

    head = (
        "POST /v1/rerank HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer lr-acme\r\nContent-Type: application/json\r\n"
        "Content-Length: 100\r\n\r\n{"
    )
    with ThreadPoolExecutor(6) as pool, socket.create_connection(("127.0.0.1", running.port)) as slow:
        slow.sendall(head.encode())  # as long as this one is at it, the server does not end
        accepted = [pool.submit(ask, f"query {i}") for i in range(6)]
        assert wait_until(lambda: taken() == 6)  # whatever comes later is refused like a fresh one
        running.process.send_signal(signal.SIGTERM)
        assert wait_until(lambda: health() == 503)
        fresh = ask("fresh")
        assert fresh.status_code == 503
        assert "stop" in fresh.json()["message"]
        slow.close()
        answers = [one.result() for one in accepted]
    assert [len(answer.json()["results"]) for answer in answers] == [500] * 6
    assert running.process.wait(120) == 0


@pytest.mark.slow
def test_kill_9_loses_nothing_silently_and_a_restart_answers_again(store, tmp_path):
    base, folder, _ = store
    outcomes, over = [], threading.Event()

    def client(number):
        count = 0
        while not over.is_set():
            count += 1
            try:
                ask = {"model": TENANTS[number % 3], "query": f"q {number} {count}", "documents": DOCUMENTS}
                outcomes.append(requests.post(f"{address}/v1/rerank", json=ask, timeout=120).status_code)
            except requests.ConnectionError:
                outcomes.append("error")
                time.sleep(0.05)

    with serving(base, folder, tmp_path / "log.txt", FAST) as first:
        address = first.address
        clients = [threading.Thread(target=client, args=(i,), daemon=True) for i in range(6)]
        for thread in clients:
            thread.start()
        assert wait_until(lambda: len(outcomes) > 20)
        os.kill(first.process.pid, signal.SIGKILL)
        first.process.wait()
        assert wait_until(lambda: "error" in outcomes)
        with serving(base, folder, tmp_path / "log.txt", FAST, first.port):
            seen = len(outcomes)
            assert wait_until(lambda: 200 in outcomes[seen:])
            over.set()
            for thread in clients:
                thread.join(120)
                assert not thread.is_alive()
    assert set(outcomes) <= {200, 429, "error"}


def test_wrong_use_is_said_and_exits_with_2(tmp_path, monkeypatch, capsys):
    for options, word in (
        (["--adapters", str(tmp_path / "none")], "no folder of adapters"),
        (["--latency-ms", "0"], "latency_ms"),
        (["--kind", "features"], "bi-encoder"),
    ):
        monkeypatch.setattr(sys, "argv", ["lorank", "serve", "--base", "minilm", *options])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 2
        assert word in capsys.readouterr().err


def test_a_port_that_is_taken_is_said_and_exits_with_1(store, monkeypatch, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(sys, "argv", ["lorank", "serve", "--base", str(store[0]), "--port", str(port), *FAST])
        sys.argv += ["--kind", "bi-encoder"]
        with pytest.raises(SystemExit) as ended:
            main()
    assert ended.value.code == 1
    assert f"cannot listen on 127.0.0.1:{port}" in capsys.readouterr().err
