"""Whole experiments on a tiny base: rows, folds, sweeps, edges, failures, and what a second run takes up."""

import json
from statistics import fmean

import numpy as np
import pytest

from lorank.compare import run_experiment
from lorank.compare.goal import count_steps_to_goal
from lorank.compare.ledger import LEDGER
from lorank.compare.results import RowResult, TrialResult
from lorank.data import write_letor
from lorank.data.trec import read_run
from lorank.errors import UsageError

QUICK = {
    "kind": "bi-encoder",
    "lists": {"negatives": 2, "spare": 1.0, "depth": 8},
    "training": {"steps": 2, "batch_size": 4, "evaluations": 1, "precision": "fp32", "warmup": 0.0, "lr": 1e-2},
    "keep": "tuned",
}


def experiment(data, bert, **more):
    made = QUICK | {"data": str(data), "base": bert} | more
    return made | {"training": {**QUICK["training"], **more.get("training", {})}}


def ledger(out):
    return [json.loads(line) for line in (out / LEDGER).read_text().splitlines()][1:]


def test_rows_of_a_collection_without_splits_are_judged_by_folds(judged, bert, tmp_path):
    rows = [{"name": "BM25", "ranker": "bm25"}, {"name": "untuned", "ranker": bert, "kind": "bi-encoder"}]
    made = experiment(judged, bert, folds=3, adapter={"name": ["lora", "dora"], "rank": 2}, baseline="BM25", row=rows)
    found = run_experiment(made, tmp_path / "out")
    assert found.whole
    assert found.notes == ()
    result = found.result
    assert [row.name for row in result.rows] == ["lora", "dora", "BM25", "untuned"]
    queries = {f"test{i}" for i in range(24)}
    for row in result.rows:
        (trial,) = row.trials
        assert trial.test["nDCG@10"].keys() == queries
        assert set(result.groups[row.data]) == queries
        assert (tmp_path / "out" / trial.run).is_file()
    trained = result.rows[0].trials[0]
    assert trained.cost["trained_parameters"] > 0
    assert trained.cost["train_seconds"] > 0
    assert [step for step, _ in trained.curve] == [0, 2]
    assert len(ledger(tmp_path / "out")) == 3 + 3 + 1 + 3
    assert [row.seeded for row in result.rows] == [True, True, False, False]
    assert all(example["before"]["system"] == "BM25" for example in result.examples["judged"])
    assert found.page.is_file()
    assert "lora" in found.summary()
    frame = found.frame()
    assert set(frame["row"]) == {"lora", "dora", "BM25", "untuned"}
    assert {row["row"] for row in found.trials()} == {"lora", "dora", "BM25", "untuned"}


def test_the_untuned_row_is_where_the_learning_curve_begins(splits, bert, tmp_path):
    rows = [{"name": "untuned", "ranker": bert, "kind": "bi-encoder"}]
    found = run_experiment(experiment(splits, bert, adapter={"name": ["lora"]}, row=rows), tmp_path / "out")
    tuned, untuned = found.result.rows
    assert tuned.trials[0].curve[0][1] == pytest.approx(untuned.trials[0].dev["nDCG@10"])


def test_dev_chooses_the_rate_follows_the_edge_and_the_seeds_run_there(splits, bert, tmp_path):
    made = experiment(splits, bert, seed=[0, 1], training={"steps": 4, "lr": {"sweep": [1e-6, 1e-4], "edges": 1}})
    found = run_experiment(made, tmp_path / "out")
    (row,) = found.result.rows
    dev = dict(row.swept)
    assert set(dev) >= {1e-6, 1e-4}
    best = max(dev, key=dev.get)
    assert row.settings["training.lr"] == best  # exact: copied
    assert [trial.seed for trial in row.trials] == [0, 1]
    assert row.trials[0].dev["nDCG@10"] == pytest.approx(dev[best])
    rates = {
        (line["settings"]["recipe"]["training"]["lr"], line["settings"]["recipe"]["seed"])
        for line in ledger(tmp_path / "out")
    }
    assert rates == {*((rate, 0) for rate in dev), (best, 1)}
    first = max([1e-6, 1e-4], key=dev.get)
    assert (max(dev) == pytest.approx(1e-2)) if first == 1e-4 else (min(dev) == pytest.approx(1e-8))  # exact: copied


def test_a_second_run_takes_up_what_is_there(splits, bert, tmp_path):
    made = experiment(splits, bert, adapter={"name": ["lora"]})
    first = run_experiment(made, tmp_path / "out")
    before = (tmp_path / "out" / LEDGER).read_bytes()
    with (tmp_path / "out" / LEDGER).open("ab") as file:
        file.write(b'{"row": "lora", "settings": {"rec')  # what a crash leaves of a line
    more = run_experiment(made | {"adapter": {"name": ["lora", "dora"]}}, tmp_path / "out")
    after = (tmp_path / "out" / LEDGER).read_bytes()
    assert after.startswith(before)
    assert len(ledger(tmp_path / "out")) == 2
    assert more.result.rows[0].trials[0].test == first.result.rows[0].trials[0].test  # exact: read, not computed
    assert len(ledger(tmp_path / "out")) == len({json.dumps(line["settings"]) for line in ledger(tmp_path / "out")})


def test_a_renamed_row_keeps_its_trials(splits, bert, tmp_path):
    rows = [{"name": "one", "adapter": {"name": "lora"}}]
    run_experiment(experiment(splits, bert, row=rows), tmp_path / "out")
    renamed = run_experiment(experiment(splits, bert, row=[rows[0] | {"name": "two"}]), tmp_path / "out")
    assert len(ledger(tmp_path / "out")) == 1
    assert renamed.result.rows[0].name == "two"


def test_a_trial_that_fails_is_a_row_that_says_why_and_may_be_tried_again(splits, bert, tmp_path):
    rows = [
        {"name": "lora", "adapter": {"name": "lora"}},
        {"name": "wide", "adapter": {"name": "lora", "targets": "no such layer"}},
    ]
    made = experiment(splits, bert, row=rows, baseline="wide")
    found = run_experiment(made, tmp_path / "out")
    assert not found.whole
    assert found.result.rows[0].failed is None
    assert "no such layer" in found.result.rows[1].failed
    assert "nothing is compared with it" in " ".join(found.notes)
    assert "left out" in found.summary()
    assert any("baseline wide has no result" in note for note in found.notes)
    assert found.page.is_file()
    run_experiment(made, tmp_path / "out")
    assert len(ledger(tmp_path / "out")) == 2
    run_experiment(made, tmp_path / "out", retry=True)
    assert len(ledger(tmp_path / "out")) == 3


def test_a_changed_collection_is_refused(splits, bert, tmp_path):
    made = experiment(
        splits, bert, row=[{"name": "BM25", "ranker": "bm25"}, {"name": "l", "adapter": {"name": "lora"}}]
    )
    run_experiment(made, tmp_path / "out")
    qrels = splits / "qrels" / "test.tsv"
    qrels.write_text(qrels.read_text() + "test0\td0\t1\n")
    with pytest.raises(UsageError, match="has changed since this experiment was begun.*--overwrite"):
        run_experiment(made, tmp_path / "out")
    assert run_experiment(made, tmp_path / "out", overwrite=True).whole


def test_rows_are_matched_in_trained_values(splits, bert, tmp_path):
    rows = [{"name": "lora", "adapter": {"name": "lora", "rank": 4}}, {"name": "vera", "adapter": {"name": "vera"}}]
    rows.append({"name": "gralora", "adapter": {"name": "gralora"}})
    found = run_experiment(
        experiment(splits, bert, row=rows, match="trained_parameters", baseline="lora"), tmp_path / "out"
    )
    assert found.whole
    sizes = {row.name: row.trials[0].cost["trained_parameters"] for row in found.result.rows}
    assert sizes["gralora"] == pytest.approx(sizes["lora"], rel=0.3)
    assert found.result.rows[1].settings["adapter.rank"] != 4


def test_rows_are_matched_in_minutes(splits, bert, tmp_path):
    rows = [{"name": "lora", "adapter": {"name": "lora"}}, {"name": "dora", "adapter": {"name": "dora"}}]
    found = run_experiment(experiment(splits, bert, row=rows, match="minutes", baseline="lora"), tmp_path / "out")
    assert found.whole, found.notes
    lines = {line["row"]: line for line in ledger(tmp_path / "out")}
    seconds = lines["lora"]["result"]["cost"]["train_seconds"]
    assert lines["dora"]["settings"]["recipe"]["training"]["minutes"] == pytest.approx(seconds / 60, abs=1e-4)
    assert lines["dora"]["settings"]["recipe"]["training"]["steps"] is None


@pytest.mark.parametrize("seed", [0, 1])
def test_rows_are_matched_in_tokens(splits, bert, tmp_path, seed):
    training = {"steps": 6, "batch_size": 4}
    rows = [
        {"name": "short lists", "lists": {"negatives": 1}, "training": training},
        {"name": "long lists", "lists": {"negatives": 4}, "training": training},
    ]
    made = experiment(splits, bert, row=rows, match="tokens", baseline="short lists", seed=seed)
    found = run_experiment(made | {"lists": {"spare": 1.0, "depth": 8, "shared": False}}, tmp_path / "out")
    assert found.whole, found.notes
    short, long = (line for line in ledger(tmp_path / "out"))
    tokens = [line["result"]["cost"]["trained_tokens"] for line in (short, long)]
    assert (
        long["settings"]["recipe"]["training"] | {"tokens": round(tokens[0]), "steps": None}
        == (long["settings"]["recipe"]["training"])
    )
    steps = long["result"]["curve"][-1][0]
    assert 0 < steps < 6
    assert tokens[1] == pytest.approx(tokens[0], abs=tokens[1] / steps)  # to within a step


@pytest.mark.parametrize("per", ["method", "fold"])
def test_dev_chooses_among_drawn_configurations(judged, bert, tmp_path, per):
    made = experiment(judged, bert, folds=3, seed=[0, 1], search={"samples": 2, "per": per})
    made["training"] |= {"lr": {"draw": [1e-9, 3e-2]}}
    found = run_experiment(made, tmp_path / "out")
    (row,) = found.result.rows
    lines = ledger(tmp_path / "out")
    dev, fold_of = {}, {}
    for line in lines:
        recipe = line["settings"]["recipe"]
        if recipe["seed"] == 0:
            dev.setdefault(recipe["training"]["lr"], {})[line["settings"]["fold"]] = line["result"]["dev"]["nDCG@10"]
        else:
            fold_of[line["settings"]["fold"]] = recipe["training"]["lr"]
    if per == "fold":
        best = {fold: max(dev, key=lambda rate: dev[rate][fold]) for fold in (1, 2, 3)}
        assert all(dev[fold_of[fold]][fold] >= dev[best[fold]][fold] for fold in best)
    else:
        (chosen,) = set(fold_of.values())
        assert all(fmean(dev[chosen].values()) >= fmean(each.values()) for each in dev.values())
    assert len(lines) == 2 * 3 + 3
    assert [trial.seed for trial in row.trials] == [0, 1]
    assert row.trials[0].cost["tuning_seconds"] > 0
    assert set(np.ravel(row.settings["training.lr"])) == set(fold_of.values())


def test_rows_run_alone_with_keys_set_and_say_so(splits, bert, tmp_path):
    rows = [{"adapter": {"name": ["lora", "dora"]}}, {"name": "BM25", "ranker": "bm25"}]
    made = experiment(splits, bert, row=rows, baseline="lora", match="tokens")
    found = run_experiment(
        made, tmp_path / "out", rows=["dora"], settings={"training.steps": 3}, rerun="lorank compare a.toml"
    )
    assert [row.name for row in found.result.rows] == ["lora", "dora"]  # what it is matched to stays
    assert found.result.rows[1].command == "lorank compare a.toml --row dora"
    assert [line["result"]["curve"][-1][0] for line in ledger(tmp_path / "out")] == [3, 3]
    alone = run_experiment(made | {"match": "trained_parameters"}, tmp_path / "alone", rows=["BM25"])
    assert [row.name for row in alone.result.rows] == ["BM25"]
    with pytest.raises(UsageError, match="unknown --row 'BM52'; did you mean 'BM25'"):
        run_experiment(made, tmp_path / "other", rows=["BM52"])


def test_both_ways_is_the_mean_of_the_scores_both_ways(splits, bert, tmp_path):
    base = {"kind": "cross-encoder", "adapter": {"name": "lora"}, "first_stage": {"source": "none"}}
    rows = [base | {"name": "one way"}, base | {"name": "both ways", "both_ways": True}]
    rows += [{**row, "name": f"bi-encoder, {row['name']}", "kind": "bi-encoder"} for row in rows]
    found = run_experiment(experiment(splits, bert, row=rows), tmp_path / "out")
    assert found.whole, found.notes
    runs = {row.name: read_run(tmp_path / "out" / row.trials[0].run) for row in found.result.rows}
    gaps = {
        kind: max(
            abs(runs[f"{kind}one way"][query][document] - score)
            for query, scores in runs[f"{kind}both ways"].items()
            for document, score in scores.items()
        )
        for kind in ("", "bi-encoder, ")
    }
    assert gaps["bi-encoder, "] < 1e-4 < gaps[""]


def test_steps_to_the_goal_are_counted_on_the_learning_curve():
    def row(name, *values, data="a"):
        curve = [(10 * step, value) for step, value in enumerate(values)]
        return RowResult(name, data, {}, [TrialResult(0, {}, {"m": {}}, {"x": 1.0}, curve)])

    rows = [row("slow", 0.5, 0.6, 0.7), row("base", 0.5, 0.69, 0.7), row("never", 0.5, 0.5, 0.5), row("BM25")]
    found = {each.name: each.trials[0].cost.get("steps_to_goal") for each in count_steps_to_goal(rows, "base", 0.9)}
    assert found == {"slow": 20, "base": 10, "never": None, "BM25": None}
    assert count_steps_to_goal([row("other", 0.5, 0.9, data="b")], "base", 0.9)[0].trials[0].cost == {
        "x": 1.0
    }  # exact: copied


def test_a_run_and_a_strategy_are_rows(splits, bert, tmp_path):
    peer = tmp_path / "peer.run"
    peer.write_text("".join(f"test{i} Q0 d{26 + i} 1 1.0 peer\n" for i in range(12)))
    rows = [
        {"name": "perfect", "run": str(peer)},
        {"name": "asked", "ranker": bert, "kind": "bi-encoder", "strategy": "setwise", "budget": "calls=3"},
        {"name": "trees", "ranker": "lambdamart"},
    ]
    found = run_experiment(
        {"data": str(splits), "row": rows, "lists": {"depth": 8}, "baseline": "perfect"}, tmp_path / "o"
    )
    assert found.whole, found.notes
    perfect, asked, trees = found.result.rows
    assert fmean(perfect.trials[0].test["nDCG@10"].values()) == pytest.approx(1.0)
    assert 0 < asked.trials[0].cost["calls"] <= 3 * 12
    assert trees.trials[0].cost["train_seconds"] > 0


def test_each_row_pays_for_its_own_answers(splits, bert, tmp_path):
    asked = {"ranker": bert, "kind": "bi-encoder", "strategy": "pointwise"}
    rows = [asked | {"name": "first"}, asked | {"name": "few", "budget": "calls=2"}, asked | {"name": "five", "top": 5}]
    found = run_experiment({"data": str(splits), "row": rows, "lists": {"depth": 4}}, tmp_path / "o")
    assert found.whole, found.notes
    calls = {row.name: row.trials[0].cost["calls"] for row in found.result.rows}
    assert 0 < calls["few"] < calls["first"]
    assert calls["five"] == calls["first"]


def test_the_best_of_a_run_are_the_candidates_of_a_collection_without_a_training_split(judged, bert, tmp_path):
    peer = tmp_path / "peer.run"
    peer.write_text("".join(f"test{i} Q0 d{j} {j} {9 - j} peer\n" for i in range(24) for j in range(6)))
    rows = [{"name": "alone", "ranker": bert, "kind": "bi-encoder"}]
    made = {"data": str(judged), "row": rows, "lists": {"depth": 4}, "first_stage": {"source": str(peer)}}
    found = run_experiment(made, tmp_path / "o")
    assert found.whole, found.notes
    run = read_run(tmp_path / "o" / found.result.rows[0].trials[0].run)
    assert {query: set(row) for query, row in run.items()} == {f"test{i}": {"d0", "d1", "d2", "d3"} for i in range(24)}


def test_one_writer_at_a_time(splits, bert, tmp_path):
    from lorank.compare.ledger import Ledger

    with Ledger(tmp_path / "l.jsonl", {}), pytest.raises(UsageError, match="another process writes"):
        Ledger(tmp_path / "l.jsonl", {})


def test_networks_and_trees_over_feature_rows_are_compared(rows, tmp_path):
    write_letor(rows, tmp_path / "letor")
    made = {"data": str(tmp_path / "letor"), "base": ["mlp", "linear", "lightgbm"], "baseline": "lightgbm"}
    found = run_experiment(made, tmp_path / "out")
    assert found.whole
    assert [row.name for row in found.result.rows] == ["mlp", "linear", "lightgbm"]
    assert all(0 < fmean(row.trials[0].test["nDCG@10"].values()) <= 1 for row in found.result.rows)


def test_a_setting_that_a_base_does_not_use_is_refused_before_anything_runs(rows, tmp_path):
    write_letor(rows, tmp_path / "letor")
    made = {"data": str(tmp_path / "letor"), "base": ["mlp", "lightgbm"], "training": {"steps": 3}}
    with pytest.raises(UsageError, match=r"row 'lightgbm': .*does not use training\.steps"):
        run_experiment(made, tmp_path / "out")
    assert not (tmp_path / "out" / LEDGER).exists()
