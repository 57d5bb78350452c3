"""A tuned ranker that stands on a first stage, shrunk: every command and a real server give the scores it has."""

import json
import shutil

import numpy as np
import pytest
import requests
from typer.testing import CliRunner

from lorank.cli.app import app
from lorank.data import read_run, write_beir
from lorank.errors import DataError
from lorank.serving.requests.engine import Job
from lorank.serving.start import open_engine
from lorank.tuned.open_ranker import open_ranker
from lorank.tuned.ranker import TunedRanker
from tiny_store import serving

TEXTS = ["a list of words", "the moon orbits the earth", "sorting a list", "x"]
QUERY = "sorting the moon"


def run(*words, code=0):
    done = CliRunner().invoke(app, [*map(str, words)], catch_exceptions=True)
    assert (done.exit_code == 0) == (code == 0), (done.output, done.exception)
    return done.stdout


@pytest.fixture(scope="module")
def place(texts, tiny_folders, tmp_path_factory):
    """A BEIR folder, runs of a bi- and a cross-encoder trained on BM25, and both shrunk at the defaults."""
    here = tmp_path_factory.mktemp("shrunk-first-stage")
    write_beir(texts, here / "beir")
    for kind in ("bi-encoder", "cross-encoder"):
        words = ("--base", tiny_folders["bert"], "--kind", kind, "--steps", 3, "--batch-size", 4, "--negatives", 3)
        keep = ("--first-stage", "bm25", "--set", "keep=tuned", "--set", "judge_test=false", "--max-length", 40)
        run("train", "--data", here / "beir", *words, *keep, "--out", here / kind)
        mix_in_first_stage(here / kind / "model" / "lorank.json")
        run("shrink", here / kind, "--data", here / "beir", "--out", here / f"small-{kind}")
    return here


def mix_in_first_stage(card):
    """Dev of so few queries may choose the learned score alone: let the mix hold both in equal parts."""
    about = json.loads(card.read_text())
    about["mix"] = {"first_stage": 1.0, "weight": 1.0, "spread": 0.5, "curve": [[1.0, 0.5]]}
    card.write_text(json.dumps(about))


KINDS = pytest.mark.parametrize("kind", ["bi-encoder", "cross-encoder"])


@KINDS
def test_first_stage_and_mix_stay(place, kind):
    before, small = (TunedRanker.load(place / name) for name in (kind, f"small-{kind}"))
    assert small.mix == before.mix
    assert small.first_stage.components == before.first_stage.components
    learned, mixed = (each.score(QUERY, TEXTS) for each in (small.learned, small))
    assert np.abs(mixed - small.mix.factor * learned).max() > 0.1


@KINDS
def test_rank_and_rerank_give_its_mixed_scores(place, kind, tmp_path):
    small = place / f"small-{kind}"
    expected = TunedRanker.load(small).score(QUERY, TEXTS)
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    said = run("rank", "--ranker", small, "--query", QUERY, "--documents", rows)
    found = {row["index"]: row["score"] for row in map(json.loads, said.splitlines())}
    np.testing.assert_allclose([found[i] for i in range(len(TEXTS))], expected, atol=1e-5)
    run("retrieve", "--data", place / "beir", "--out", tmp_path / "bm25.run")
    words = ("--data", place / "beir", "--run", tmp_path / "bm25.run")
    run("rerank", "--ranker", small, *words, "--out", tmp_path / "out.run")
    reranked, first = read_run(tmp_path / "out.run"), read_run(tmp_path / "bm25.run")
    assert {q: set(row) for q, row in reranked.items()} == {q: set(row) for q, row in first.items()}
    run("evaluate", "--data", place / "beir", "--run", tmp_path / "out.run")


@KINDS
def test_agree_compares_it_with_its_original_on_the_mixed_scores(place, kind):
    words = ("--data", place / "beir", "--json")
    same = json.loads(run("agree", place / f"small-{kind}", place / f"small-{kind}", *words))
    found = json.loads(run("agree", place / kind, place / f"small-{kind}", *words))
    stated = json.loads((place / f"small-{kind}" / "agreement.json").read_text())
    assert same["tau"]["mean"] == pytest.approx(1.0)
    assert found["tau"]["mean"] == pytest.approx(stated["tau"]["mean"], abs=1e-6)


def in_float32(folder):
    """The ranker of a folder in the format that the servers here compute in."""
    tuned = open_ranker(str(folder))
    tuned.ranker.dtype = "float32"
    return tuned


@KINDS
def test_an_engine_gives_its_mixed_scores(place, kind):
    engine = open_engine(str(place / f"small-{kind}"), None, memory_bytes=1 << 22)
    (found,) = engine.score([Job(None, QUERY, TEXTS)])
    engine.close()
    np.testing.assert_allclose(found.scores, in_float32(place / f"small-{kind}").score(QUERY, TEXTS), rtol=1e-5)


@pytest.mark.slow
def test_a_server_gives_its_mixed_scores(place, tmp_path):
    small = place / "small-bi-encoder"
    (tmp_path / "store").mkdir()
    words = {"kind": "bi-encoder", "max_length": 40}
    with serving(small, tmp_path / "store", tmp_path / "log.txt", ["--allow-empty"], **words) as process:
        body = {"query": QUERY, "documents": TEXTS, "raw_scores": True}
        response = requests.post(process.address + "/v1/rerank", json=body, timeout=120)
        assert response.ok, response.text
    found = {row["index"]: row["relevance_score"] for row in response.json()["results"]}
    expected = in_float32(small).score(QUERY, TEXTS)
    np.testing.assert_allclose([found[i] for i in range(len(TEXTS))], expected, rtol=1e-5)


def test_a_calibrated_one_is_served_with_its_probabilities(place, tmp_path):
    small = tmp_path / "small"
    shutil.copytree(place / "small-bi-encoder", small)
    run("calibrate", small, "--data", place / "beir")
    engine = open_engine(str(small), None, memory_bytes=1 << 22)
    (found,) = engine.score([Job(None, QUERY, TEXTS)])
    engine.close()
    ranker = in_float32(small)
    np.testing.assert_allclose(found.scores, ranker.score(QUERY, TEXTS, raw=True), rtol=1e-5)
    np.testing.assert_allclose(found.probabilities, ranker.score(QUERY, TEXTS), atol=1e-4)


def test_it_is_not_served_without_the_first_stage_that_its_mix_adds(place, tmp_path):
    shutil.copytree(place / "small-bi-encoder", tmp_path / "small")
    shutil.rmtree(tmp_path / "small" / "model" / "first_stage")
    with pytest.raises(DataError, match="first stage's statistics and they are missing; copy the whole folder"):
        open_engine(str(tmp_path / "small"), None)
