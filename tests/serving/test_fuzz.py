"""Fuzzed requests against live servers: no 500, no crash, no fault of the server, no file outside the store opened."""

import json
import sys
from pathlib import Path

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoModel

from lorank.serving.requests.limits import Limits
from lorank.serving.start import open_engine
from tiny_encoders import tiny_bert
from tiny_store import make_store
from word_engine import WordEngine, bearer, live, tenant_keys

QUIET = {
    "deadline": None,
    "derandomize": True,
    "suppress_health_check": [
        HealthCheck.too_slow,
        HealthCheck.filter_too_much,
        HealthCheck.data_too_large,
        HealthCheck.function_scoped_fixture,
    ],
}
LIMITS = Limits(documents=20, streamed_documents=50, collect_ms=0)
PATHS = ("/v1/rerank", "/rerank", "/v2/rerank")
TRICKS = (
    "../globex",
    "..",
    "../../../etc/passwd",
    "/etc/passwd",
    "acme/../globex",
    "globex\0",
    "acme\0/../globex",
    "\0",
    "file:///etc/passwd",
    "C:\\windows",
    "..\\globex",
    "globex/",
    "./globex",
    "%2e%2e/globex",
    "globex ",
    " globex",
    "ｇｌｏｂｅｘ",
    "globex\u200b",
    "GLOBEX",
    "a" * 1000,
    "~root",
    "$HOME",
    "tiny:../globex",
    "tiny:/globex",
    "-",
    ".",
    "globex/adapter_model.safetensors",
    "\u202exebolg",
    "\n",
    "CON",
    "globex:acme",
    "tiny:tiny:globex",
    "*",
    "acme,globex",
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
fields = st.sampled_from(
    [
        "model",
        "query",
        "documents",
        "texts",
        "top_n",
        "return_documents",
        "raw_scores",
        "stream",
        "truncate",
        "truncation_direction",
        "return_text",
        "max_tokens_per_doc",
    ]
)
good = {"query": "a b", "documents": ["a", "b a"], "texts": ["a"]}


def healthy(address):
    """Return whether the server counts no fault of its own."""
    return "lorank_failures_total 0.0" in requests.get(f"{address}/metrics", timeout=120).text


def check(response):
    """Check what holds for every answer to a POST: a known status, JSON with a message, an id."""
    assert response.status_code in {200, 400, 401, 404, 408, 413, 415, 429, 503, 504}
    assert response.headers["X-Request-Id"]
    if not response.ok:
        assert response.json()["message"]
    return response


@pytest.fixture(scope="module")
def words():
    with live(WordEngine(), limits=LIMITS) as (address, _):
        yield address
        assert healthy(address)


@pytest.fixture(scope="module")
def schema(words):
    return schemathesis.openapi.from_url(f"{words}/openapi.json")


def fuzz_schema(schema, words, examples):
    """Send what the schema allows, and what it does not; every answer must be one that the schema describes."""
    checks = (
        schemathesis.checks.not_a_server_error,
        schemathesis.checks.status_code_conformance,
        schemathesis.checks.content_type_conformance,
        schemathesis.checks.response_schema_conformance,
    )
    for operation in schema.get_all_operations():

        @given(case=operation.ok().as_strategy())
        @settings(max_examples=examples, **QUIET)
        def one(case):
            case.validate_response(case.call(base_url=words), checks=checks)

        one()
    assert healthy(words)


def test_what_the_schema_allows_is_answered_as_it_says(schema, words):
    fuzz_schema(schema, words, 15)


@pytest.mark.slow
def test_what_the_schema_allows_is_answered_as_it_says_at_length(schema, words):
    fuzz_schema(schema, words, 400)


def fuzz_bodies(words, examples):
    """Send any JSON, mutations of good bodies, and any bytes."""
    with requests.Session() as session:

        @given(
            path=st.sampled_from(PATHS),
            body=json_values
            | st.dictionaries(fields, json_values)
            | st.dictionaries(fields, json_values).map(lambda extra: {**good, **extra}),
        )
        @settings(max_examples=examples, **QUIET)
        def some_json(path, body):
            check(
                session.post(
                    words + path,
                    data=json.dumps(body).encode(),
                    timeout=120,
                    headers={"Content-Type": "application/json"},
                )
            )

        @given(
            path=st.sampled_from(PATHS),
            body=st.binary(max_size=200),
            headers=st.dictionaries(
                st.sampled_from(
                    ["Authorization", "X-Request-Id", "X-Timeout-Ms", "Content-Type", "Accept", "Content-Encoding"]
                ),
                st.text(st.characters(min_codepoint=33, max_codepoint=255), max_size=30),
            ),
        )
        @settings(max_examples=examples, **QUIET)
        def some_bytes(path, body, headers):
            headers = {"Content-Type": b"application/json"} | {k: v.encode("latin-1") for k, v in headers.items()}
            check(session.post(words + path, data=body, headers=headers, timeout=120))

        some_json()
        some_bytes()
    assert healthy(words)


def test_any_body_gets_an_answer(words):
    fuzz_bodies(words, 60)


@pytest.mark.slow
def test_any_body_gets_an_answer_at_length(words):
    fuzz_bodies(words, 3000)


@given(
    query=st.text(max_size=30),
    documents=st.lists(st.text(max_size=30), max_size=20),
    top=st.none() | st.integers(1, 30),
)
@settings(max_examples=25, **QUIET)
def test_good_bodies_are_all_answered_in_every_shape(words, query, documents, top):
    for path in PATHS:
        body = {"query": query, "documents": documents, "top_n": top}
        response = requests.post(words + path, json=body, timeout=120)
        assert response.status_code == 200
        assert len(response.json()["results"]) == min(len(documents), top or 99)
    response = requests.post(f"{words}/rerank", json={"query": query, "texts": documents}, timeout=120)
    assert sorted(row["index"] for row in response.json()) == list(range(len(documents)))


@pytest.fixture(scope="module")
def opened():
    """Record the paths that this process opens, while recording is on."""
    record = {"on": False, "paths": []}

    def hear(event, arguments):
        if record["on"] and event in ("open", "os.listdir", "os.scandir") and isinstance(arguments[0], str):
            record["paths"].append(arguments[0])

    sys.addaudithook(hear)
    yield record
    record["on"] = False


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """The real bank and store on a tiny base; beside the store lies an adapter that must not be reached."""
    home = tmp_path_factory.mktemp("fuzz")
    config, tokenizer = tiny_bert()
    AutoModel.from_config(config).save_pretrained(home / "tiny")
    tokenizer.save_pretrained(home / "tiny")
    make_store(home / "tiny", home / "store")
    make_store(home / "tiny", home / "outside")
    (home / "store" / "link").symlink_to(home / "outside" / "acme")
    engine = open_engine(
        str(home / "tiny"), str(home / "store"), kind="cross-encoder", max_length=32, memory_bytes=1 << 22
    )
    with live(engine, tenant_keys(), LIMITS) as (address, _):
        yield home, address


def ask(address, model, key):
    return check(
        requests.post(
            f"{address}/v1/rerank",
            headers=bearer(key),
            timeout=120,
            json={"model": model, "query": "q", "documents": ["a"]},
        )
    )


@pytest.mark.parametrize("key", ["acme", "operator"])
def test_tricks_in_names_reach_nothing(real, opened, key):
    home, address = real
    assert ask(address, "acme", "acme").ok
    opened["on"] = True
    for trick in (*TRICKS, *(f"tiny:{trick}" for trick in TRICKS), str(home / "outside" / "acme"), "../outside/acme"):
        assert ask(address, trick, key).status_code in {400, 404}
    assert ask(address, "link", "operator").status_code in {404, 503}
    opened["on"] = False
    strange = [path for path in opened["paths"] if not Path(path).resolve().is_relative_to(home / "store")]
    assert not [path for path in strange if "outside" in path or "passwd" in path or "safetensors" in path]
    assert healthy(address)


@given(model=st.text(max_size=40) | st.text("./\\:%~ globex\0", max_size=12))
@settings(max_examples=40, **QUIET)
def test_any_name_is_answered_and_opens_no_other_tenant(real, model):
    response = ask(real[1], model, "acme")
    if response.ok:
        assert model in ("", "acme", "tiny", "tiny:acme")
        assert response.json()["model"] in ("tiny", "tiny:acme")


@given(path=st.text("/.%2eE5c\\abcv1rerankmodels?&=#", max_size=30))
@settings(max_examples=25, **QUIET)
def test_any_path_is_answered_without_a_fault(words, path):
    for method in ("GET", "POST", "PUT", "DELETE", "HEAD"):
        assert requests.request(method, f"{words}/{path}", timeout=120).status_code < 500
