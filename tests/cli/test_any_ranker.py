"""`--ranker` takes any ranker, tuned or not, wherever it stands: the commands run over one of each kind."""

import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from lorank import lowrank
from lorank.cli.app import app
from lorank.data import read_run, write_beir, write_run
from lorank.errors import UsageError
from lorank.ranking.scorers import BiEncoder, CausalRanker, CrossEncoder
from lorank.ranking.scorers.bm25 import BM25Statistics
from lorank.tuned.mix import Mix
from lorank.tuned.open_ranker import open_ranker
from lorank.tuned.ranker import TunedRanker
from lorank.tuned.reading import ReadingSettings, settings_of_kind

QUERY = "sorting words"


@pytest.fixture(scope="module")
def place(texts, tmp_path_factory):
    """A BEIR folder and a run of it."""
    here = tmp_path_factory.mktemp("any")
    write_beir(texts, here / "beir")
    write_run({q: {f"d{i}": 40.0 - i for i in range(20)} for q in texts.test.queries}, here / "first.run")
    (here / "texts.txt").write_text("sorting a list\nthe moon\nwords of a list\n")
    return here


def perturbed(adapter):
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.normal_(0.0, 0.2, generator=torch.Generator().manual_seed(3))
    return adapter


@pytest.fixture(scope="module")
def rankers(tiny_folders, tiny_causals, tmp_path_factory):
    """The name of one ranker of each kind."""
    here = tmp_path_factory.mktemp("rankers")
    encoder = BiEncoder(tiny_folders["bert"])
    encoder.save(here / "encoder")
    (here / "encoder" / "lorank.json").unlink()  # as sentence-transformers leaves it
    CrossEncoder(tiny_folders["bert"], head="random", max_length=40).save(here / "cross")
    (here / "cross" / "lorank.json").unlink()
    CrossEncoder(tiny_folders["bert"], head="random", max_length=40).save(here / "saved")
    cross = CrossEncoder(tiny_folders["bert"], max_length=40)
    adapter = perturbed(lowrank.attach(cross.module, "lora", rank=2, trained=["classifier"], seed=0))
    TunedRanker(cross, adapter, mix=Mix(0.0, 1.0, [(1.0, 0.5)])).save(here / "run" / "model")
    adapter.export(here / "peft", "peft", base_name=str(tiny_folders["bert"]), task_type="SEQ_CLS")
    return {
        "encoder": str(here / "encoder"),
        "cross": str(here / "cross"),
        "saved": str(here / "saved"),
        "tuned": str(here / "run"),
        "peft": str(here / "peft"),
        "causal": str(tiny_causals["llama"]),
        "judge": f"causal:{tiny_causals['llama']}",
        "bm25": "bm25",
    }


KINDS = ("encoder", "cross", "saved", "tuned", "peft", "causal", "judge", "bm25")


def invoke(*arguments):
    done = CliRunner().invoke(app, [*map(str, arguments)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("kind", KINDS)
def test_rank(place, rankers, kind):
    rows = invoke("rank", "--ranker", rankers[kind], "--query", QUERY, "--documents", place / "texts.txt").splitlines()
    found = [json.loads(row) for row in rows]
    assert sorted(row["index"] for row in found) == [0, 1, 2]
    assert [row["score"] for row in found] == sorted((row["score"] for row in found), reverse=True)


@pytest.mark.parametrize("kind", KINDS)
def test_rerank_and_depth(place, rankers, kind, tmp_path):
    common = ["--data", place / "beir", "--run", place / "first.run", "--ranker", rankers[kind]]
    asked = ["--strategy", "pointwise"] if kind == "judge" else []  # a random model answers no question about lists
    invoke("rerank", *common, *asked, "--out", tmp_path / "new.run", "--depth", 8)
    first, new = read_run(place / "first.run"), read_run(tmp_path / "new.run")
    assert {q: set(row) for q, row in new.items()} == {q: set(row) for q, row in first.items()}
    study = json.loads(invoke("depth", *common, "--depths", "4,8", "--json"))
    assert [point["depth"] for point in study["studies"][0]["points"]] == [4, 8]


def test_evaluate_takes_several_rankers_beside_runs(place, rankers):
    names = [rankers[kind] for kind in ("bm25", "encoder", "tuned", "peft")]
    options = [part for name in names for part in ("--ranker", name)]
    said = json.loads(
        invoke("evaluate", "--data", place / "beir", "--run", place / "first.run", *options, "--depth", 10, "--json")
    )
    assert list(said["systems"]) == ["first", *names]
    alone = json.loads(invoke("evaluate", "--data", place / "beir", "--ranker", "bm25", "--json"))
    assert list(alone["systems"]) == ["bm25"]


def test_retrieve_takes_what_can_search_and_says_what_cannot(place, rankers, tmp_path):
    for kind in ("bm25", "encoder"):
        invoke("retrieve", "--data", place / "beir", "--ranker", rankers[kind], "--out", tmp_path / f"{kind}.run")
        assert read_run(tmp_path / f"{kind}.run")
    with pytest.raises(UsageError, match="cannot search a whole collection"):
        invoke("retrieve", "--data", place / "beir", "--ranker", rankers["cross"], "--out", tmp_path / "x.run")


def test_a_strategy_asks_any_ranker(place, rankers, tmp_path):
    for kind in ("bm25", "encoder", "judge"):
        common = ["--data", place / "beir", "--run", place / "first.run", "--ranker", rankers[kind], "--depth", 4]
        invoke("rerank", *common, "--strategy", "full", "--out", tmp_path / f"{kind}.run", "--accept-malformed")


def test_bm25_takes_the_statistics_of_the_collection(place, texts, tmp_path):
    invoke(
        "rerank", "--data", place / "beir", "--run", place / "first.run", "--ranker", "bm25", "--out", tmp_path / "b"
    )
    statistics = BM25Statistics.of([str(text) for text in texts.documents])
    for query, row in read_run(tmp_path / "b").items():
        documents = [texts.documents[texts.position[name]] for name in row]
        pairs = np.array([(0, i) for i in range(len(row))])
        expected = statistics.score_pairs([texts.test.queries[query]], documents, pairs)
        np.testing.assert_allclose(list(row.values()), expected, rtol=1e-4, atol=1e-5)


def test_a_peft_folder_scores_as_its_own_base_with_its_adapter(rankers):
    documents = ["sorting a list", "the moon"]
    tuned, peft = open_ranker(rankers["tuned"]), open_ranker(rankers["peft"], reading=ReadingSettings(max_length=40))
    np.testing.assert_allclose(peft.score(QUERY, documents), tuned.score(QUERY, documents), rtol=0.02, atol=0.05)


def test_how_a_ranker_reads_is_set_by_name(tiny_folders, tiny_causals, rankers):
    documents = ["sorting a list", "the moon " * 60, "words"]
    reading = ReadingSettings(
        max_length=24,
        pooling="max",
        similarity="dot",
        temperature=0.5,
        query_prefix="query: ",
        long="mean",
        dtype="float32",
    )
    made = BiEncoder(rankers["encoder"], **reading.as_options())
    opened = open_ranker(rankers["encoder"], reading=reading)
    np.testing.assert_allclose(opened.score(QUERY, documents), made.score(QUERY, documents), rtol=1e-4, atol=1e-4)
    with pytest.raises(
        UsageError, match=r"reading.pooling: a ranker of kind cross-encoder does not take it; it takes: max"
    ):
        open_ranker(rankers["cross"], reading=ReadingSettings(pooling="mean"))
    with pytest.raises(UsageError, match="trained and saved with its own; train again"):
        open_ranker(rankers["tuned"], reading=ReadingSettings(query_prefix="x"))
    with pytest.raises(UsageError, match=r"max_length=9999 must be from 8 to"):
        open_ranker(rankers["tuned"], reading=ReadingSettings(max_length=9999))
    with pytest.raises(UsageError, match="bm25 reads whole texts"):
        open_ranker("bm25", reading=ReadingSettings(max_length=9))
    assert {"prompt", "answers", "family", "long"} <= set(settings_of_kind("causal"))


@pytest.mark.parametrize("kind", ["encoder", "cross", "tuned", "causal"])
def test_passages_of_long_documents_count(rankers, kind, tiny_causals):
    """The best and the mean of a document's passages; of a document that fits, neither moves the score."""
    whole = "of the moon and the earth, " * 30 + "sorting words in a list"
    made = {
        long: open_ranker(rankers[kind], reading=ReadingSettings(long=long, dtype="float32"))
        for long in ("truncate", "max", "mean")
    }
    scores = {long: ranker.score(QUERY, ["a list", whole]) for long, ranker in made.items()}
    for long in ("max", "mean"):
        assert scores[long][0] == pytest.approx(scores["truncate"][0], rel=1e-3, abs=1e-3)
    assert scores["max"][1] >= scores["mean"][1] - 1e-4
    assert scores["max"][1] >= scores["truncate"][1] - 1e-3  # the first passage is one of them


def test_causal_passages_are_those_of_separate_documents(tiny_causals):
    """The best passage's score is the largest score of the passages given apart."""
    ranker = CausalRanker(tiny_causals["llama"], long="max", dtype="float32")
    ranker.read_with(max_length=ranker.template.cost + 24, overlap=4)
    whole = "the moon and the earth and the sun and the words in a list " * 6
    scores = ranker.score("q", [whole])
    ranker.read_with(long="truncate")
    assert scores[0] >= ranker.score("q", [whole])[0] - 1e-3


def test_wrong_reading_settings_are_told_before_anything_is_opened(place):
    for option, says in (
        (["--set", "reading.poling=mean"], "did you mean 'pooling'"),
        (["--set", "training.lr=1"], "has the section reading alone"),
        (["--long", "maxx"], "did you mean 'max'"),
    ):
        with pytest.raises(UsageError, match=says):
            invoke("rank", "--ranker", "minilm", "--query", "q", "--documents", place / "texts.txt", *option)


def test_truncation_is_counted_and_printed(place, rankers, tmp_path):
    (tmp_path / "long.txt").write_text("the moon and the earth " * 90 + "\nshort\n")
    command = ["rank", "--ranker", rankers["encoder"], "--query", "q", "--documents", str(tmp_path / "long.txt")]
    cut = CliRunner().invoke(app, command)
    assert "1 of 2 documents have more than" in cut.stderr
    assert "--long max" in cut.stderr
    for more in (["--long", "max"], ["--quiet"]):
        assert "documents have more than" not in CliRunner().invoke(app, [*command, *more]).stderr
