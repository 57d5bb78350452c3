"""The examples for clients, each run as it stands against a live server; skipped where the client is not installed."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from word_engine import PLATT, WordEngine, bearer, live, tenant_keys, words_shared

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "clients"
NEEDS = {
    "cohere_client.py": "cohere",
    "jina_requests.py": "requests",
    "langchain_cohere_compressor.py": "langchain_cohere",
    "langchain_compressor.py": "langchain_core",
    "llamaindex_cohere.py": "llama_index.postprocessor.cohere_rerank",
    "llamaindex_jina.py": "llama_index.postprocessor.jinaai_rerank",
    "pyterrier_transformer.py": "pyterrier",
}
QUERY = "sort a list"
DOCUMENTS = ["the moon orbits the earth", "a list is sorted in place", "lists and how to sort them"]
PYTHON = os.environ.get("LORANK_CLIENTS_PYTHON", sys.executable)
"""The interpreter that has the clients: they may live in an environment of their own."""


@pytest.fixture(scope="module")
def address():
    with live(WordEngine(), tenant_keys()) as (address, _):
        yield address


def installed(module):
    if sys.executable != PYTHON:
        find = f"import importlib.util as u, sys; sys.exit(not u.find_spec({module.split('.')[0]!r}))"
        return subprocess.run([PYTHON, "-c", find], check=False).returncode == 0
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def run(program, example, address, model):
    return subprocess.run(
        [program, str(EXAMPLES / example)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "LORANK_ADDRESS": address, "LORANK_MODEL": model, "LORANK_API_KEY": "lr-acme-key"},
    )


def expected():
    """Return (index, probability) of the best two."""
    scores = [float(PLATT([2.0 * words_shared(QUERY, text)])[0]) for text in DOCUMENTS]
    return sorted(enumerate(scores), key=lambda row: -row[1])[:2]


@pytest.mark.parametrize(
    "example", [pytest.param(name, marks=[] if name == "jina_requests.py" else pytest.mark.slow) for name in NEEDS]
)
def test_the_example_prints_the_best_two(address, example):
    if not installed(NEEDS[example]):
        pytest.skip(f"{NEEDS[example]} is not installed for {PYTHON}; see docs/serving.md")
    found = run(PYTHON, example, address, "words:acme")
    assert found.returncode == 0, found.stderr
    rows = [line.split(maxsplit=2) for line in found.stdout.splitlines()]
    assert [(int(i), pytest.approx(score, abs=1e-6), DOCUMENTS[i]) for i, score in expected()] == [
        (int(i), float(score), text) for i, score, text in rows
    ]
    refused = run(PYTHON, example, address, "globex")
    assert refused.returncode != 0


def test_every_example_is_tested():
    assert {path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".sh")} == {*NEEDS, "curl.sh"}


def test_curl_gets_all_shapes(address):
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    found = run("sh", "curl.sh", address, "acme")
    assert found.returncode == 0, found.stderr
    assert found.stdout.count('"index":') == 2 + 2 + 3 + 3
    refused = run("sh", "curl.sh", address, "globex")
    assert refused.returncode != 0
    assert "/v1/models" in refused.stdout


def test_documents_of_a_rag_pipeline_keep_their_scores_whatever_the_batch(address):
    """One by one and together: a reranker in a pipeline must not depend on what else is asked."""
    ask = {"model": "acme", "query": QUERY, "raw_scores": True}
    together = requests.post(
        f"{address}/v1/rerank", headers=bearer("acme"), timeout=120, json={**ask, "documents": DOCUMENTS}
    )
    for row in together.json()["results"]:
        alone = requests.post(
            f"{address}/v1/rerank",
            headers=bearer("acme"),
            timeout=120,
            json={**ask, "documents": [DOCUMENTS[row["index"]]]},
        ).json()
        assert alone["results"][0]["relevance_score"] == row["relevance_score"]
