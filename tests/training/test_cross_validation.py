"""Folds end with one ranker, whose folder says how it was made and what the folds' rankers gained."""

import json
import math
from dataclasses import replace
from statistics import median_low

import numpy as np
import pytest

from lorank.data.collection import Collection, Split
from lorank.errors import UsageError
from lorank.ranking.metrics import group_tied_queries
from lorank.reporting import write_report
from lorank.training.cross_validation import cross_validate, divide
from lorank.training.recipe import RecipeFile
from lorank.training.settings import AdapterSettings, ListSettings, OptimizerSettings
from lorank.tuned import load_ranker

pytestmark = pytest.mark.usefixtures("own_cache")

WORDS = ["sorting", "moon", "query", "adaptation", "list", "earth"]
ANSWERS = ["sun", "relevant", "language", "words", "rankers", "models"]


QUERIES = 120
"""So many that every fold learns something: of 45, two of three folds kept the untuned base on some processors."""


def judged(count=QUERIES, seed=0, *, random=False):
    """A query names two subjects by words that its document replaces by others; or the judgments are random."""
    rng = np.random.default_rng(seed)
    documents, queries, qrels = [], {}, {}
    for i in range(count):
        pair = rng.choice(6, 2, replace=False)
        queries[f"q{i}"] = " ".join(["document", *(WORDS[j] for j in pair)])
        documents.append(" ".join(rng.permutation(["document", *(ANSWERS[j] for j in pair), "the", "of"])))
        qrels[f"q{i}"] = {f"d{i}": 1}
    names = [f"d{i}" for i in range(count)]
    if random:
        order = rng.permutation(count)
        qrels = {f"q{i}": {f"d{order[i]}": 1} for i in range(count)}
    return Collection("judged", names, documents, {"test": Split("test", queries, qrels)})


def recipe(bert, **training):
    settings = OptimizerSettings(batch_size=8, lr=1e-2, evaluations=2, warmup=0.0, **training)
    return RecipeFile(
        adapter=AdapterSettings("lora", rank=4),
        training=settings,
        lists=ListSettings(negatives=2, spare=1.0),
        base=bert,
        kind="bi-encoder",
    )


def run(data, plan, out, resume=False, folds=3):
    said = []
    found = cross_validate(
        data,
        plan,
        folds,
        "test",
        out,
        command="lorank train --folds 3",
        resume=resume,
        overwrite=False,
        on_progress=lambda what, done, total: said.append(what),
    )
    return found, said


@pytest.fixture(scope="module")
def learned(tiny_folders, tmp_path_factory):
    """A collection that can be learned, cross-validated."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        out = tmp_path_factory.mktemp("runs") / "folds"
        found, said = run(judged(), recipe(str(tiny_folders["bert"]), steps=30), out)
    return found, said, out


@pytest.mark.slow
def test_the_folder_holds_a_ranker_fitted_by_what_the_folds_chose(learned):
    found, _, out = learned
    record = json.loads((out / "run.json").read_text())
    folds = record["folds"]
    assert [fold["fold"] for fold in folds] == [1, 2, 3]
    assert sum(fold["queries"] for fold in folds) == QUERIES
    assert record["outcome"]["steps"] == median_low([fold["best_step"] for fold in folds]) > 0
    weights = [math.inf if fold["weight"] is None else fold["weight"] for fold in folds]
    stated = record["mix"]["weight"] if record["mix"]["first_stage_weight"] else math.inf
    assert stated == pytest.approx(median_low(weights))
    again = load_ranker(out)
    documents = judged().documents[:5]
    expected = found.tuned.score("moon earth", documents)
    np.testing.assert_allclose(again.score("moon earth", documents), expected, atol=1e-5)


def test_first_stage_untuned_base_and_tuned_rankers_are_judged_on_all_queries(learned):
    found, _, out = learned
    results = json.loads((out / "results.json").read_text())
    assert list(results["systems"]) == ["first stage", "untuned", "tuned"]
    assert results["queries"] == QUERIES
    assert results["settings"]["groups"] == len(set(group_tied_queries(judged().splits["test"].qrels).values()))
    assert {path.name for path in out.glob("*.run")} == {"first_stage.run", "untuned.run", "tuned.run"}
    (gain,) = found.tuned.gain
    assert gain["queries"] == QUERIES
    folds = json.loads((out / "run.json").read_text())["folds"]
    mean = sum(fold["gain"]["difference"] * fold["queries"] for fold in folds) / QUERIES
    assert gain["difference"] == pytest.approx(mean)


def test_report_and_card_say_how_it_was_made(learned):
    found, said, out = learned
    record = json.loads((out / "run.json").read_text())
    page, card = write_report(out).read_text(), (out / "model/README.md").read_text()
    assert "does not say how it was made" not in page
    fitted = f"Fitted on all {QUERIES} judged queries after 3 folds over {QUERIES} queries in {QUERIES} independent"
    for text in (page, card, found.tuned.dev["sentence"], record["made"]):
        assert f"{fitted} groups" in text
        assert f"{record['outcome']['steps']} steps of training" in text
    for fold in record["folds"]:
        assert f"{fold['gain']['tuned']:.3f}" in page
    assert found.tuned.gain[0]["sentence"] in card
    assert "lorank train --folds 3" in page
    assert any(text.startswith("fold 1 of 3: about") for text in said)


def test_a_cross_validation_is_taken_up_again(learned, tiny_folders):
    found, _, out = learned
    again, _ = run(judged(), recipe(str(tiny_folders["bert"]), steps=30), out, resume=True)
    a, b = found.tuned.adapter.state(), again.tuned.adapter.state()
    assert all((a[name] == b[name]).all() for name in a)
    with pytest.raises(UsageError, match="already holds a run"):
        run(judged(), recipe(str(tiny_folders["bert"]), steps=30), out)


def test_random_judgments_end_in_the_untuned_base(bert, tmp_path):
    data = judged(30, seed=1, random=True)
    found, _ = run(data, recipe(bert, steps=2), tmp_path / "run")
    record = json.loads((tmp_path / "run/run.json").read_text())
    if found.tuned.gain[0]["difference"] <= 0:
        assert record["outcome"]["best_step"] == 0
        assert record["adapter"]["moved"] == pytest.approx(0.0, abs=1e-6)
        assert "the untuned base" in record["made"]
    assert found.tuned.gain[0]["outcome"] != "better"


def test_queries_that_share_documents_share_a_fold_where_they_can():
    data = judged(30)
    tied = {f"q{i}": {f"d{i // 2}": 1} for i in range(30)}
    data = replace(data, splits={"test": replace(data.splits["test"], qrels=tied)})
    folds = divide(data, 3, 0, "test")
    assert folds.together
    said = "30 queries in 15 independent groups (queries that share relevant documents are in one fold)"
    assert said in folds.describe()
    for part in folds.parts:
        tested, trained = ({int(query[1:]) // 2 for query in split.queries} for split in (part.test, part.train))
        assert tested.isdisjoint(trained)
    whole = {query: {"d0": 1} for query in data.splits["test"].queries}
    torn = divide(replace(data, splits={"test": replace(data.splits["test"], qrels=whole)}), 3, 0, "test")
    assert not torn.together
    assert "dealt one by one" in torn.describe()


def test_a_bounded_time_is_shared_by_the_folds_and_the_last_fit(bert, tmp_path):
    run(judged(18), recipe(bert, steps=1, minutes=40.0), tmp_path / "run")
    records = [json.loads(path.read_text()) for path in sorted((tmp_path / "run").glob("fold-*/run.json"))]
    assert [record["settings"]["training"]["minutes"] for record in records] == pytest.approx([10.0] * 3)


def test_feature_rows_are_fitted_whole_too(rows, tmp_path):
    parts = rows.splits.values()
    queries, qrels, candidates = (
        {query: row for part in parts for query, row in getattr(part, name).items()}
        for name in ("queries", "qrels", "candidates")
    )
    whole = Split("test", queries, qrels, candidates)
    data = replace(rows, splits={"test": whole})
    for base in ("mlp", "boosted"):
        plan = RecipeFile(training=OptimizerSettings() if base == "boosted" else OptimizerSettings(steps=5), base=base)
        found, _ = run(data, plan, tmp_path / base)
        record = json.loads((tmp_path / base / "run.json").read_text())
        assert len(record["folds"]) == 3
        assert "Fitted on" in record["made"]
        page = write_report(tmp_path / base).read_text()
        assert "does not say how it was made" not in page
        assert found.judged.queries == len(whole)
