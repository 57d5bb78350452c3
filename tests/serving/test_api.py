"""The API over a live server: shapes, models, limits, messages. Scores are a formula (see word_engine)."""

import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from lorank.serving.requests.limits import Limits
from tiny_store import wait_until
from word_engine import PLATT, READ, THRESHOLD, WordEngine, bearer, live, tenant_keys, words_shared

QUERY = "how to sort a list"
TEXTS = ["the moon", "sort a list in place", "a list", "", "how to sort a list how to sort", "sort sort sort"]
LIMITS = Limits(
    documents=10,
    streamed_documents=400,
    tokens=5000,
    document_characters=3000,
    body_bytes=100_000,
    body_s=1.0,
    collect_ms=0,
)


@pytest.fixture(scope="module")
def address():
    with live(WordEngine(), limits=LIMITS) as (address, _):
        yield address


def expected(weight=1.0):
    """Return (index, score) best first, by the engine's formula."""
    scores = [weight * words_shared(QUERY, text) for text in TEXTS]
    return sorted(enumerate(scores), key=lambda row: (-row[1], row[0]))


def pairs(results, name="relevance_score"):
    return [(row["index"], row[name]) for row in results]


def refused(response, status, *words):
    """Check that a response is a refusal whose message holds the words; return it."""
    assert response.status_code == status, response.text
    body = response.json()
    assert body["error"] == body["message"]
    assert body["request_id"] == response.headers["X-Request-Id"]
    for word in words:
        assert word in body["message"]
    return body


@pytest.mark.parametrize("path", ["/v1/rerank", "/rerank"])
@pytest.mark.parametrize("documents", [TEXTS, [{"text": text} for text in TEXTS]], ids=["strings", "objects"])
def test_jina_shape(address, path, documents):
    response = requests.post(address + path, json={"query": QUERY, "documents": documents, "top_n": 4})
    body = response.json()
    assert set(body) == {"id", "model", "usage", "results"}
    assert body["model"] == "words"
    assert pairs(body["results"]) == expected()[:4]
    assert all(row["document"] == {"text": TEXTS[row["index"]]} for row in body["results"])
    assert body["usage"]["total_tokens"] == body["usage"]["prompt_tokens"]
    assert response.headers["X-Score-Scale"] == "raw"
    silent = requests.post(address + path, json={"query": QUERY, "documents": TEXTS, "return_documents": False})
    assert all(set(row) == {"index", "relevance_score"} for row in silent.json()["results"])


def test_usage_counts_tokens_that_were_read_now_and_nothing_for_known_scores(address):
    ask = {"query": "usage of tokens", "documents": ["one two three", "four", "w " * 30]}
    first, second = (requests.post(f"{address}/v1/rerank", json=ask) for _ in range(2))
    assert first.json()["usage"]["total_tokens"] == 3 + 1 + READ
    assert second.json()["usage"]["total_tokens"] == 0
    assert first.headers["X-Truncated-Documents"] == second.headers["X-Truncated-Documents"] == "1"
    assert first.json()["results"] == second.json()["results"]


def test_cohere_shape(address):
    ask = {"model": "words", "query": QUERY, "documents": [*TEXTS, "sort " * 25], "top_n": 2, "max_tokens_per_doc": 64}
    body = requests.post(f"{address}/v2/rerank", json=ask).json()
    assert set(body) == {"id", "results", "meta"}
    assert pairs(body["results"]) == [(6, float(READ)), expected()[0]]
    assert all(set(row) == {"index", "relevance_score"} for row in body["results"])
    meta = body["meta"]
    assert set(meta) == {"api_version", "billed_units", "tokens", "warnings"}
    assert meta["billed_units"] == {"search_units": 1}
    assert meta["warnings"][0].startswith("1 of 7 documents are longer")
    assert "max_tokens_per_doc" in meta["warnings"][1]


def test_tei_shape_is_told_by_texts_and_gives_logistic_scores_unless_raw(address):
    plain = requests.post(f"{address}/rerank", json={"query": QUERY, "texts": TEXTS}).json()
    assert [row["index"] for row in plain] == [index for index, _ in expected()]
    logistic = [1 / (1 + 2.718281828459045**-score) for _, score in expected()]
    assert [row["score"] for row in plain] == pytest.approx(logistic, abs=1e-6)
    raw = requests.post(
        f"{address}/rerank", json={"query": QUERY, "texts": TEXTS, "raw_scores": True, "return_text": True}
    ).json()
    assert pairs(raw, "score") == expected()
    assert all(row["text"] == TEXTS[row["index"]] for row in raw)


def test_tei_truncate_false_refuses_what_is_too_long(address):
    ask = {"query": QUERY, "texts": ["short", "w " * (READ + 1)], "truncate": False}
    refused(requests.post(f"{address}/rerank", json=ask), 413, "1 of the texts", "truncate")
    refused(requests.post(f"{address}/rerank", json=ask), 413, "1 of the texts")
    assert requests.post(f"{address}/rerank", json={**ask, "truncate": True}).ok
    assert requests.post(f"{address}/rerank", json={**ask, "texts": ["short"]}).ok
    refused(requests.post(f"{address}/rerank", json={**ask, "truncation_direction": "left"}), 400, "right")


@pytest.mark.parametrize("model", ["acme", "words:acme"])
def test_a_tenant_is_named_alone_or_after_the_base(address, model):
    ask = {"model": model, "query": QUERY, "documents": TEXTS}
    body = requests.post(f"{address}/v1/rerank", json={**ask, "raw_scores": True}).json()
    assert body["model"] == "words:acme"
    assert pairs(body["results"]) == expected(2.0)


def test_calibrated_models_answer_probabilities_and_say_so(address):
    ask = {"model": "acme", "query": QUERY, "documents": TEXTS}
    for path in ("/v1/rerank", "/v2/rerank"):
        for _ in range(2):  # the second time from the cache
            response = requests.post(address + path, json=ask)
            assert response.headers["X-Score-Scale"] == "probability"
            found = [score for _, score in pairs(response.json()["results"])]
            assert found == pytest.approx([float(PLATT([score])[0]) for _, score in expected(2.0)], abs=1e-7)


def test_a_threshold_leaves_out_what_is_below_it_and_an_empty_answer_abstains(address):
    ask = {"model": "acme", "query": QUERY, "documents": TEXTS}
    values = sorted({float(PLATT([score])[0]) for _, score in expected(2.0)})
    middle = (values[0] + values[-1]) / 2
    for path in ("/v1/rerank", "/v2/rerank"):
        whole = pairs(requests.post(address + path, json=ask).json()["results"])
        some = pairs(requests.post(address + path, json={**ask, "relevance_threshold": middle}).json()["results"])
        assert some == [(index, score) for index, score in whole if score >= middle]
        assert 0 < len(some) < len(whole)
        first = requests.post(address + path, json={**ask, "relevance_threshold": middle, "top_n": 1}).json()["results"]
        assert pairs(first) == some[:1]
        assert requests.post(address + path, json={**ask, "relevance_threshold": 1.01}).json()["results"] == []
    raw = {**ask, "raw_scores": True, "relevance_threshold": 1.0}
    assert all(score >= 1.0 for _, score in pairs(requests.post(f"{address}/v1/rerank", json=raw).json()["results"]))
    streamed = requests.post(f"{address}/v1/rerank", json={**ask, "stream": True, "relevance_threshold": middle}).text
    assert sorted(json.loads(line)["index"] for line in streamed.splitlines()[:-1]) == sorted(i for i, _ in some)


@pytest.mark.parametrize("raw", [False, True])
def test_the_certified_threshold_of_a_model_is_taken_on_request(address, raw):
    ask = {"model": "acme", "query": f"{QUERY} {raw}", "raw_scores": raw, "above_threshold": True}
    certain = [index for index, score in expected(2.0) if score >= THRESHOLD]
    assert 0 < len(certain) < len(TEXTS)
    for path in ("/v1/rerank", "/v2/rerank", "/rerank"):
        for _ in range(2):  # the second answer comes from the cache
            response = requests.post(address + path, json={**ask, "documents": TEXTS})
            assert [row["index"] for row in response.json()["results"]] == certain
            assert "X-Abstained" not in response.headers
        nothing = requests.post(address + path, json={**ask, "documents": ["the moon", "the sun"]})
        assert nothing.json()["results"] == []
        assert nothing.headers["X-Abstained"] == "true"
    tei = requests.post(f"{address}/rerank", json={**ask, "texts": TEXTS})
    assert [row["index"] for row in tei.json()] == certain
    streamed = requests.post(f"{address}/v1/rerank", json={**ask, "documents": TEXTS, "stream": True}).text
    assert sorted(json.loads(line)["index"] for line in streamed.splitlines()[:-1]) == sorted(certain)


@pytest.mark.parametrize("more", [{}, {"stream": True}])
def test_a_model_without_a_certified_threshold_refuses_and_says_what_to_do(address, more):
    for model in ("words", "globex"):
        for query in (QUERY, "another query"):
            ask = {"model": model, "query": query, "documents": TEXTS, "above_threshold": True, **more}
            body = refused(requests.post(f"{address}/v1/rerank", json=ask), 400, "lorank calibrate", "precision-at")
            assert body["error_type"] == "no_threshold"


def test_empty_lists_have_empty_answers(address):
    assert requests.post(f"{address}/v1/rerank", json={"query": "q", "documents": []}).json()["results"] == []
    assert requests.post(f"{address}/rerank", json={"query": "q", "texts": []}).json() == []
    refused(requests.post(f"{address}/v1/rerank", json={"model": "no", "query": "q", "documents": []}), 404, "'no'")


def test_streamed_answers_are_json_lines_in_slices_with_a_last_line_that_sums_up(address):
    texts = [f"{text} {i}" for i in range(50) for text in TEXTS]
    ask = {"query": QUERY, "documents": texts, "stream": True}
    with requests.post(f"{address}/v1/rerank", json=ask, stream=True) as response:
        assert response.headers["Content-Type"].startswith("application/x-ndjson")
        *rows, last = [json.loads(line) for line in response.iter_lines()]
    assert sorted(pairs(rows)) == [(i, float(words_shared(QUERY, text))) for i, text in enumerate(texts)]
    assert last["documents"] == 300
    assert last["usage"]["total_tokens"] == sum(len(text.split()) for text in texts)
    refused(requests.post(f"{address}/v1/rerank", json={**ask, "top_n": 3}), 400, "top_n")
    refused(requests.post(f"{address}/v1/rerank", json={**ask, "model": "no"}), 404)
    assert len(requests.post(f"{address}/v1/rerank", json={**ask, "documents": []}).text.splitlines()) == 1


def test_models_lists_the_base_and_every_adapter(address):
    body = requests.get(f"{address}/v1/models").json()
    assert body["object"] == "list"
    assert [row["id"] for row in body["data"]] == [
        "words",
        *(f"words:{n}" for n in ("acme", "broken", "globex", "initech")),
    ]


def test_request_ids_are_echoed_or_made_and_never_let_through_raw(address):
    for own in ("abc-123", "a" * 128):
        assert requests.get(f"{address}/health", headers={"X-Request-Id": own}).headers["X-Request-Id"] == own
    for bad in ("a b", "a" * 129, "", 'x"y', "<script>"):
        made = requests.get(f"{address}/health", headers={"X-Request-Id": bad}).headers["X-Request-Id"]
        assert made != bad
        assert len(made) == 32


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, ["query: Field required", "documents: Field required"]),
        ({"query": 3, "documents": []}, ["query", "string"]),
        ({"query": "q", "documents": ["a", 7]}, ["documents.1", "string", "object"]),
        ({"query": "q", "documents": "text"}, ["documents", "array"]),
        ({"query": "q", "documents": ["a"], "top_n": 0}, ["top_n", "greater than or equal to 1"]),
        ({"query": "q", "documents": ["a"], "top_n": 10**30}, ["top_n"]),
        ({"query": "q", "documents": ["a"], "top_n": True}, ["top_n", "integer"]),
        ({"query": "q", "documents": [{"image": "x"}]}, ["documents.0", "text"]),
        ({"query": "q", "documents": ["a"], "model": ["m"]}, ["model", "string"]),
        ({"query": "\ud800", "documents": ["a"]}, ["surrogate"]),
        ({"query": "q", "documents": ["a\udfff"]}, ["surrogate"]),
    ],
)
def test_wrong_bodies_are_400_and_name_the_field(address, body, words):
    refused(requests.post(f"{address}/v1/rerank", json=body), 400, *words)


@pytest.mark.parametrize("sent", [b"", b"{", b"[" * 50_000, b'{"query":"\xff","documents":[]}', b"null", b"NaN"])
def test_bodies_that_are_no_json_are_400(address, sent):
    refused(requests.post(f"{address}/v2/rerank", data=sent, headers={"Content-Type": "application/json"}), 400)


def test_other_types_are_415_and_unknown_paths_404(address):
    body = json.dumps({"query": "q", "documents": ["a"]})
    refused(requests.post(f"{address}/v1/rerank", data=body), 415, "Content-Type: application/json")
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    refused(requests.post(f"{address}/v1/rerank", data=body, headers=headers), 415, "Content-Encoding")
    refused(requests.get(f"{address}/v1/embed"), 404, "/v1/rerank")
    refused(requests.get(f"{address}/v1/rerank"), 405, "/v1/rerank")


def test_limits_are_413_and_say_what_to_change(address):
    def ask(**body):
        return requests.post(f"{address}/v1/rerank", json={"query": "q", **body})

    refused(ask(documents=["a"] * 11), 413, "11 documents", "at most 10", "stream")
    refused(ask(documents=["a"] * 401, stream=True), 413, "401 documents", "several requests")
    refused(ask(documents=["a" * 3001]), 413, "3001 characters", "passages")
    refused(ask(documents=["a" * 2900] * 10), 413, "tokens", "fewer documents")
    refused(ask(documents=["a" * 90_000] * 2), 413, "100000 bytes", "fewer documents")

    def chunks():
        yield b'{"query":"'
        for _ in range(30):
            yield b"x" * 10_000

    refused(
        requests.post(f"{address}/v1/rerank", data=chunks(), headers={"Content-Type": "application/json"}), 413, "bytes"
    )


def test_a_body_that_does_not_arrive_in_time_is_408(address):
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as client:
        client.sendall(
            b"POST /v1/rerank HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{"
        )
        client.settimeout(120)
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert b" 408 " in answer.splitlines()[0]
    assert b"within 1 s" in answer


def test_broken_adapters_and_failing_engines_are_503_without_their_secrets(address):
    body = refused(
        requests.post(f"{address}/v1/rerank", json={"model": "broken", "query": "q", "documents": ["a"]}),
        503,
        "operator",
    )
    assert "secret" not in json.dumps(body)
    refused(requests.post(f"{address}/v1/rerank", json={"query": "poison", "documents": ["a"]}), 503, "try again")


def test_a_failing_request_harms_none_of_its_batch():
    engine = WordEngine()
    with live(engine) as (address, application), ThreadPoolExecutor(8) as pool:
        engine.gate.clear()
        bodies = [{"query": "poison" if i % 2 else f"{QUERY} {i}", "documents": TEXTS} for i in range(8)]
        answers = [pool.submit(requests.post, f"{address}/v1/rerank", json=body) for body in bodies]
        assert wait_until(lambda: application.active == len(bodies))
        engine.gate.set()
        assert [answer.result().status_code for answer in answers] == [200, 503] * 4


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank", "/rerank"])
def test_keys_open_their_own_adapters_and_nobody_elses(path):
    with live(WordEngine(), tenant_keys()) as (address, _):

        def ask(model, headers):
            texts = "texts" if path == "/rerank" else "documents"
            return requests.post(address + path, headers=headers, json={"model": model, "query": "q", texts: ["a"]})

        for headers in (
            {},
            {"Authorization": "Bearer lr-wrong"},
            {"Authorization": "Basic lr-acme-key"},
            {"Authorization": "Bearer "},
            {"Authorization": "lr-acme-key"},
        ):
            body = refused(ask("acme", headers), 401, "key")
            assert "lr-" not in body["message"]
        assert ask("acme", bearer("acme")).ok
        assert ask("words:acme", bearer("operator")).ok
        assert ask("words", bearer("globex")).ok
        others, unknown = ask("acme", bearer("globex")), ask("nobody", bearer("globex"))
        assert refused(others, 404)["message"].replace("acme", "nobody") == refused(unknown, 404)["message"]
        listed = requests.get(f"{address}/v1/models", headers=bearer("globex")).json()["data"]
        assert [row["id"] for row in listed] == ["words", "words:globex", "words:initech"]
        assert requests.get(f"{address}/v1/models").status_code == 401
        assert requests.get(f"{address}/health").ok
        metrics = requests.get(f"{address}/metrics").text
        assert not any(name in metrics for name in ("acme", "globex"))


def test_a_request_without_model_gets_the_only_adapter_of_its_key():
    with live(WordEngine(), tenant_keys()) as (address, _):
        for name, model in (("acme", "words:acme"), ("globex", "words"), ("operator", "words")):
            body = requests.post(f"{address}/v1/rerank", headers=bearer(name), json={"query": "q", "documents": ["a"]})
            assert body.json()["model"] == model


def test_keys_are_never_logged(caplog):
    with caplog.at_level("DEBUG"), live(WordEngine(), tenant_keys()) as (address, _):
        for headers in (bearer("acme"), {"Authorization": "Bearer lr-some-wrong-key"}):
            requests.post(f"{address}/v1/rerank", headers=headers, json={"query": "q", "documents": ["a"]})
        requests.get(f"{address}/v1/models?key=lr-acme-key", headers=bearer("acme"))
    said = "".join(record.getMessage() for record in caplog.records if not record.name.startswith("urllib3"))
    assert "caller=acme" in said
    assert "lr-" not in said


def test_changed_adapters_are_scored_anew():
    engine = WordEngine()
    with live(engine) as (address, _):
        ask = {"model": "acme", "query": QUERY, "documents": TEXTS}
        tokens = []
        for version in (1, 1, 2, 2):
            engine.versions["acme"] = version
            tokens.append(requests.post(f"{address}/v1/rerank", json=ask).json()["usage"]["total_tokens"] > 0)
    assert tokens == [True, False, True, False]


def test_metrics_count_what_happened():
    with live(WordEngine()) as (address, _):
        for model in ("acme", "acme", "nobody"):
            requests.post(f"{address}/v1/rerank", json={"model": model, "query": QUERY, "documents": TEXTS})
        requests.get(f"{address}/any/path/at/all")
        page = requests.get(f"{address}/metrics").text
    found = {
        (s.name, *sorted(s.labels.values())): s.value for f in text_string_to_metric_families(page) for s in f.samples
    }
    assert found["lorank_requests_total", "/v1/rerank", "200"] == 2
    assert found["lorank_requests_total", "/v1/rerank", "404"] == 1
    assert found["lorank_requests_total", "404", "other"] == 1
    assert found["lorank_refusals_total", "unknown_model"] == 1
    assert found["lorank_documents_total",] == 2 * len(TEXTS)
    assert found["lorank_tokens_total",] == sum(len(text.split()) for text in TEXTS)
    assert found["lorank_cache_hits_total",] == len(TEXTS)
    assert found["lorank_failures_total",] == 0
    assert found["lorank_adapters",] == 4


def test_large_bodies_within_the_limit_are_taken():
    with live(WordEngine(), limits=Limits(tokens=10**8)) as (address, _):
        ask = {"query": QUERY, "documents": ["sort " * 1500] * 900, "return_documents": False}
        response = requests.post(f"{address}/v1/rerank", json=ask)
        assert len(json.dumps(ask)) > 6_500_000
        assert pairs(response.json()["results"]) == [(i, 20.0) for i in range(900)]


def test_closing_gives_up_the_engine():
    engine, before = WordEngine(), set(threading.enumerate())
    with live(engine) as (address, _):
        requests.post(f"{address}/v1/rerank", json={"query": "q", "documents": ["a"]})
        assert not engine.closed
    assert engine.closed
    assert wait_until(lambda: set(threading.enumerate()) <= before)
