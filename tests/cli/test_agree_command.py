"""`lorank agree`: runs, rankers, scoring paths, and what is refused before any work."""

import json

import pytest
from typer.testing import CliRunner

from lorank.cli.app import app
from lorank.data import write_beir, write_run
from lorank.errors import UsageError
from lorank.ranking.scorers import BiEncoder, CrossEncoder


@pytest.fixture(scope="module")
def place(texts, tiny_folders, tmp_path_factory):
    """A BEIR folder, two runs of it, a bi-encoder and a cross-encoder."""
    here = tmp_path_factory.mktemp("agree")
    write_beir(texts, here / "beir")
    for name, sign in (("one.run", 1.0), ("other.run", -1.0)):
        write_run({q: {f"d{i}": sign * i for i in range(20)} for q in texts.test.queries}, here / name)
    BiEncoder(tiny_folders["bert"]).save(here / "encoder")
    CrossEncoder(tiny_folders["bert"], head="random", max_length=40).save(here / "cross")
    return here


def agree(*words, code=0):
    done = CliRunner().invoke(app, ["agree", *map(str, words)], catch_exceptions=True)
    if code:
        return done
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout


def test_a_ranker_agrees_with_itself_and_two_number_formats_nearly_do(place):
    found = json.loads(agree(place / "encoder", place / "encoder", "--data", place / "beir", "--json"))
    assert found["tau"]["mean"] == pytest.approx(1)
    assert found["largest_move"] is None
    assert found["measures"]["nDCG@10"]["difference"]["mean"] == pytest.approx(0)
    assert {"pairs_per_second", "weights", "bytes"} == set(found["costs"][0])
    assert found["costs"][0]["bytes"] == 4 * found["costs"][0]["weights"]
    half = ["--set-a", "reading.dtype=float32", "--set-b", "reading.dtype=bfloat16"]
    found = json.loads(agree(place / "encoder", place / "encoder", "--data", place / "beir", "--json", *half))
    assert 0.8 < found["tau"]["mean"] <= 1.0


def test_a_cross_encoder_on_two_paths_is_compared_and_its_weights_are_not_told_for_another_runtime(place):
    line = [place / "cross", place / "cross", "--data", place / "beir", "--path-b", "torch-float32", "--json"]
    found = json.loads(agree(*line))
    assert found["tau"]["mean"] > 0.9
    assert found["costs"][0]["weights"] > 0
    assert found["costs"][1]["weights"] is None


def test_different_rankers_and_the_table_for_people(place):
    text = agree(place / "cross", "bm25", "--data", place / "beir", "--queries", 3)
    for part in ("Kendall's tau", "overlap of the first 10", "flipped by B", "nDCG@10", "pairs per second"):
        assert part in text
    assert "The largest move, from place" in text


def test_runs_are_compared_with_and_without_judgments(place):
    found = json.loads(agree(place / "one.run", place / "other.run", "--json"))
    assert found["tau"]["mean"] == pytest.approx(-1)
    assert found["measures"] == {}
    found = json.loads(agree(place / "one.run", place / "other.run", "--data", place / "beir", "--json"))
    assert set(found["measures"]) == {"nDCG@10"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["one.run", "bm25"], "one is a file and the other none"),
        (["one.run", "other.run", "--path-b", "torch-int8"], "--path-b: run files are already scored"),
        (["bm25", "minilmm", "--data", "pydocs"], "minilmm"),
        (["bm25", "minilm"], "give --data"),
        (["bm25", "minilm", "--data", "pydcs"], "pydocs"),
        (["bm25", "minilm", "--data", "pydocs", "--path-b", "torch-int9"], "torch-int8"),
        (["bm25", "bm25", "--data", "pydocs", "--measures", "nDGC@10"], "nDCG"),
    ],
)
def test_what_cannot_be_is_said_before_any_work(place, words, message):
    done = agree(*(place / word if word.endswith(".run") else word for word in words), code=2)
    assert isinstance(done.exception, UsageError)
    assert message in str(done.exception)
