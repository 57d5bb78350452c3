"""From a ranker and a collection to a tuned ranker, on tiny models."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

import lorank
from lorank.errors import UsageError
from lorank.lowrank.forms.singlora import SingLoRA
from lorank.ranking.metrics.measures import mean_of
from lorank.ranking.scorers import BiEncoder, CrossEncoder, FeatureRanker
from lorank.training import fit, load_ranker, rerank_run
from lorank.training.hooks.hook import Hook
from lorank.training.settings import FirstStageSettings, ListSettings, OptimizerSettings, Recipe

pytestmark = pytest.mark.usefixtures("own_cache")
QUICK = Recipe(
    training=OptimizerSettings(steps=4, batch_size=4, lr=5e-3, evaluations=2), lists=ListSettings(negatives=3, depth=20)
)


def assert_same_scores(found, expected):
    """To 1e-6 of the largest score: a score near 0 is a difference of large ones in float32."""
    assert np.abs(np.asarray(found) - expected).max() <= 1e-6 * max(1.0, np.abs(expected).max())


@pytest.mark.parametrize("kind", [BiEncoder, CrossEncoder])
@pytest.mark.parametrize("adapter", ["lora", "dora", "pissa", "full"])
def test_a_saved_ranker_scores_as_the_tuned_one_did(texts, bert, tmp_path, kind, adapter):
    tuned = fit(kind(bert), texts, adapter, "softmax", 2, tmp_path / "run", recipe=QUICK)
    again = load_ranker(tmp_path / "run")
    query, documents = "moon earth", texts.documents[:7]
    assert_same_scores(again.score(query, documents), tuned.score(query, documents))
    assert (tuned.mix.weight, tuned.mix.first_stage) == (again.mix.weight, again.mix.first_stage)


def test_a_fresh_process_gives_the_same_scores(texts, bert, tmp_path):
    tuned = fit(CrossEncoder(bert), texts, "lora", out=tmp_path / "run", recipe=QUICK)
    script = (
        "import sys, json, lorank; r = lorank.load_ranker(sys.argv[1]); "
        "print(json.dumps(r.score('moon earth', json.loads(sys.argv[2])).tolist()))"
    )
    documents = list(texts.documents[:5])
    answer = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "run"), json.dumps(documents)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert_same_scores(json.loads(answer.stdout), tuned.score("moon earth", documents))


def test_never_below_the_first_stage_on_dev(texts, bert, tmp_path):
    tuned = fit(CrossEncoder(bert), texts, "lora", out=tmp_path / "run", recipe=QUICK)
    values = dict(tuned.mix.curve)
    assert max(values.values()) >= values[0.0]
    chosen = json.loads((tmp_path / "run" / "run.json").read_text())["mix"]
    assert chosen["dev_curve"][0] == [0.0, values[0.0]]


def test_a_cross_encoder_with_a_new_head_starts_at_the_first_stage(texts, bert, tmp_path):
    recipe = replace(QUICK, training=replace(QUICK.training, steps=1, lr=0.0))
    fit(CrossEncoder(bert), texts, "lora", out=tmp_path / "run", recipe=recipe)
    tuned = load_ranker(tmp_path / "run")
    from lorank.training.lists.retrieval import bm25_index

    bm25 = bm25_index(texts).search(texts.test.queries, 20)
    reranked = rerank_run(replace_mix(tuned, 1.0), texts, texts.test.queries, bm25)
    for query, row in bm25.items():
        assert best_first(row) == best_first(reranked[query])


def best_first(row):
    return sorted(row, key=lambda document: (row[document], document), reverse=True)


def replace_mix(tuned, weight):
    from lorank.tuned.mix import Mix

    return replace(tuned, mix=Mix(1.0, weight))


def test_without_a_run_the_folders_own_statistics_serve_and_do_not_depend_on_the_list(texts, bert, tmp_path):
    fit(BiEncoder(bert), texts, "lora", out=tmp_path / "run", recipe=QUICK)
    tuned = replace_mix(load_ranker(tmp_path / "run"), 0.5) if load_ranker(tmp_path / "run").first_stage else None
    if tuned is None:
        pytest.skip("dev chose the ranker alone")
    together = tuned.score("moon earth", texts.documents[:6])
    apart = [float(tuned.score("moon earth", [document])[0]) for document in texts.documents[:6]]
    assert np.allclose(together, apart, atol=1e-5)


@pytest.mark.parametrize("source", ["none", "bm25", "fusion"])
def test_every_offset_trains_and_ranks(texts, bert, tmp_path, source):
    recipe = replace(QUICK, first_stage=FirstStageSettings(source))
    tuned = fit(BiEncoder(bert), texts, out=tmp_path / "run", recipe=recipe)
    ranked = tuned.rank("moon earth", list(texts.documents), top=3)
    assert [r.score for r in ranked] == sorted((r.score for r in ranked), reverse=True)
    assert ranked[0].text == texts.documents[ranked[0].index]
    if source == "none":
        assert tuned.first_stage is None


@pytest.mark.parametrize("source", ["auto", "none"])
def test_the_lists_that_training_rows_bring_are_kept_where_there_is_no_first_stage(bert, tmp_path, source):
    """BM25 finds nothing here: no query shares a word with a document."""
    rows = [{"query": f"asked {i}", "pos": [f"right{i}"], "neg": [f"wrong{i}", f"other{i}"]} for i in range(20)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = lorank.load(str(tmp_path / "rows.jsonl"))
    fit(CrossEncoder(bert), data, out=tmp_path / "run", recipe=replace(QUICK, first_stage=FirstStageSettings(source)))
    losses = [json.loads(line).get("loss") for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert all(loss > 0 for loss in losses if loss is not None)  # each list has its own negatives


def test_a_run_as_the_offset_must_cover_train_and_dev(texts, bert, tmp_path):
    from lorank.data import write_run

    write_run({"train0": {"d0": 1.0}}, tmp_path / "part.run", "t")
    recipe = replace(QUICK, first_stage=FirstStageSettings(str(tmp_path / "part.run")))
    with pytest.raises(UsageError, match="lacks 17 training or dev queries"):
        fit(BiEncoder(bert), texts, out=tmp_path / "run", recipe=recipe)


def test_a_run_as_the_offset(texts, bert, tmp_path):
    from lorank.data import write_run
    from lorank.training.lists.retrieval import bm25_index

    queries = texts.train.queries | texts.dev.queries
    write_run(bm25_index(texts).search(queries, 30), tmp_path / "first.run", "t")
    recipe = replace(QUICK, first_stage=FirstStageSettings(str(tmp_path / "first.run")))
    tuned = fit(CrossEncoder(bert), texts, out=tmp_path / "run", recipe=recipe)
    assert dict(tuned.mix.curve)[0.0] >= 0


@pytest.mark.parametrize("adapter", [None, "lora"])
def test_feature_rows_go_through_the_same_loop(rows, tmp_path, adapter):
    recipe = replace(QUICK, training=replace(QUICK.training, steps=60, batch_size=10, lr=2e-2))
    tuned = fit(FeatureRanker(hidden=(16,)), rows, adapter, "lambda", out=tmp_path / "run", recipe=recipe)
    run = rerank_run(tuned, rows, rows.test.queries, rows.test.candidates)
    flat = {q: dict.fromkeys(row, 0.0) for q, row in rows.test.candidates.items()}
    assert mean_of(run, rows.test.qrels, "nDCG@10") > mean_of(flat, rows.test.qrels, "nDCG@10") + 0.1
    again = load_ranker(tmp_path / "run")
    part = rows.documents[:5]
    assert np.abs(tuned.score("", part) - again.score("", part)).max() < 1e-6


def test_free_queries_join_the_training(texts, bert, tmp_path):
    recipe = replace(QUICK, lists=replace(QUICK.lists, free_queries="titles"))
    fit(BiEncoder(bert), texts, out=tmp_path / "run", recipe=recipe)
    assert (tmp_path / "run" / "model" / "adapter" / "adapter_model.safetensors").exists()


def test_a_run_is_not_overwritten_unasked(texts, bert, tmp_path):
    fit(BiEncoder(bert), texts, out=tmp_path / "run", recipe=QUICK)
    with pytest.raises(UsageError, match="--resume"):
        fit(BiEncoder(bert), texts, out=tmp_path / "run", recipe=QUICK)
    fit(BiEncoder(bert), texts, out=tmp_path / "run", recipe=QUICK, overwrite=True)


def test_no_training_split_points_to_folds(texts, bert, tmp_path):
    only = replace(texts, splits={"test": texts.test})
    with pytest.raises(UsageError, match="--folds 5"):
        fit(BiEncoder(bert), only, out=tmp_path / "run", recipe=QUICK)


def test_unknown_names_are_named(texts, bert, tmp_path):
    with pytest.raises(UsageError, match="did you mean 'lora'"):
        fit(BiEncoder(bert), texts, "lroa", out=tmp_path / "a", recipe=QUICK)
    with pytest.raises(UsageError, match="did you mean 'softmax'"):
        fit(BiEncoder(bert), texts, "lora", "sofmax", out=tmp_path / "b", recipe=QUICK)


def test_forms_that_follow_a_schedule_are_told_how_far_training_is(texts, bert, tmp_path):
    ranker, heard = BiEncoder(bert), []

    class Watch(Hook):
        def after_step(self, progress, optimizer):
            heard.append({float(form.u) for form in ranker.module.modules() if isinstance(form, SingLoRA)})

    fit(ranker, texts, "singlora", out=tmp_path / "run", recipe=QUICK, hooks=[Watch()])
    assert all(len(each) == 1 for each in heard)
    first, *_, last = (u for each in heard for u in each)
    assert 0 < first <= last


def test_equal_runs_are_equal_to_the_bit_with_two_threads(texts, bert, tmp_path):
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        runs = [fit(BiEncoder(bert), texts, "lora", out=tmp_path / name, recipe=QUICK) for name in "ab"]
    finally:
        torch.set_num_threads(threads)
    a, b = (run.adapter.state() for run in runs)
    assert all(torch.equal(a[name], b[name]) for name in a)
    lines = [(tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in "ab"]
    a, b = ([json.loads(line).get("loss") for line in own] for own in lines)
    assert a == b  # the weights that dev keeps may be those of step 0
    assert not torch.are_deterministic_algorithms_enabled()


def test_the_top_level_names(texts, bert, tmp_path):
    tuned = lorank.fit(
        lorank.BiEncoder(bert), texts, adapter="lora", loss="lambda", rank=2, out=tmp_path / "run", recipe=QUICK
    )
    assert tuned.score("query", ["a document", "the moon"]).dtype == np.float32
