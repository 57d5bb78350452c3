"""`lorank fairness` over tables, runs and rankers; low rank keeps more of a planted bias.

Catalogue: lowrank-fairness, fairness-ranked-outputs, fairness-road, equitable-sampling.
"""

import json

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from lorank import lowrank
from lorank.cli.app import app
from lorank.data import read_run, write_beir, write_run
from lorank.data.collection import Collection, Split
from lorank.errors import DataError, UsageError
from lorank.ranking.scorers.ranker import Ranker
from lorank.tuned.fairness import bias_by_rank, check_protected, constrain, judge_exposure, rank_of, read_groups
from lorank.tuned.stress import Domain


def biased(queries=20, per_query=12):
    """Runs in which documents of group b stand last whatever their relevance."""
    rng = np.random.default_rng(0)
    run, qrels, groups = {}, {}, {}
    for i in range(queries):
        names = [f"q{i}d{j}" for j in range(per_query)]
        groups |= {name: "b" if j % 3 == 0 else "a" for j, name in enumerate(names)}
        relevant = rng.random(per_query) < 0.4
        relevant[:2] = True, False
        qrels[f"q{i}"] = {name: int(flag) for name, flag in zip(names, relevant, strict=True)}
        run[f"q{i}"] = {
            name: float(rng.normal() + 2 * qrels[f"q{i}"][name] - 4 * (groups[name] == "b")) for name in names
        }
    return run, qrels, groups


def test_the_constrained_run_is_fairer_and_states_its_price():
    run, qrels, groups = biased()
    found = constrain(run, groups, "b", qrels)
    assert found.exposed_after.measures["rnd"] < found.exposed_before.measures["rnd"]
    assert found.exposed_before.score_gap < 0
    assert {query: set(row) for query, row in found.run.items()} == {query: set(row) for query, row in run.items()}
    assert found.price == pytest.approx(found.before - found.after)
    with pytest.raises(UsageError, match="no judged query"):
        constrain(run, groups, "b", {})
    with pytest.raises(UsageError, match="no query's list"):
        judge_exposure(run, dict.fromkeys(groups, "a"), "b", 10)


def test_groups_are_read_and_checked(tmp_path):
    path = tmp_path / "groups.tsv"
    path.write_text("a\tx\nb\ty\nc\tx\n")
    groups = read_groups(path)
    assert groups == {"a": "x", "b": "y", "c": "x"}
    assert check_protected(groups, None) == "y"
    with pytest.raises(UsageError, match="unknown group 'z'"):
        check_protected(groups, "z")
    for bad, said in (("a x\n", "1: not two columns"), ("a\tx\na\ty\n", "2: 'a' has two groups"), ("", "no groups")):
        path.write_text(bad)
        with pytest.raises(DataError, match=said):
            read_groups(path)


class Linear(Ranker):
    """It scores documents, which are numbers in text, by a linear layer."""

    def __init__(self, layer):
        self.layer = layer

    def score_pairs(self, queries, documents, pairs, on_progress=None):
        rows = torch.tensor([[float(x) for x in documents[d].split()] for _, d in pairs])
        with torch.no_grad():
            return self.layer(rows).sum(1).numpy()


def test_low_rank_keeps_more_of_a_planted_bias_than_full_tuning():
    """The bias of the base has four directions; debiasing takes them all, and an update of rank 1 can move only one."""
    kept = {}
    for seed in range(3):
        rng = torch.Generator().manual_seed(seed)
        base = torch.randn(8, 8, generator=rng)
        bias = sum(3.0 / (k + 1) * torch.outer(*torch.eye(8)[[k, 4 + k]]) for k in range(4))
        rows = torch.randn(200, 8, generator=rng)
        target = rows @ base.T
        for rank in (1, 2, 8):
            layer = nn.Sequential(nn.Linear(8, 8, bias=False))
            with torch.no_grad():
                layer[0].weight.copy_(base + bias)
            adapter = lowrank.attach(layer, "lora", rank=rank, alpha=rank, targets=["0"], seed=seed)
            optimizer = torch.optim.Adam(adapter.parameters(), 0.05)
            for _ in range(250):
                optimizer.zero_grad()
                ((layer(rows) - target) ** 2).mean().backward()
                optimizer.step()
            with torch.no_grad():
                kept.setdefault(rank, []).append(float(((layer(rows) - target) ** 2).mean()))
    means = {rank: np.mean(values) for rank, values in kept.items()}
    assert means[1] > 2 * means[2] > 4 * means[8]


def test_the_bias_is_listed_by_rank():
    run, qrels, groups = biased(6)
    names = [document for row in run.values() for document in row]
    texts = [f"{run[name.split('d')[0]][name]} 1" for name in names]
    split = Split("test", dict.fromkeys(run, "q"), qrels)
    domain = Domain(Collection("planted", names, texts, {"test": split}), split, run)
    layer = nn.Linear(2, 1, bias=False)
    nn.init.ones_(layer.weight)
    (row,) = bias_by_rank({"base": Linear(layer)}, domain, groups, "b")
    assert row.rank is None
    assert rank_of(Linear(layer)) is None
    assert row.exposed.score_gap < 0
    assert 0 < row.quality <= 1


def run_command(*arguments):
    return CliRunner().invoke(app, [str(each) for each in arguments])


def test_a_table_is_judged_and_its_fair_order_written(tmp_path):
    rng = np.random.default_rng(0)
    rows = [(f"{rng.normal() - (i % 4 == 0):.4f}", "f" if i % 4 == 0 else "m") for i in range(80)]
    (tmp_path / "credit.csv").write_text("score,sex\n" + "".join(f"{s},{g}\n" for s, g in rows))
    done = run_command(
        "fairness", "--table", tmp_path / "credit.csv", "--by", "score", "--group", "sex", "--json",
        "--out", tmp_path / "fair.csv",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["protected"] == "f"
    assert found["measures"]["rnd"][1] < found["measures"]["rnd"][0]
    assert found["price"] > 0
    assert len((tmp_path / "fair.csv").read_text().splitlines()) == 81
    shown = run_command("fairness", "--table", tmp_path / "credit.csv", "--by", "score", "--group", "sex").stdout
    assert "constrained order costs" in shown


def test_runs_and_rankers_are_judged_by_groups_of_documents_and_queries(texts, tmp_path):
    write_beir(texts, tmp_path / "beir")
    run = {query: {f"d{i}": 40.0 - i for i in range(20)} for query in texts.test.queries}
    write_run(run, tmp_path / "first.run")
    (tmp_path / "documents.tsv").write_text("".join(f"d{i}\t{'new' if i % 5 == 4 else 'old'}\n" for i in range(40)))
    (tmp_path / "queries.tsv").write_text("".join(f"test{i}\t{'en' if i % 2 else 'de'}\n" for i in range(6)))
    options = ("--data", tmp_path / "beir", "--run", tmp_path / "first.run")
    done = run_command(
        "fairness", *options, "--document-groups", tmp_path / "documents.tsv", "--query-groups",
        tmp_path / "queries.tsv", "--ranker", "bm25", "--out", tmp_path / "fair.run", "--json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["first"]["exposed_after"]["measures"]["rnd"] <= found["first"]["exposed_before"]["measures"]["rnd"]
    assert set(found["first"]["queries"]) == {"de", "en"}
    assert found["by rank"][0]["name"] == "bm25"
    assert set(read_run(tmp_path / "fair.run")) == set(run)
    shown = run_command("fairness", *options, "--document-groups", tmp_path / "documents.tsv").stdout
    assert "price:" in shown


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "either --data"),
        (["--data", "pydocs"], "nothing to judge"),
        (["--data", "pydocs", "--run", "a.run"], "no groups"),
        (["--table", "x.csv"], "--by SCORE"),
        (["--data", "pydocs", "--run", "a.run", "--share", "2", "--query-groups", "q"], "--share"),
        (["--data", "pydocs", "--ranker", "minlm", "--document-groups", "d"], "did you mean 'minilm'"),
    ],
)
def test_wrong_use_is_met_before_any_work(arguments, said):
    done = run_command("fairness", *arguments)
    assert isinstance(done.exception, UsageError)
    assert said in str(done.exception)


def test_bad_tables_are_named_by_line(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("score,sex\n1,f\nx,m\n")
    done = run_command("fairness", "--table", path, "--by", "score", "--group", "sex")
    assert isinstance(done.exception, DataError)
    assert ":3:" in str(done.exception)
    done = run_command("fairness", "--table", path, "--by", "points", "--group", "sex")
    assert "no column 'points'" in str(done.exception)
