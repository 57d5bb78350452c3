"""Spectra of a run: intruders and the rank of vectors, doubtful queries, and `lorank inspect` with its report."""

import json
import random
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

import lorank
from lorank.cli.app import app
from lorank.data import write_beir
from lorank.data.collection import Collection
from lorank.errors import UsageError
from lorank.reporting import write_report
from lorank.training.diagnosing import find_doubtful_queries, find_intruders, vector_rank
from lorank.training.settings import AdapterSettings, FirstStageSettings, OptimizerSettings, Recipe
from lorank.tuned.ranker import TunedRanker

RECIPE = Recipe(
    adapter=AdapterSettings("lora", rank=2),
    training=OptimizerSettings(steps=3, batch_size=4, evaluations=1),
    judge_test=False,
    keep="tuned",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_folders, texts):
    folder = tmp_path_factory.mktemp("inspected")
    write_beir(texts, folder / "data")
    options = ["--data", str(folder / "data"), "--base", str(tiny_folders["bert"]), "--kind", "bi-encoder", "--quiet"]
    more = ["--steps", "3", "--batch-size", "4", "--rank", "2", "--adapter", "lora", "--out", str(folder / "run")]
    sets = ["--set", "keep=tuned", "--set", "training.evaluations=1", "--no-test"]
    done = CliRunner().invoke(app, ["train", *options, *more, *sets])
    assert done.exit_code == 0, done.output
    return folder


def test_inspect_shows_and_keeps_all_of_it_for_the_report(run):
    arguments = ["inspect", str(run / "run"), "--intruders", "--data", str(run / "data"), "--queries", "5", "--quiet"]
    done = CliRunner().invoke(app, [*arguments, "--save"])
    assert done.exit_code == 0, done.output
    for said in ("intruder dimensions", "RankMe of 40 documents", "look at their labels", "values in"):
        assert said in done.output
    kept = json.loads((run / "run" / "spectra.json").read_text())
    assert set(kept) == {"layers", "intruders", "rankme", "queries"}
    assert [eps for eps, _ in kept["intruders"]["curve"]] == pytest.approx([0.1 * i for i in range(1, 10)])
    assert 1 <= kept["rankme"]["value"] <= 32.01
    norms = [row["nuclear_norm"] for row in kept["queries"]]
    assert norms == sorted(norms, reverse=True)
    assert len(norms) == 5
    page = write_report(run / "run").read_text()
    assert 'id="spectra"' in page
    assert "Training queries to look at" in page
    asked = CliRunner().invoke(app, [*arguments, "--json"])
    assert json.loads(asked.stdout)["rankme"]["dimensions"] == 32


def test_lora_computational_limits_inspect_checks_the_scores_of_attention(run):
    words = ["inspect", str(run / "run"), "--attention", "--data", str(run / "data")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    for said in ("almost linear approximation", "scores up to", "heads below", " of 4 ", "ranks that a policy learns"):
        assert said in done.output
    found = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)["attention"]
    assert found["threshold"] == pytest.approx(np.log(found["tokens"]) ** 0.5)
    assert 3 <= found["tokens"] <= 64, "the longest text, and not a batch of them"
    assert [row["path"] for row in found["layers"]] == [f"encoder.layer.{i}.attention.self" for i in range(2)]
    for row in found["layers"]:
        assert 0 <= row["below"] <= row["heads"]
        assert (row["below"] == row["heads"]) == (row["bound"] < found["threshold"])
        assert row["degree"] is None or row["columns"] >= 1
    lonely = CliRunner().invoke(app, words[:3])
    assert "give --data" in str(lonely.exception) + lonely.output


def test_what_inspect_cannot_do_is_said(run, tmp_path):
    adapter = run / "run" / "model" / "adapter"
    for more, says in ((["--queries", "3"], "no run.json"), (["--save"], "no run folder")):
        done = CliRunner().invoke(app, ["inspect", str(adapter), *more])
        assert done.exit_code == 2 or isinstance(done.exception, UsageError)
        assert says in str(done.exception) + done.output
    done = CliRunner().invoke(app, ["inspect", str(tmp_path)])
    assert "holds no adapter" in str(done.exception) + done.output


def test_rankers_without_an_adapter_or_vectors(tiny_folders):
    encoder = lorank.BiEncoder(tiny_folders["bert"])
    with pytest.raises(UsageError, match="has none"):
        find_intruders(TunedRanker(encoder, None))
    with pytest.raises(UsageError, match="no vectors"):
        vector_rank(lorank.CrossEncoder(tiny_folders["bert"]), ["a"])
    found = vector_rank(encoder, ["the moon", "the earth", "words"])
    assert found["bounded"]
    assert found["texts"] == 3


def shuffled(data: Collection, share: float, seed: int) -> tuple[Collection, set[str]]:
    """The collection with random documents as the answers to some training queries, and which these are."""
    rng = random.Random(seed)
    train = data.train
    wrong = set(rng.sample(sorted(train.qrels), round(share * len(train.qrels))))
    qrels = {q: {rng.choice(data.document_ids): 1} if q in wrong else row for q, row in train.qrels.items()}
    return replace(data, splits={**data.splits, "train": replace(train, qrels=qrels)}), wrong


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_queries_with_shuffled_labels_come_first(minilm, seed):
    data = lorank.load("lohelp")
    chosen = sorted(data.train.qrels)[seed::80][:40]
    part = replace(
        data.train, queries={q: data.train.queries[q] for q in chosen}, qrels={q: data.train.qrels[q] for q in chosen}
    )
    data, wrong = shuffled(replace(data, splits={**data.splits, "train": part}), 0.25, seed)
    recipe = replace(RECIPE, first_stage=FirstStageSettings("bm25"), seed=seed)
    found = find_doubtful_queries(lorank.BiEncoder("minilm", max_length=64), data, recipe, most=40)
    places = np.array([each.id in wrong for each in found])
    pairs = places[:, None] & ~places[None, :]
    earlier = np.arange(len(found))[:, None] < np.arange(len(found))[None, :]
    assert float((pairs & earlier).sum() / pairs.sum()) > 0.75  # the chance that a wrong query comes before a right one


def test_dr_rl_attention_inspect_learns_lower_ranks_where_latency_costs_more(run):
    words = ["inspect", str(run / "run"), "--attention", "--data", str(run / "data")]
    ranks, errors = [], []
    for more in (["--latency-weight", "0"], [], ["--latency-weight", "20"]):
        done = CliRunner().invoke(app, [*words, *more, "--json"])
        assert done.exit_code == 0, done.output
        layers = json.loads(done.stdout)["attention"]["ranks"]["layers"]
        assert list(layers) == [f"encoder.layer.{i}.attention.self" for i in range(2)]
        ranks.append([row["rank"] / row["width"] for row in layers.values()])
        errors.append([row["error"] for row in layers.values()])
        for row in layers.values():
            at = [row["errors"][rank] for rank in sorted(row["errors"], key=int)]
            assert at[-1] < 1e-5 < min(at[:-1]), "all directions are exact, fewer are not"
    free, usual, dear = (np.array(each) for each in ranks)
    assert (free >= usual).all()
    assert (usual >= dear).all()
    assert (free > dear).all()
    assert max(errors[0]) < max(errors[2])
    lonely = CliRunner().invoke(app, [*words[:2], "--latency-weight", "1"])
    assert "belongs to --attention" in str(lonely.exception) + lonely.output
