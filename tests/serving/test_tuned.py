"""`lorank serve --base RUN`: the scores of `lorank rank` in every shape, of a tuned ranker and of a cascade of two."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import requests
import torch

from lorank import lowrank
from lorank.errors import DataError, LorankError, UsageError
from lorank.ranking.scorers import BiEncoder, CausalRanker, CrossEncoder
from lorank.ranking.scorers.bm25 import BM25Statistics
from lorank.serving.requests.correction import SECOND
from lorank.serving.requests.engine import Job
from lorank.serving.requests.limits import Limits
from lorank.serving.start import open_engine
from lorank.tuned.first_stage import Component, FirstStage
from lorank.tuned.mix import Mix
from lorank.tuned.ranker import TunedRanker
from lorank.tuned.second_stage import SecondStage
from tiny_encoders import DOCUMENTS, QUERY
from tiny_rerankers import write_reranker
from tiny_store import tiny_adapter
from word_engine import bearer, live, tenant_keys

MEMORY, DEPTH = 1 << 22, 4
TEXTS = [*DOCUMENTS, "sorting words", "the moon and the sun", "low-rank models of language", "x", "a list", "orbits"]
PATIENT = Limits(collect_ms=0, timeout_s=600)


def shake(parameters, seed):
    generator = torch.Generator().manual_seed(seed)
    for _, parameter in parameters:
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)


def make_cascade(base, adapted):
    """Return a cascade on BM25: a bi-encoder and a cross-encoder with random updates, or with random weights."""
    first = BiEncoder(base, max_length=24)
    fast = lowrank.attach(first.module, "lora", rank=2, seed=1) if adapted else None
    shake(fast.named_parameters() if fast else first.module.named_parameters(), 2)
    second, careful = tiny_adapter(base, seed=5)
    second.base = str(base)
    if not adapted:
        second, careful = CrossEncoder(base, max_length=32), None
        shake(second.module.named_parameters(), 3)
    stage = FirstStage("bm25", (Component("bm25"),), BM25Statistics.of(TEXTS))
    corrector = SecondStage(TunedRanker(second, careful, stage, Mix(1.0, 9.0)), Mix(1.0, 0.8, spread=2.0), DEPTH)
    return TunedRanker(first, fast, stage, Mix(1.0, 0.7, spread=0.5), second_stage=corrector)


@pytest.fixture(scope="module", params=["adapters", "whole"])
def cascade(request, tiny_folders, tmp_path_factory):
    """A cascade as it is opened from its run folder, and that folder."""
    run = tmp_path_factory.mktemp("cascade") / "careful"
    run.mkdir()
    make_cascade(tiny_folders["bert"], request.param == "adapters").save(run / "model")
    return TunedRanker.load(run), run


@pytest.fixture(scope="module")
def address(cascade):
    engine = open_engine(str(cascade[1]), None, memory_bytes=MEMORY)
    with live(engine, limits=PATIENT) as (address, _):
        yield address


def in_order(rows, name="relevance_score"):
    """Return the scores of an answer in the order of the request, after a look at the order of the answer."""
    found = [row[name] for row in rows]
    assert found == sorted(found, reverse=True)
    return [score for _, score in sorted((row["index"], row[name]) for row in rows)]


@pytest.mark.parametrize("count", [1, DEPTH - 1, DEPTH, DEPTH + 1, len(TEXTS)])
def test_every_shape_gives_the_scores_of_rank(cascade, address, count):
    texts = TEXTS[:count]
    expected = cascade[0].score(QUERY, texts)

    def ask(path, **body):
        answer = requests.post(address + path, json={"query": QUERY, **body}, timeout=600)
        assert answer.ok, answer.text
        return answer.json()

    shapes = {
        "jina": ask("/v1/rerank", documents=texts)["results"],
        "cohere": ask("/v2/rerank", documents=texts)["results"],
        "tei": ask("/rerank", texts=texts, raw_scores=True),
    }
    for shape, rows in shapes.items():
        found = in_order(rows, "score" if shape == "tei" else "relevance_score")
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_stream_ends_with_the_same_scores(cascade, address):
    body = {"query": QUERY, "documents": TEXTS, "stream": True}
    *rows, last = map(json.loads, requests.post(f"{address}/v1/rerank", json=body, timeout=600).text.splitlines())
    found = {row["index"]: row["relevance_score"] for row in rows}
    np.testing.assert_allclose([found[i] for i in range(len(TEXTS))], cascade[0].score(QUERY, TEXTS), atol=1e-4)
    assert last["documents"] == len(TEXTS)
    assert last["model"] == "careful"
    assert requests.post(f"{address}/v1/rerank", json={**body, "documents": []}, timeout=600).ok


def test_slices_of_the_first_list_change_nothing(cascade, monkeypatch):
    """A long list is scored in slices, beside others; what is corrected is the whole list all the same."""
    texts = [f"{text} {number}" for number in range(30) for text in TEXTS]
    engine, sizes = open_engine(str(cascade[1]), None, memory_bytes=MEMORY), []
    score = engine.score
    monkeypatch.setattr(engine, "score", lambda jobs: sizes.extend(len(job.documents) for job in jobs) or score(jobs))
    with live(engine, limits=Limits(collect_ms=0, timeout_s=600, latency_ms=1, cache_bytes=0)) as (address, _):
        answer = requests.post(f"{address}/v1/rerank", json={"query": QUERY, "documents": texts}, timeout=600).json()
    assert len(sizes) > 3
    assert sizes[-1] == DEPTH
    expected = cascade[0].score(QUERY, texts)
    np.testing.assert_allclose(in_order(answer["results"]), expected, atol=1e-4)


def test_the_second_ranker_is_no_name_that_a_client_can_give(cascade, address):
    for model in (SECOND, f"careful:{SECOND}", "second", "tuned", "careful:tuned"):
        body = {"model": model, "query": QUERY, "documents": TEXTS}
        answer = requests.post(f"{address}/v1/rerank", json=body, timeout=600)
        assert answer.status_code == 404, answer.text
    listed = requests.get(f"{address}/v1/models", timeout=600).json()["data"]
    assert [row["id"] for row in listed] == ["careful"]
    assert requests.get(f"{address}/metrics", timeout=600).ok


def test_what_one_tenant_asked_another_pays_for_again(cascade):
    """Scores of the base, and so of both rankers, are known to the tenant that has asked for them alone."""
    engine = open_engine(str(cascade[1]), None, memory_bytes=MEMORY)
    with live(engine, keys=tenant_keys(), limits=PATIENT) as (address, _):

        def tokens(key):
            body = {"model": "careful", "query": QUERY, "documents": TEXTS}
            answer = requests.post(f"{address}/v1/rerank", json=body, headers=bearer(key), timeout=600)
            return answer.json()["usage"]["total_tokens"]

        first = tokens("acme")
        assert first > 0
        assert tokens("acme") == 0
        assert tokens("globex") == first


def ask_calibrated(run, folder, threshold, more):
    """Return the answer of the cascade with a calibration of its own."""
    calibrated = folder / "calibrated"
    shutil.copytree(run, calibrated, dirs_exist_ok=True)
    card = calibrated / "model" / "lorank.json"
    certified = {"score": threshold, "target": 0.9, "confidence": 0.95, "unit": "best"}
    calibration = {"kind": "platt", "slope": 0.7, "intercept": -0.2, "thresholds": [certified]}
    card.write_text(json.dumps({**json.loads(card.read_text()), "calibration": calibration}))
    with live(open_engine(str(calibrated), None, memory_bytes=MEMORY), limits=PATIENT) as (address, _):
        body = {"query": QUERY, "documents": TEXTS, **more}
        return requests.post(f"{address}/v1/rerank", json=body, timeout=600)


def test_thresholds_and_probabilities_are_of_the_final_scores(cascade, tmp_path):
    ranker, run = cascade
    scores = ranker.score(QUERY, TEXTS)
    threshold = float(np.median(scores))
    answer = ask_calibrated(run, tmp_path, threshold, {})
    np.testing.assert_allclose(in_order(answer.json()["results"]), 1 / (1 + np.exp(0.2 - 0.7 * scores)), atol=1e-4)
    assert answer.headers["X-Score-Scale"] == "probability"
    above = ask_calibrated(run, tmp_path, threshold, {"above_threshold": True}).json()["results"]
    assert sorted(row["index"] for row in above) == np.flatnonzero(scores >= threshold).tolist()
    assert 0 < len(above) < len(TEXTS)


def test_without_a_certified_threshold_it_is_refused_before_any_work(address):
    body = {"query": "a new question", "documents": TEXTS, "above_threshold": True}
    answer = requests.post(f"{address}/v1/rerank", json=body, timeout=600)
    assert answer.status_code == 400
    assert answer.json()["error_type"] == "no_threshold"


def test_what_a_tuned_ranker_does_not_take_is_said(cascade, tmp_path):
    run = str(cascade[1])
    beside = {"max_length": 9, "kind": "bi-encoder", "path": "torch-int8", "merged_share": 0.9, "label": "0"}
    for more in ({"options": {"pooling": "cls"}}, *({name: value} for name, value in beside.items())):
        with pytest.raises(UsageError, match="is a tuned ranker.*leave out"):
            open_engine(run, None, **more, memory_bytes=MEMORY)
    with pytest.raises(UsageError, match="to serve it beside others give --base the model"):
        open_engine(run, str(tmp_path), memory_bytes=MEMORY)
    card = next(cascade[1].rglob("second_stage/lorank.json"))
    broken = tmp_path / "broken"
    shutil.copytree(cascade[1], broken)
    (broken / card.relative_to(cascade[1])).unlink()
    with pytest.raises(LorankError, match="second_stage"):
        open_engine(str(broken), None, memory_bytes=MEMORY)


def make_single(kind, base, folder):
    """Return a ranker of a kind with random updates, on BM25; "titled" reads passages with their titles."""
    if kind == "causal":
        ranker = CausalRanker(write_reranker(folder / "Qwen3-Reranker-0.6B", "qwen3"), chat="off")
    elif kind == "cross-encoder":
        return make_cascade(base, adapted=True).second_stage.ranker
    else:
        long = {"long": "titled", "passage_length": 16, "title_weight": 0.4} if kind == "titled" else {}
        ranker = BiEncoder(base, max_length=24, **long)
    adapter = lowrank.attach(ranker.module, "lora", rank=2, seed=1)
    shake(adapter.named_parameters(), 2)
    stage = FirstStage("bm25", (Component("bm25"),), BM25Statistics.of(TEXTS))
    return TunedRanker(ranker, adapter, stage, Mix(1.0, 0.7, spread=0.5))


@pytest.fixture(params=["bi-encoder", "titled", "cross-encoder", "causal"])
def single(request, tiny_folders, tmp_path):
    """A tuned ranker with an adapter, as it is opened from its folder, and that folder."""
    make_single(request.param, tiny_folders["bert"], tmp_path).save(tmp_path / "store" / "one")
    return TunedRanker.load(tmp_path / "store" / "one"), tmp_path / "store" / "one"


def test_one_ranker_is_served_as_its_folder_says(single):
    """Its reading, first stage, mix and base come from the folder; a merged copy takes over after some traffic."""
    ranker, folder = single
    engine = open_engine(str(folder), None, memory_bytes=MEMORY)
    texts = TEXTS * 20
    expected = ranker.score(QUERY, texts)
    for _ in range(6):
        (found,) = engine.score([Job(None, QUERY, texts)])
        np.testing.assert_allclose(found.scores, expected, atol=1e-4)
    assert engine.first.merged is not None
    assert isinstance(engine.score([Job("tuned", QUERY, TEXTS)])[0], LorankError)
    engine.close()


def test_one_ranker_s_calibration_and_what_is_missing(single):
    _, folder = single
    card = folder / "lorank.json"
    card.write_text(
        json.dumps({**json.loads(card.read_text()), "calibration": {"kind": "platt", "slope": 0.7, "intercept": -0.2}})
    )
    engine = open_engine(str(folder), None, memory_bytes=MEMORY)
    (found,) = engine.score([Job(None, QUERY, TEXTS)])
    engine.close()
    np.testing.assert_allclose(found.probabilities, TunedRanker.load(folder).score(QUERY, TEXTS), atol=1e-4)
    shutil.rmtree(folder / "first_stage")
    with pytest.raises(DataError, match="manifest|missing"):
        open_engine(str(folder), None, memory_bytes=MEMORY)


def test_a_ranker_that_orders_by_what_it_writes_is_refused(single):
    """A server would answer with the model's scores, which are another order than that of `lorank rank`."""
    _, folder = single
    card = folder / "lorank.json"
    card.write_text(json.dumps({**json.loads(card.read_text()), "policy": {"question": "setwise"}}))
    with pytest.raises(LorankError, match="by the replies that it writes"):
        open_engine(str(folder), None, memory_bytes=MEMORY)
    store, about = str(folder.parent), json.loads(card.read_text())
    engine = open_engine(about["base"], store, kind=about["kind"], memory_bytes=MEMORY)
    assert "by the replies that it writes" in str(engine.score([Job("one", QUERY, TEXTS)])[0])
    engine.close()


def test_among_adapters_it_is_refused_with_what_to_do(cascade, tiny_folders, tmp_path):
    ranker, run = cascade
    shutil.copytree(run, tmp_path / "store" / "careful")
    engine = open_engine(str(tiny_folders["bert"]), str(tmp_path / "store"), kind="bi-encoder", memory_bytes=MEMORY)
    (refused,) = engine.score([Job("careful", QUERY, TEXTS)])
    engine.close()
    assert isinstance(refused, LorankError)
    assert ranker.adapter is None or "serve it by itself with --base" in str(refused)


def test_the_command_serves_it(cascade, tmp_path):
    command = [
        str(Path(sys.executable).with_name("lorank")),
        "serve",
        "--base",
        str(cascade[1]),
        "--port",
        "0",
        "--dtype",
        "float32",
    ]
    with (tmp_path / "log").open("wb") as log:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment)
    try:
        address = process.stdout.readline().strip()
        body = {"query": QUERY, "documents": TEXTS}
        answer = requests.post(f"{address}/v1/rerank", json=body, timeout=600).json()
        np.testing.assert_allclose(in_order(answer["results"]), cascade[0].score(QUERY, TEXTS), atol=1e-3)
    finally:
        process.terminate()
        assert process.wait(120) == 0
        process.stdout.close()
