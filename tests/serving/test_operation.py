"""What operators read of a live server: readiness, metrics that cost little, traces."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from lorank.serving.http.tracing import open_tracer
from lorank.serving.requests.limits import Limits
from tiny_store import wait_until
from word_engine import WordEngine, live, tenant_keys


def test_readiness_follows_the_scorer_and_liveness_the_process():
    engine = WordEngine()
    with (
        live(engine, limits=Limits(ready_s=2, collect_ms=0)) as (address, application),
        ThreadPoolExecutor(1) as pool,
    ):

        def status(path):
            return requests.get(address + path, timeout=120).status_code

        assert wait_until(lambda: status("/health/ready") == 200)  # an idle scorer is asked
        assert engine.batches[-1][0].query == "is it ready"
        asked = len(engine.batches)
        assert [status("/health/ready") for _ in range(5)] == [200] * 5
        assert len(engine.batches) <= asked + 1  # not at every look
        engine.gate.clear()
        stuck = pool.submit(requests.post, f"{address}/v1/rerank", json={"query": "q", "documents": ["a"]}, timeout=120)
        assert wait_until(lambda: status("/health/ready") == 503)
        assert status("/health") == status("/health/live") == 200
        engine.gate.set()
        assert stuck.result().ok
        assert wait_until(lambda: status("/health/ready") == 200)
        application.service.batcher.stopping = True
        assert (status("/health/ready"), status("/health/live")) == (503, 200)
        application.service.batcher.stopping = False


def test_an_idle_scorer_that_answers_no_probe_is_not_ready():
    engine = WordEngine()
    with live(engine, limits=Limits(ready_s=0.3, collect_ms=0)) as (address, _):
        engine.gate.clear()
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: requests.get(f"{address}/health/ready", timeout=120).status_code, range(8)))
        assert wait_until(lambda: requests.get(f"{address}/health/ready", timeout=120).status_code == 503)
        assert requests.get(f"{address}/health/ready", timeout=120).status_code == 503
        assert engine.started == 1  # one probe for all who ask
        engine.gate.set()
        assert wait_until(lambda: requests.get(f"{address}/health/ready", timeout=120).status_code == 200)


class LargeStore(WordEngine):
    """Listing the adapters takes long, as it does where there are thousands."""

    listed = 0

    def adapters(self):
        type(self).listed += 1
        time.sleep(0.2)
        return super().adapters()

    def version(self, adapter):
        return "1"


def test_a_flood_of_metrics_lists_the_store_seldom_and_delays_nobody():
    with live(LargeStore(), tenant_keys(), Limits(collect_ms=0)) as (address, _):
        over = threading.Event()

        def flood():
            with requests.Session() as session:
                while not over.is_set():
                    assert session.get(f"{address}/metrics", timeout=120).ok
                    assert session.get(f"{address}/v1/models", headers=key, timeout=120).ok

        key = {"Authorization": "Bearer lr-operator-key"}
        body = {"query": "q", "documents": ["a"]}
        threads = [threading.Thread(target=flood, daemon=True) for _ in range(12)]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        for _ in range(10):
            assert requests.post(f"{address}/v1/rerank", json=body, headers=key, timeout=120).ok
        listed, spent = LargeStore.listed, time.monotonic() - began
        over.set()
        for thread in threads:
            thread.join(60)
    assert listed <= spent + 3  # at most once per second, however many ask


def test_metrics_keep_to_prometheus_conventions():
    with live(WordEngine()) as (address, application):
        requests.post(f"{address}/v1/rerank", json={"query": "q", "documents": ["a"]}, timeout=120)
        requests.get(f"{address}/metrics", timeout=120)
        for metric in application.metrics.registry.collect():
            assert metric.documentation
            if metric.type == "counter":
                assert all(sample.name.endswith(("_total", "_created")) for sample in metric.samples)
            if metric.type == "histogram":
                assert metric.name.endswith(("_seconds", "_requests", "_documents"))
    names = {metric.name for metric in application.metrics.registry.collect()}
    assert {"lorank_build", "process_cpu_seconds", "lorank_queue_seconds", "lorank_waiting_tenants"} <= names


def test_names_stand_in_the_metrics_only_where_that_was_asked():
    with live(WordEngine(), tenant_keys()) as (address, _):
        headers = {"Authorization": "Bearer lr-acme-key"}
        requests.post(f"{address}/v1/rerank", json={"query": "q", "documents": ["a"]}, headers=headers, timeout=120)
        assert "acme" not in requests.get(f"{address}/metrics", timeout=120).text


def test_requests_become_spans_with_their_queue_and_their_batches():
    pytest.importorskip("opentelemetry.sdk")
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    from lorank.serving.http.app import make_app
    from lorank.serving.http.tracing import OpenTelemetry

    exporter = InMemorySpanExporter()
    tracer = OpenTelemetry(exporter)
    application = make_app(WordEngine(), limits=Limits(collect_ms=0), tracer=tracer)
    with live(application) as (address, _):
        parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        body = {"query": "q", "documents": ["a", "b"]}
        assert requests.post(f"{address}/v1/rerank", json=body, headers={"traceparent": parent}, timeout=120).ok
        assert requests.get(f"{address}/v1/nothing", headers={"traceparent": "odd"}, timeout=120).status_code == 404
    spans = {span.name: span for span in exporter.get_finished_spans()}
    request, queue, score = spans["POST /v1/rerank"], spans["queue"], spans["score"]
    assert f"{request.context.trace_id:032x}" == parent.split("-")[1]
    assert request.attributes["http.response.status_code"] == 200
    assert request.attributes["lorank.rows"] == 2
    assert queue.parent.span_id == score.parent.span_id == request.context.span_id
    assert queue.end_time == score.start_time


def test_traces_without_their_library_are_refused_in_words(monkeypatch):
    import sys

    from lorank.errors import UsageError

    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(UsageError, match="tracing"):
        open_tracer("http://127.0.0.1:4318/v1/traces")
