"""What losses want, through the loop and `fit`: items that stay, references, weights, memory in checkpoints."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from lorank.data import write_run
from lorank.data.rows import read_rows, write_rows
from lorank.errors import DataError, UsageError
from lorank.ranking.losses import loss, requirements_of
from lorank.ranking.losses.core.registry import LOSSES
from lorank.ranking.scorers import CrossEncoder, FeatureRanker
from lorank.training import OptimizerSettings, Recipe, fit
from lorank.training.beginning import Beginning
from lorank.training.lists.lists import CandidateLists
from lorank.training.lists.loss_inputs import extras_for, set_reference
from lorank.training.settings import AdapterSettings, LossSettings
from lorank.training.weights import AdapterWeights, WholeWeights

QUICK = Recipe(
    training=OptimizerSettings(steps=6, batch_size=5, lr=1e-2, evaluations=2, evaluation_queries=5, precision="fp32")
)
EVERYTHING = frozenset({"items", "lists", "epoch", "first_stage"})


def lists_of(collection, run=None, **options):
    at = {query: i for i, query in enumerate(collection.train.queries)}
    return CandidateLists(collection, collection.train, run, at, None, 4, None, False, 0, **options)


def test_items_tell_pairs_apart_and_stay_over_epochs(rows):
    lists = lists_of(rows, requires=EVERYTHING)
    seen = []
    for epoch in (0, 3):
        batch = lists.collate(lists.epoch(epoch))
        assert float(batch.extras["epoch"]) == epoch
        assert torch.equal(batch.extras["lists"], batch.queries)
        items, documents = batch.extras["items"][batch.mask], batch.documents[batch.mask]
        queries = batch.queries.unsqueeze(1).expand(batch.mask.shape)[batch.mask]
        assert len(set(items.tolist())) == len(items)
        assert torch.equal(items >> 32, queries)
        assert torch.equal(items & (2**32 - 1), documents)
        seen.append(set(items.tolist()))
    assert seen[0] & seen[1]


def test_a_run_is_laid_out_as_the_documents_are(rows):
    run = {q: {d: float(i) for i, d in enumerate(row)} for q, row in rows.train.candidates.items()}
    lists = lists_of(rows, run, requires=frozenset({"first_stage", "reference"}), reference=run)
    batch = lists.collate(lists.epoch(0))
    names = rows.document_ids
    for row, each in enumerate(lists.epoch(0)):
        expected = [run[each.query_id].get(names[d], 0.0) for d in each.documents]
        for want in ("first_stage", "reference"):
            assert batch.extras[want][row, : len(expected)].tolist() == expected


def test_weights_of_rows_scale_their_lists(rows):
    weighted = replace(
        rows,
        splits={
            **rows.splits,
            "train": replace(rows.train, weights={q: float(i) for i, q in enumerate(rows.train.queries)}),
        },
    )
    lists = lists_of(weighted)
    batch = lists.collate(lists.epoch(0)[:3])
    assert batch.weights.tolist() == [
        float(list(rows.train.queries).index(each.query_id)) for each in lists.epoch(0)[:3]
    ]
    assert lists_of(rows).collate(lists.epoch(0)[:3]).weights is None


def start(rows, name):
    ranker = FeatureRanker.for_collection(rows.documents, hidden=(8,))
    with torch.no_grad():
        ranker.module[-1].weight.normal_(generator=torch.Generator().manual_seed(1))
    settings = AdapterSettings(name, rank=2)
    return ranker, (
        WholeWeights(ranker, settings, None) if name == "full" else AdapterWeights(ranker, settings, 0, None)
    )


@pytest.mark.parametrize("name", ["full", "lora"])
def test_the_reference_is_the_ranker_as_it_was_head_included(rows, name):
    ranker, weights = start(rows, name)
    trained = [p for group in weights.parameter_groups() for p in group["params"]]
    set_reference(ranker, Beginning(trained, weights.adapter), loss("finest"))
    inputs, lists = ranker.prepare([], rows.documents), lists_of(rows)
    batch = lists.collate(lists.epoch(0)[:4])
    before = ranker.forward(inputs, batch.queries, batch.documents, batch.mask).detach()
    with torch.no_grad():
        for p in trained:
            p += torch.randn(p.shape, generator=torch.Generator().manual_seed(2))
    moved = [p.detach().clone() for p in trained]
    reference = extras_for(loss("finest"), ranker, inputs, batch)["reference"]
    torch.testing.assert_close(reference, before)
    assert all(torch.equal(a, b) for a, b in zip(moved, trained))
    after = ranker.forward(inputs, batch.queries, batch.documents, batch.mask)
    assert (after - reference).abs().max() > 0.01
    (after * reference).sum().backward()


WANTING = sorted(  # two are of texts: tests/training/test_listwise_twins.py, tests/training/test_retriever_recipes.py
    name
    for name in LOSSES
    if requirements_of(LOSSES[name]) and not requirements_of(LOSSES[name]) & {"users", "listwise", "opponent"}
)


@pytest.mark.parametrize("name", WANTING)
def test_every_loss_that_wants_more_trains_through_fit(rows, tmp_path, name):
    recipe = replace(QUICK, loss=LossSettings(name), training=replace(QUICK.training, steps=12))
    fit(FeatureRanker(hidden=(8,)), rows, out=tmp_path / "run", recipe=recipe)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    values = [line["loss"] for line in lines if "loss" in line]
    assert len(values) == 2
    assert np.isfinite(values).all()


class Killed(Exception):
    pass


@pytest.mark.parametrize("name", ["elr", "data-diet", "finest"])
@pytest.mark.parametrize("at", [3, 7])
def test_a_run_whose_loss_remembers_resumes_to_the_same_bits(rows, tmp_path, name, at):
    recipe = replace(QUICK, loss=LossSettings(name), training=replace(QUICK.training, steps=10))
    tuned = fit(FeatureRanker(hidden=(8,)), rows, out=tmp_path / "whole", recipe=recipe)

    def cut(what, done, total):
        if what.startswith("train") and done == at:
            raise Killed

    with pytest.raises(Killed):
        fit(FeatureRanker(hidden=(8,)), rows, out=tmp_path / "cut", recipe=recipe, on_progress=cut)
    resumed = fit(FeatureRanker(hidden=(8,)), rows, out=tmp_path / "cut", recipe=recipe, resume=True)
    for a, b in zip(tuned.ranker.module.parameters(), resumed.ranker.module.parameters()):
        assert torch.equal(a, b)
    assert (tmp_path / "cut" / "metrics.jsonl").read_text().count("\n") == (
        tmp_path / "whole" / "metrics.jsonl"
    ).read_text().count("\n")


def test_a_run_serves_as_the_reference_and_must_cover_the_queries(rows, tmp_path):
    run = {q: dict.fromkeys(row, 1.0) for q, row in rows.train.candidates.items()}
    write_run(run, tmp_path / "serving.run", "t")
    recipe = replace(QUICK, loss=LossSettings("confidence-ranking-ctr", reference=str(tmp_path / "serving.run")))
    with_dev = replace(rows)
    fit(FeatureRanker(hidden=(8,)), with_dev, out=tmp_path / "run", recipe=recipe)
    run.pop(next(iter(run)))
    write_run(run, tmp_path / "short.run", "t")
    short = replace(recipe, loss=replace(recipe.loss, reference=str(tmp_path / "short.run")))
    with pytest.raises(DataError, match="lacks 1 training queries"):
        fit(FeatureRanker(hidden=(8,)), rows, out=tmp_path / "b", recipe=short)
    with pytest.raises(UsageError, match="no run file"):
        fit(
            FeatureRanker(hidden=(8,)),
            rows,
            out=tmp_path / "c",
            recipe=replace(recipe, loss=replace(recipe.loss, reference="nowhere.run")),
        )


def test_training_rows_are_trained_on_as_they_are(texts, tiny_folders, tmp_path):
    """Lists that came with the data are the lists: no first stage is searched or stood on."""
    write_rows(
        replace(
            texts,
            splits={
                "train": replace(
                    texts.train,
                    candidates={
                        q: dict.fromkeys(list(texts.document_ids)[:6], 0.0) | dict.fromkeys(row, 0.0)
                        for q, row in texts.train.qrels.items()
                    },
                )
            },
        ),
        tmp_path / "rows.jsonl",
    )
    data = read_rows(tmp_path / "rows.jsonl")
    tuned = fit(CrossEncoder(tiny_folders["bert"]), data, out=tmp_path / "run", recipe=QUICK)
    assert tuned.first_stage is None
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["mix"]["first_stage"] == "given with the data"


def test_lists_in_which_nothing_was_chosen_are_seen_by_the_loss_that_wants_them(tmp_path):
    rows = [{"query": f"q {i}", "docs": [f"a {i}", f"b {i}"], "labels": [i % 2, 0]} for i in range(8)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = read_rows(tmp_path / "rows.jsonl")
    plain, choice = (
        lists_of(data, requires=requirements_of(loss(name))) for name in ("softmax", "contextual-quality-rm")
    )
    assert (len(plain.epoch(0)), len(choice.epoch(0))) == (4, 8)
    batch = choice.collate(choice.epoch(0))
    assert torch.equal(batch.extras["outside"], batch.labels.sum(1) == 0)
    assert int(batch.extras["outside"].sum()) == 4
