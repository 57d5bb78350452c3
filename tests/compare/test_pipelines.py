"""Pipelines: what a setting does, how few evaluations a search takes, and the commands that tune and run them."""

import json
import shutil
import tomllib
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import lorank
from lorank.cli.app import app
from lorank.compare.pipelines import (
    Pipeline,
    ScoreJournal,
    Stages,
    open_journal,
    open_stages,
    read_pipeline,
    tune_pipeline,
    write_pipeline,
)
from lorank.compare.pipelines.pipeline_file import SearchPlan
from lorank.compare.pipelines.search import documents_scored
from lorank.data import read_run, write_beir
from lorank.data.collection import Collection, Split
from lorank.errors import DataError, UsageError
from lorank.ranking.consensus.fusion import standardise
from lorank.ranking.dense_index import DenseIndex
from lorank.ranking.metrics.measures import mean_of
from lorank.ranking.scorers import BiEncoder
from lorank.ranking.scorers.ranker import Ranker
from lorank.training.settings import FirstStageSettings, OptimizerSettings, Recipe


class SharedWords(Ranker):
    """A ranker that counts the words that a query and a document share, and how many pairs it was asked for."""

    def __init__(self) -> None:
        self.pairs = 0

    def score_pairs(self, queries, documents, pairs, on_progress=None):
        self.pairs += len(pairs)
        return np.array([len(set(queries[q].split()) & set(documents[d].split())) for q, d in pairs], np.float32)


def planted(queries: int, seed: int) -> tuple[Collection, dict[str, dict[str, dict[str, float]]]]:
    """A collection whose relevant documents share two words with their query, a fair engine and one of noise alone."""
    rng = np.random.default_rng(seed)
    documents, asked, qrels = {}, {}, {}
    runs: dict[str, dict[str, dict[str, float]]] = {"fair": {}, "noise": {}}
    for number in range(queries):
        query, own = f"q{number}", [f"d{number}-{i}" for i in range(40)]
        asked[query] = f"left{number} right{number}"
        for place, name in enumerate(own):
            documents[name] = f"left{number} " + (f"right{number}" if place < 2 else f"other{place}")
        qrels[query] = {own[0]: 1, own[1]: 1}
        gain = np.array([2.0 if place < 2 else 0.0 for place in range(40)])
        runs["fair"][query] = dict(zip(own, (gain + rng.normal(size=40)).tolist(), strict=True))
        runs["noise"][query] = dict(zip(own, rng.normal(size=40).tolist(), strict=True))
    split = Split("dev", asked, qrels)
    collection = Collection("planted", list(documents), list(documents.values()), {"dev": split})
    return collection, runs


def stages_of(collection: Collection, runs, ranker: Ranker | None = None) -> Stages:
    return Stages(collection, collection.dev.queries, runs, ranker)


def test_a_setting_is_what_its_formula_says() -> None:
    collection, runs = planted(1, 0)
    stages = stages_of(collection, runs, SharedWords())
    (query,) = collection.dev.queries
    setting = {"weight.noise": 0.5, "normalise": "z", "depth": 40, "top": 3, "mix": 0.25}
    row = stages.run(setting)[query]
    names = list(runs["fair"][query])
    z = {e: dict(zip(names, standardise(np.array([runs[e][query][d] for d in names])), strict=True)) for e in runs}
    fused = {d: z["fair"][d] + 0.5 * z["noise"][d] for d in names}
    order = sorted(names, key=lambda d: fused[d], reverse=True)
    head = order[:3]
    first = standardise(np.array([fused[d] for d in head]))
    words = {d: float("right" in collection.documents[collection.position[d]]) + 1.0 for d in head}
    learned = standardise(np.array([words[d] for d in head]))
    mixed = dict(zip(head, 0.75 * first + 0.25 * learned, strict=True))
    found = sorted(row, key=lambda d: row[d], reverse=True)
    assert found == sorted(head, key=lambda d: mixed[d], reverse=True) + order[3:]
    assert [row[a] - row[b] for a, b in pairwise(found[:3])] == pytest.approx(
        [mixed[a] - mixed[b] for a, b in pairwise(found[:3])]
    )
    assert stages.run({**setting, "top": 0})[query] == pytest.approx(fused)


def test_the_whole_grid_is_brute_force_and_a_pair_is_scored_once() -> None:
    collection, runs = planted(12, 1)
    ranker = SharedWords()
    stages = stages_of(collection, runs, ranker)
    pipeline = Pipeline({"fair": "", "noise": ""}, "words", given={"depth": [10, 40]}, search=SearchPlan("grid"))
    found = tune_pipeline(pipeline, stages, collection.dev.qrels)
    assert ranker.pairs == len(stages.journal.scores) == found.scored
    again = Stages(collection, collection.dev.queries, runs, ranker, ScoreJournal(None, dict(stages.journal.scores)))
    values = [mean_of(again.run(dict(setting)), collection.dev.qrels, "nDCG@10") for setting, _, _ in found.tried]
    assert len(values) == int(np.prod([len(v) for v in pipeline.knobs.values()]))
    assert found.value == pytest.approx(max(values))
    assert found.evaluations == found.grid == 12 * len(values)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["two-level", "hyperband", "halving", "random"])
def test_a_fifth_of_the_grid_finds_what_the_grid_finds(method: str) -> None:
    lost, share = [], []
    for seed in range(5):
        collection, runs = planted(60, seed)
        runs = {"noise": runs["noise"], "fair": runs["fair"]}  # the search begins with equal weights
        pipeline = Pipeline(dict.fromkeys(runs, ""), "words", search=SearchPlan(method, batch=20, seed=seed))
        found = tune_pipeline(pipeline, stages_of(collection, runs, SharedWords()), collection.dev.qrels)
        # every relevant document is found where the ranker alone orders the best 50
        lost.append(1.0 - found.value)
        share.append(found.evaluations / found.grid)
        assert found.value >= found.initial
    assert np.mean(lost) < 0.05
    assert max(share) <= 0.25  # a fifth, and the start and the end over all queries


def test_a_price_takes_the_ranker_out() -> None:
    collection, runs = planted(30, 3)
    stages = stages_of(collection, {"fair": runs["fair"]}, SharedWords())
    knobs = {"depth": [40], "top": [20, 0], "mix": [1.0]}
    for price, top in ((0.0, 20), (100.0, 0)):
        pipeline = Pipeline({"fair": ""}, "words", given=knobs, search=SearchPlan("grid", price=price))
        assert tune_pipeline(pipeline, stages, collection.dev.qrels).setting["top"] == top
    assert documents_scored({"top": 20, "mix": 0.0}) == 0


def write_files(folder: Path) -> tuple[Path, Path]:
    """A BEIR folder of the planted collection with a test split, and the pipeline of BM25 and the words of a base."""
    collection, _ = planted(12, 5)
    names = list(collection.dev.queries)
    part = {
        name: Split(name, {q: collection.dev.queries[q] for q in own}, {q: collection.dev.qrels[q] for q in own})
        for name, own in (("dev", names[:6]), ("test", names[6:]))
    }
    data = Collection("planted", collection.document_ids, collection.documents, part)
    write_beir(data, folder / "data")
    pipeline = folder / "pipeline.toml"
    pipeline.write_text(f'data = "{folder / "data"}"\n\n[retrieve]\nbm25 = "bm25"\n\n[rerank]\nranker = "bm25"\n')
    return folder / "data", pipeline


def command(*words: object, code: int = 0) -> str:
    done = CliRunner().invoke(app, list(map(str, words)))
    assert done.exit_code == code, (done.output, done.exception)
    return str(done.exception) if code else done.stdout


def test_the_commands_tune_a_pipeline_and_run_the_best(tmp_path: Path) -> None:
    data, pipeline = write_files(tmp_path)
    out = tmp_path / "tuned"
    first = json.loads(command("tune", pipeline, "--over", "top=5,0,20", "--out", out, "--method", "grid", "--json"))
    assert {each["queries"] for each in first["tried"]} == {6}
    assert tomllib.loads((out / "best.toml").read_text())["knobs"]["top"] == [first["setting"]["top"]]
    kept = (out / "scores.jsonl").read_text()
    (out / "scores.jsonl").write_text(kept[:-9])  # the last row was cut off by a crash
    again = json.loads(command("tune", pipeline, "--over", "top=5,0,20", "--out", out, "--method", "grid", "--json"))
    assert again["setting"] == first["setting"]
    assert sorted((out / "scores.jsonl").read_text().splitlines()) == sorted(kept.splitlines())
    command("retrieve", "--data", data, "--pipeline", out / "best.toml", "--depth", 10, "--out", tmp_path / "best.run")
    run = read_run(tmp_path / "best.run")
    assert len(run) == 6
    assert max(map(len, run.values())) <= 10
    said = command("retrieve", "--data", data, "--pipeline", pipeline, "--out", tmp_path / "x.run", code=1)
    assert "lorank tune" in said
    pipeline.write_text(pipeline.read_text().replace('ranker = "bm25"', 'ranker = "minilm"'))
    assert "--overwrite" in command("tune", pipeline, "--out", out, code=1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[retrieve]\n", "names no engine"),
        ('[retrieve]\na = "bm25"\n[rerank]\nrankr = "x"\n', "rerank.ranker"),
        ('[retrieve]\na = "bm25"\n[knobs]\ndepht = [1]\n', "did you mean 'depth'"),
        ('[retrieve]\na = "bm25"\n[knobs]\ntop = [1]\n', "this pipeline has depth"),
        ('[retrieve]\na = "bm25"\n[knobs]\ndepth = [0]\n', "1 or more"),
        ('[retrieve]\na = "bm25"\n[knobs]\ndepth = 5\n', "give a list"),
        ('[retrieve]\na = "bm25"\nb = "minilm"\n[knobs]\nnormalise = ["zz"]\n', "minmax"),
        ('[retrieve]\na = "bm25"\n[search]\nmethod = "best"\n', "two-level"),
        ('[retrieve]\na = "bm25"\n[search]\nshare = 2.0\n', "share is above 0"),
        ('retreive = 1\n[retrieve]\na = "bm25"\n', "did you mean retrieve"),
    ],
)
def test_a_pipeline_that_cannot_be_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "pipeline.toml"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_pipeline(path)


def test_a_pipeline_is_read_as_it_was_written(tmp_path: Path) -> None:
    made = Pipeline({"bm25": "bm25", "dense one": "minilm"}, "runs/x", "data", {"weight.dense one": [0.5, 1.0]})
    write_pipeline(made, tmp_path / "pipeline.toml")
    read = read_pipeline(tmp_path / "pipeline.toml")
    assert (read.knobs, read.search, read.engines, read.ranker) == (made.knobs, made.search, made.engines, made.ranker)


def test_nothing_to_tune_and_nothing_judged_are_said() -> None:
    collection, runs = planted(3, 0)
    one = {"depth": [10]}
    with pytest.raises(UsageError, match="nothing to tune"):
        tune_pipeline(Pipeline({"fair": ""}, given=one), stages_of(collection, runs), collection.dev.qrels)
    with pytest.raises(UsageError, match="relevant document"):
        tune_pipeline(Pipeline({"fair": ""}), stages_of(collection, runs), {})


@pytest.fixture(scope="module")
def tuned(tmp_path_factory, tiny_folders) -> tuple[Path, Collection]:
    """A tuned ranker whose score is mixed with BM25's, and the collection that it was trained on."""
    collection, _ = planted(12, 5)
    names = list(collection.dev.queries)
    parts = {
        name: Split(name, {q: collection.dev.queries[q] for q in own}, {q: collection.dev.qrels[q] for q in own})
        for name, own in (("train", names[:6]), ("dev", names[6:]))
    }
    data = Collection("planted", collection.document_ids, collection.documents, parts)
    recipe = Recipe(training=OptimizerSettings(steps=2, batch_size=2), first_stage=FirstStageSettings("bm25", (1.0,)))
    folder = tmp_path_factory.mktemp("tuned") / "run"
    made = lorank.fit(lorank.CrossEncoder(tiny_folders["bert"], head="random"), data, recipe=recipe, out=folder)
    assert made.mix.first_stage > 0
    return folder, data


def test_a_pair_has_one_score_whatever_was_scored_before(tuned: tuple[Path, Collection]) -> None:
    """A tuned ranker's mixed score depends on its list; the pipeline takes its own score."""
    folder, data = tuned
    pipeline = Pipeline({"bm25": "bm25"}, str(folder))
    setting = {"depth": 40, "top": 20, "mix": 1.0}
    fresh, later = (open_stages(pipeline, data, data.dev) for _ in range(2))
    fresh.run(setting)
    later.run({**setting, "top": 3})
    later.run(setting)
    assert later.journal.scores == pytest.approx(fresh.journal.scores, abs=1e-5)
    own = lorank.load_ranker(folder).learned
    for (query, document), score in list(later.journal.scores.items())[:5]:
        text = data.documents[data.position[document]]
        assert score == pytest.approx(float(own.score(data.dev.queries[query], [text])[0]), abs=1e-5)


def test_scores_of_a_ranker_that_was_trained_again_are_not_taken(tuned, tmp_path: Path) -> None:
    folder, data = tuned
    run = tmp_path / "run"
    shutil.copytree(folder, run)
    open_journal(tmp_path / "out", str(run), data, data.dev.queries).add({"q7": {"d7-0": 2}})
    assert open_journal(tmp_path / "out", str(run), data, data.dev.queries).scores == {("q7", "d7-0"): 2}
    (run / "model.txt").write_text("trained again")
    with pytest.raises(UsageError, match="trained again"):
        open_journal(tmp_path / "out", str(run), data, data.dev.queries)
    changed = replace(data, documents=["another text", *data.documents[1:]])
    with pytest.raises(UsageError, match="other texts"):
        open_journal(tmp_path / "out", "minilm", changed, data.dev.queries)
    assert open_journal(tmp_path / "out", str(run), data, data.dev.queries, overwrite=True).scores == {}


def test_what_has_no_score_of_a_pair_is_no_ranker_of_a_pipeline() -> None:
    collection, _ = planted(1, 0)
    with pytest.raises(UsageError, match="a score of each pair"):
        open_stages(Pipeline({"bm25": "bm25"}, "openai:http://localhost:1#m"), collection, collection.dev)


def test_vectors_of_a_pipeline_are_encoded_once_and_give_the_same_run(
    tmp_path: Path, tiny_folders, monkeypatch
) -> None:
    data, pipeline = write_files(tmp_path)
    knobs = '[knobs]\nweight.words = [1.0]\nnormalise = ["z"]\ndepth = [9]\n'
    pipeline.write_text(f'[retrieve]\nbm25 = "bm25"\nwords = "{tiny_folders["bert"]}"\n\n{knobs}')
    encoded, encode = [], BiEncoder.encode_documents

    def counted(self, texts, *given, **named):
        encoded.append(len(texts))
        return encode(self, texts, *given, **named)

    monkeypatch.setattr(BiEncoder, "encode_documents", counted)
    runs = []
    for name, more in (
        ("plain", ()),
        ("first", ("--vectors", tmp_path / "v")),
        ("again", ("--vectors", tmp_path / "v")),
    ):
        command("retrieve", "--data", data, "--pipeline", pipeline, "--out", tmp_path / f"{name}.run", *more)
        runs.append((read_run(tmp_path / f"{name}.run"), sum(encoded)))
        encoded.clear()
    (plain, every), (first, added), (again, none) = runs
    assert (every, added, none) == (480, 480, 0)
    assert DenseIndex.open(tmp_path / "v" / "words").description.name == str(tiny_folders["bert"])
    assert again == first
    for query, row in plain.items():
        assert sorted(first[query].values()) == pytest.approx(sorted(row.values()), abs=1e-3)
    pipeline.write_text(pipeline.read_text().replace(str(tiny_folders["bert"]), str(tiny_folders["roberta"])))
    with_others = ("--pipeline", pipeline, "--vectors", tmp_path / "v", "--out", tmp_path / "x.run")
    assert "another ranker" in command("retrieve", "--data", data, *with_others, code=1)


def test_options_that_a_pipeline_does_not_read_are_refused(tmp_path: Path) -> None:
    data, pipeline = write_files(tmp_path)
    for words in (("--workers", 2), ("--eta", 4), ("--engine", "ray"), ("--steps", 3)):
        assert f"{words[0]} belongs to a recipe" in command("tune", pipeline, *words, code=1)
    assert "whole number" in command("tune", pipeline, "--set", "search.batch=many", code=1)
    assert "unknown measure" in command("tune", pipeline, "--set", "search.measure=nDGC@10", code=1)
    retrieve = ("retrieve", "--data", data, "--pipeline", pipeline, "--out", tmp_path / "x.run")
    assert "--pipeline says" in command(*retrieve, "--probes", 3, code=1)
    pipeline.write_text('[retrieve]\nbm25 = "bm25"\n[knobs]\ndepth = [5]\n')
    assert "no engine of the pipeline is a bi-encoder" in command(*retrieve, "--vectors", tmp_path, code=1)
    assert SearchPlan(measure="ndcg@10").measure == "nDCG@10"
