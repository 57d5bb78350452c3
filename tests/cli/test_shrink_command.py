"""`lorank shrink`: every ranker that a command opens can be shrunk, and every command opens what it wrote."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from lorank import lowrank
from lorank.cli.app import app
from lorank.data import write_beir, write_run
from lorank.errors import LorankError, UsageError
from lorank.lowrank.shrink import SHRINKERS
from lorank.ranking.scorers import BiEncoder, CrossEncoder
from lorank.tuned.mix import Mix
from lorank.tuned.open_ranker import open_ranker
from lorank.tuned.ranker import TunedRanker
from lorank.tuned.shrinking import CalibrationPairs


@pytest.fixture(scope="module")
def place(texts, tiny_folders, tmp_path_factory):
    """A BEIR folder, a run of it, a bi-encoder, and a tuned cross-encoder with an adapter and a head."""
    here = tmp_path_factory.mktemp("shrink")
    write_beir(texts, here / "beir")
    write_run({q: {f"d{i}": float(i) for i in range(20)} for q in texts.test.queries}, here / "test.run")
    BiEncoder(tiny_folders["bert"]).save(here / "encoder")
    ranker = CrossEncoder(tiny_folders["bert"], max_length=40)
    adapter = lowrank.attach(ranker.module, "lora", rank=2, trained=["classifier"], seed=0)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.normal_(0.0, 0.2, generator=torch.Generator().manual_seed(3))
    TunedRanker(ranker, adapter, mix=Mix(0.0, 2.0, [(0.0, 0.25)])).save(here / "tuned")
    return here


def run(*words, code=0):
    done = CliRunner().invoke(app, [*map(str, words)], catch_exceptions=True)
    if code:
        return done
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout


def shrink(place, out, name="encoder", *words, **options):
    return run("shrink", place / name, "--data", place / "beir", "--out", out, "--queries", 4, *words, **options)


@pytest.mark.parametrize("method", sorted(SHRINKERS))
def test_every_method_works_at_its_own_defaults(method, place, tmp_path):
    text = shrink(place, tmp_path / "small", "encoder", "--method", method)
    for part in (f"{method}, ranks", "Kendall's tau", "flipped by B", "pairs per second"):
        assert part in text
    report = json.loads((tmp_path / "small" / "shrink.json").read_text())
    stated = json.loads((tmp_path / "small" / "agreement.json").read_text())
    assert report["bytes"][1] < 0.51 * report["bytes"][0] or method == "zeroquant-fp"
    assert stated["a"] == str(place / "encoder")
    first, second = (
        open_ranker(name).score("sorting a list", ["a list", "x"]) for name in (place / "encoder", tmp_path / "small")
    )
    assert np.abs(first - second).max() > 0


def test_a_tuned_ranker_is_merged_and_keeps_its_mix(place, tmp_path):
    shrink(place, tmp_path / "whole", "tuned", "--ratio", 1)
    shrink(place, tmp_path / "small", "tuned", "--ratio", 0.5)
    before, whole, small = (TunedRanker.load(p) for p in (place / "tuned", tmp_path / "whole", tmp_path / "small"))
    texts = ["a list", "the moon orbits", "words of a list"]
    np.testing.assert_allclose(before.score("sorting", texts), whole.score("sorting", texts), atol=1e-5)
    assert small.mix.weight == pytest.approx(2.0)
    assert small.adapter is None
    sizes = [sum(p.numel() for p in each.ranker.module.parameters()) for each in (whole, small)]
    assert sizes[1] < sizes[0]


def test_every_command_opens_what_was_written(place, tmp_path):
    small = tmp_path / "small"
    shrink(place, small, "tuned", "--method", "lord", "--ranks", "order", "--calibration-queries", 4)
    beir = place / "beir"
    run("rerank", "--ranker", small, "--data", beir, "--run", place / "test.run", "--out", tmp_path / "out.run")
    run("evaluate", "--data", beir, "--run", tmp_path / "out.run")
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "a list"}\n{"text": "the moon"}\n')
    assert run("rank", "--ranker", small, "--query", "moon", "--documents", rows).count("score") == 2
    found = json.loads(run("agree", small, small, "--data", beir, "--json", "--out", tmp_path / "agreement.json"))
    assert found["tau"]["mean"] == pytest.approx(1.0)
    assert json.loads((tmp_path / "agreement.json").read_text()) == found
    assert open_ranker(small).ranker.kind == "cross-encoder"


@pytest.mark.parametrize(
    ("words", "error", "match"),
    [
        (["--ratio", 0.01], UsageError, "below one rank"),
        (["--method", "eorra"], UsageError, "--method.*did you mean 'eora'"),
        (["--ranks", "ordr"], UsageError, "--ranks.*did you mean 'order'"),
        (["--rank", 400], UsageError, "above min"),
        (["--option", "rounds=2"], UsageError, "unknown option"),
        (["--calibration-split", "nights"], UsageError, "no 'nights' split"),
        (["--exclude", "nothing", "--method", "als", "--option", "round=2"], UsageError, "known: rounds"),
    ],
)
def test_what_cannot_work_is_refused_and_nothing_is_written(words, error, match, place, tmp_path):
    done = shrink(place, tmp_path / "small", "encoder", *words, code=1)
    assert isinstance(done.exception, error)
    assert re.search(match, str(done.exception))
    assert not list(tmp_path.iterdir())


def test_a_folder_that_exists_is_left_alone(place, tmp_path):
    (tmp_path / "small").mkdir()
    done = shrink(place, tmp_path / "small", code=1)
    assert isinstance(done.exception, LorankError)
    assert "exists" in str(done.exception)
    assert not list((tmp_path / "small").iterdir())


def test_empty_texts_and_rankers_without_a_transformer_are_refused(place, texts, tmp_path):
    done = run("shrink", "bm25", "--data", place / "beir", "--out", tmp_path / "small", code=1)
    assert "no linear layers" in str(done.exception)
    assert not list(tmp_path.iterdir())
    blank = replace(texts, documents=[" "] * len(texts.documents))
    with pytest.raises(UsageError, match="calibration texts are empty"):
        CalibrationPairs.of(blank, {"q": "moon"}, {"q": {"d0": 1.0, "d1": 0.5}}, 2)
    with pytest.raises(UsageError, match="calibration texts are empty"):
        CalibrationPairs.of(texts, {"q": ""}, {"q": {"d0": 1.0, "d1": 0.5}}, 2)
