"""The main job in half a minute, for installations that the whole suite does not run on: the oldest allowed versions, a
new Python. `make test-oldest` runs this file."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, RobertaConfig

import lorank
from lorank import lowrank
from lorank.ranking import Oracle, aggregate, loss, rerank
from lorank.training import Recipe, load_ranker, rerank_run
from lorank.training.settings import ListSettings, OptimizerSettings
from tiny_encoders import DOCUMENTS, QUERY, SIZES, modernbert_tokenizer

ROOT = Path(__file__).resolve().parent.parent
TWO_STEPS = Recipe(
    training=OptimizerSettings(steps=2, batch_size=2, lr=1e-3, evaluations=1), lists=ListSettings(negatives=2, depth=10)
)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A tiny encoder whose tokenizer is made alike in every version of transformers."""
    folder, tokenizer = tmp_path_factory.mktemp("base"), modernbert_tokenizer()
    tokenizer.model_max_length = 78
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = AutoModel.from_config(RobertaConfig(vocab_size=400, type_vocab_size=1, pad_token_id=1, **SIZES))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def command(*arguments):
    done = subprocess.run(
        [sys.executable, "-m", "lorank", *map(str, arguments)],
        env=os.environ | {"COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", ["train", "rerank", "rank", "evaluate", "retrieve", "serve", "adapter", "aggregate"])
def test_the_commands_explain_themselves(name):
    assert "--" in command(name, "--help")


def test_the_command_is_reached_through_python_and_says_its_methods():
    assert "learn to rank" in command("--help").lower()
    assert {"lora", "bordalora"} & {row["id"] for row in json.loads(command("methods", "--json"))}


@pytest.mark.parametrize("kind", [lorank.BiEncoder, lorank.CrossEncoder])
def test_texts_are_scored(base, kind):
    scores = kind(base).score(QUERY, DOCUMENTS)
    assert scores.shape == (len(DOCUMENTS),)
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("kind", [lorank.BiEncoder, lorank.CrossEncoder])
def test_two_steps_of_training_are_saved_opened_and_judged(kind, texts, base, tmp_path):
    ranker = kind(base)
    tuned = lorank.fit(ranker, texts, adapter="lora", rank=2, out=tmp_path / "run", recipe=TWO_STEPS)
    again = load_ranker(tmp_path / "run")
    np.testing.assert_allclose(again.score(QUERY, DOCUMENTS), tuned.score(QUERY, DOCUMENTS), atol=1e-5)
    run = rerank_run(
        tuned, texts, texts.test.queries, {q: dict.fromkeys(texts.document_ids, 0.0) for q in texts.test.queries}
    )
    judged = lorank.evaluate({"tuned": run}, texts.test.qrels, measures=["nDCG@10", "RR@10"])
    assert 0 <= judged.systems["tuned"].mean["nDCG@10"] <= 1


def test_an_adapter_is_attached_merged_and_exported(base, tmp_path):
    ranker = lorank.CrossEncoder(base)
    adapter = lowrank.attach(ranker.module, "dora", rank=2, seed=0)
    before = ranker.score(QUERY, DOCUMENTS)
    adapter.merge()
    np.testing.assert_allclose(ranker.score(QUERY, DOCUMENTS), before, atol=1e-4)
    adapter.unmerge()
    adapter.save(tmp_path / "adapter")
    assert (tmp_path / "adapter").is_dir()


def test_lists_are_reranked_aggregated_and_lost():
    assert rerank("q", ["a", "b", "c"], Oracle([0, 2, 1]), "setwise").order == (1, 2, 0)
    assert aggregate([["a", "b"], ["a", "b"], ["b", "a"]], "borda").order == ("a", "b")
    assert float(loss("softmax")(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]))) == pytest.approx(np.log(2))


def test_bm25_finds_the_document():
    bm25 = lorank.BM25.index(["d1", "d2", "d3"], ["red fox", "blue fox", "whale"])
    assert list(bm25.search({"q": "whales"}, top=2)["q"]) == ["d3"]


def test_a_server_answers(base, tmp_path):
    pytest.importorskip("fastapi")
    import requests

    from tiny_store import make_store, serving

    rankers = make_store(base, tmp_path / "adapters")
    with serving(base, tmp_path / "adapters", tmp_path / "log.txt") as process:
        body = {"model": "acme", "query": QUERY, "documents": DOCUMENTS, "raw_scores": True}
        rows = requests.post(f"{process.address}/v1/rerank", json=body, timeout=60).json()["results"]
    found = {row["index"]: row["relevance_score"] for row in rows}
    expected = rankers["acme"].score(QUERY, DOCUMENTS)
    assert [found[i] for i in range(len(DOCUMENTS))] == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_the_oldest_versions_are_the_bounds_of_the_package():
    pinned = dict(
        line.lower().split("==")
        for line in (ROOT / "constraints-oldest.txt").read_text().splitlines()
        if line and not line.startswith("#")
    )
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    bounds = {
        name.lower(): version
        for text in [*project["dependencies"], *project["optional-dependencies"]["serve"]]
        for name, version in [text.split(">=")]
    }
    del pinned["torch"], bounds["torch"]  # 2.13 is the oldest that is tested
    assert pinned == bounds
