"""What training gained is told against the untuned base in the same mix: nothing where nothing can be learned."""

import json
from dataclasses import replace

import numpy as np
import pytest

from lorank.errors import LorankError, UsageError
from lorank.lowrank.budgets.core.settle import settle
from lorank.ranking.scorers import BiEncoder, CrossEncoder
from lorank.reporting import write_report
from lorank.training import fit
from lorank.training.gain import Gain
from lorank.training.loop.loop import train
from lorank.training.plan import build_plan, resolve_recipe
from lorank.training.settings import AdapterSettings, ListSettings, OptimizerSettings, Recipe
from tiny_collections import SHARED, planted

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.mark.parametrize("steps", [1, 30])
def test_weight_and_dev_value_are_one_number_under_one_name_everywhere(bert, tmp_path, steps):
    settings = recipe(0, steps)
    settings = replace(settings, first_stage=replace(settings.first_stage, grid=(0.2, 0.5, 1.5, 3.0)))
    tuned = fit(BiEncoder(bert), planted(0), "lora", out=tmp_path / "run", recipe=settings)
    weight, dev = tuned.mix.describe_weight(), tuned.dev
    assert weight in {"0.2", "0.5", "1.5", "3"}
    record = json.loads((tmp_path / "run/run.json").read_text())
    described = json.loads((tmp_path / "run/model/lorank.json").read_text())
    assert f"{record['mix']['weight']:g}" == f"{described['mix']['weight']:g}" == weight
    assert record["mix"]["spread"] == pytest.approx(described["mix"]["spread"])
    card, page = (tmp_path / "run/model/README.md").read_text(), write_report(tmp_path / "run").read_text()
    assert f"added with weight {weight}, in units of its spread" in card
    assert f"The weight of the learned score is {weight}." in dev["sentence"]
    assert f"The choice is {weight}, with {dev['value']:.3f} on dev" in page
    assert dev == record["dev"] == described["dev"]
    assert dev["name"] == f"dev nDCG@10 over the top {dev['depth']}"
    assert dev["sentence"] in card
    assert dev["name"] in page
    assert f"{dev['groups']} independent groups" in page


def recipe(seed: int, steps: int = 60) -> Recipe:
    return Recipe(
        training=OptimizerSettings(steps=steps, batch_size=16, lr=1e-2, evaluations=3, warmup=0.0),
        lists=ListSettings(negatives=2, depth=150, spare=1.0),
        seed=seed,
    )


@pytest.mark.parametrize("seed", [0, 1])
def test_a_planted_vocabulary_is_learned_and_told_as_a_gain(bert, tmp_path, seed):
    tuned = fit(BiEncoder(bert), planted(seed), "lora", rank=8, out=tmp_path / "run", recipe=recipe(seed))
    dev, test = tuned.gain
    assert (dev["split"], test["split"]) == ("dev", "test")
    assert test["outcome"] == "better", test
    assert test["sentence"].startswith("Training gained: ")
    assert json.loads((tmp_path / "run" / "run.json").read_text())["adapter"]["moved"] > 0
    assert set(json.loads((tmp_path / "run" / "results.json").read_text())["systems"]) == {
        "first stage",
        "untuned",
        "tuned",
    }


@pytest.mark.parametrize("kind", [BiEncoder, CrossEncoder])
def test_random_judgments_end_in_nothing_gained_everywhere(bert, tmp_path, kind):
    tuned = fit(kind(bert), planted(3, random=True), "lora", out=tmp_path / "run", recipe=recipe(3, steps=12))
    assert "better" not in {gain["outcome"] for gain in tuned.gain}
    for gain in tuned.gain:
        assert "gained nothing" in gain["sentence"]
    assert "gained nothing" in (tmp_path / "run" / "model" / "README.md").read_text()
    assert "gained nothing" in write_report(tmp_path / "run").read_text()


@pytest.mark.parametrize("adapter", ["lora", "dora", "pissa", "adalora", "singlora", "vera", "full"])
@pytest.mark.parametrize("kind", [BiEncoder, CrossEncoder])
def test_a_plan_goes_back_to_the_ranker_before_training(bert, tmp_path, kind, adapter):
    data, ranker = planted(0), kind(bert)
    settings = recipe(0, steps=3)
    settings = replace(settings, adapter=AdapterSettings(adapter, rank=2), lists=replace(settings.lists, negatives=3))
    settings, budget = resolve_recipe(ranker, data, settings)
    expected = ranker.score("moon earth", data.documents[:6])
    plan = build_plan(ranker, data, settings, budget, tmp_path, None, lambda *_: None)
    train(plan.session(tmp_path, lambda: {"nDCG@10": 0.5}))
    outcome = train(replace(plan.session(tmp_path, lambda: {}), evaluate=None))
    assert outcome.steps == 3
    moved = ranker.score("moon earth", data.documents[:6])
    assert np.abs(moved - expected).max() > 2e-4 * np.abs(expected).max()
    if plan.budget is not None:
        settle(plan.weights.adapter)
    with plan.beginning.restored():
        np.testing.assert_allclose(ranker.score("moon earth", data.documents[:6]), expected, rtol=2e-5, atol=1e-5)
    plan.go_back()
    np.testing.assert_allclose(ranker.score("moon earth", data.documents[:6]), expected, rtol=2e-5, atol=1e-5)


def test_a_loss_that_is_zero_at_every_step_is_an_error(texts, bert, tmp_path):
    with pytest.raises(LorankError, match="the loss was 0 at every one of the first 2 steps"):
        fit(
            CrossEncoder(bert),
            texts,
            "lora",
            "softmax",
            out=tmp_path / "run",
            recipe=Recipe(
                training=OptimizerSettings(steps=2, batch_size=2), lists=ListSettings(positives=1, negatives=0)
            ),
        )


def test_positives_alone_get_their_negatives_from_the_other_rows(bert, tmp_path):
    data = planted(0)
    path = tmp_path / "rows.jsonl"
    rows = [
        {"query": text, "pos": [data.documents[data.position[d]] for d in data.train.qrels[q]]}
        for q, text in data.train.queries.items()
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    from lorank.data.rows import read_rows

    for kind in (BiEncoder, CrossEncoder):
        tuned = fit(kind(bert), read_rows(path), "lora", out=tmp_path / kind.__name__, recipe=recipe(0, steps=2))
        assert tuned.gain[0]["untuned"] < 0.99
        lines = [json.loads(line) for line in (tmp_path / kind.__name__ / "metrics.jsonl").read_text().splitlines()]
        assert any(line.get("loss", 0) > 0 for line in lines)


def test_a_first_stage_that_finds_nothing_is_an_error_with_the_remedy(bert, tmp_path):
    data = planted(0)
    silent = replace(
        data,
        splits={
            name: replace(split, queries={q: text.replace(SHARED, "") for q, text in split.queries.items()})
            for name, split in data.splits.items()
        },
    )
    with pytest.raises(UsageError, match="finds no document for any of the 30 dev queries.*--first-stage fusion"):
        fit(BiEncoder(bert), silent, "lora", out=tmp_path / "run", recipe=recipe(0))


def test_a_gain_is_told_from_chance_by_a_stricter_level_on_dev():
    numbers = {"queries": 40, "groups": 30, "first_stage": 0.5, "untuned": 0.5, "tuned": 0.6, "difference": 0.1}
    made = {s: Gain(split=s, interval=(0.01, 0.2), p=0.03, **numbers) for s in ("dev", "test")}
    assert {s: gain.outcome for s, gain in made.items()} == {"dev": "tie", "test": "better"}
    assert "dev also chose the weights, so that p must be below 0.01 here" in made["dev"].describe()
    assert "also chose" not in replace(made["dev"], p=0.4).describe() + made["test"].describe()


def test_the_report_of_a_run_has_texts_and_costs(bert, tmp_path):
    data = planted(0)
    fit(BiEncoder(bert), data, "lora", rank=8, out=tmp_path / "run", recipe=recipe(0, steps=12))
    queries = json.loads((tmp_path / "run" / "queries.json").read_text())
    assert queries == {query: data.test.queries[query] for query in queries}
    examples = json.loads((tmp_path / "run" / "examples.json").read_text())
    assert all(data.test.queries[example["query_id"]] == example["query"] for example in examples)
    page = write_report(tmp_path / "run").read_text()
    assert "Trained parameters" in page[page.index('id="ladder-table"') : page.index('id="trust"')]
