"""The five tasks over rankers of every kind in one call, and their closed cases."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from lorank.cli.app import app
from lorank.data import write_beir
from lorank.data.collection import Collection, Split
from lorank.errors import DataError, UsageError
from lorank.ranking.robustness import PERTURBATIONS
from lorank.ranking.scorers import CrossEncoder
from lorank.ranking.scorers.bm25 import BM25
from lorank.ranking.scorers.ranker import Ranker
from lorank.training.deletion import DeletionSettings, delete_training_data
from lorank.tuned.certify import certified_rate
from lorank.tuned.format_stress import spread_of_formats
from lorank.tuned.open_ranker import open_ranker
from lorank.tuned.ranker import TunedRanker
from lorank.tuned.stress import Domain, StressSettings, stress
from lorank.tuned.text_trees import TextTrees, fit_text_trees

ALL = tuple(name for name in PERTURBATIONS)


class Constant(Ranker):
    """It gives every document the same score."""

    def score_pairs(self, queries, documents, pairs, on_progress=None):
        return np.zeros(len(pairs), np.float32)


def domain_of(texts, depth=20, split="test"):
    index = BM25.index(texts.document_ids, texts.documents)
    return Domain(texts, texts.split(split), index.search(texts.split(split).queries, depth))


def alike(queries=6, per_query=5):
    """Queries whose relevant document stands at the same place of the ties."""
    names = [f"q{i}d{j}" for i in range(queries) for j in range(per_query)]
    qrels = {f"q{i}": {f"q{i}d2": 1} for i in range(queries)}
    split = Split("test", {f"q{i}": f"asked {i}" for i in range(queries)}, qrels)
    data = Collection("alike", names, [f"a text {name}" for name in names], {"test": split})
    candidates = {f"q{i}": {f"q{i}d{j}": 0.0 for j in range(per_query)} for i in range(queries)}
    return Domain(data, split, candidates)


def test_a_constant_ranker_has_no_variance_and_no_drop():
    found = stress(Constant(), alike(), [alike()], StressSettings(ALL), lambda *_: None)
    assert found.variance.variance == pytest.approx(0.0)
    assert all(each.drop == pytest.approx(0.0) for each in found.types.values())
    assert all(each.drop == pytest.approx(0.0) for each in found.corpora.values())
    assert all(each.drop == pytest.approx(0.0) for each in found.queries.values())
    assert all(each.moved.rbo == pytest.approx(1.0) for each in found.queries.values())
    assert all(each.drop == pytest.approx(0.0) for each in found.documents.values())
    assert found.documents["stuffing"].gained == pytest.approx(0.0)


def test_bm25_bears_no_change_and_falls_for_stuffing(texts):
    domain = domain_of(texts)
    bm25 = open_ranker("bm25", collection=texts)
    found = stress(bm25, domain, [], StressSettings(ALL), lambda *_: None)
    assert found.queries["none"].drop == pytest.approx(0.0)
    assert found.queries["none"].moved.rbo == pytest.approx(1.0)
    assert found.queries["none"].changed == pytest.approx(0.0)
    assert found.queries["case"].drop == pytest.approx(0.0)
    assert found.queries["case"].changed == pytest.approx(1.0)
    assert found.queries["order"].moved.rbo == pytest.approx(1.0)
    assert found.documents["stuffing"].gained > 0
    assert found.variance.queries == len(domain.queries)
    again = stress(bm25, domain, [], StressSettings(ALL), lambda *_: None)
    assert again.queries == found.queries
    assert again.documents == found.documents


def test_trees_learn_from_the_training_split_and_are_kept(texts, tmp_path):
    trees = fit_text_trees(texts, depth=20)
    scores = trees.score("sorting list", list(texts.documents[:8]))
    trees.save(tmp_path / "trees")
    assert TextTrees.load(tmp_path / "trees").score("sorting list", list(texts.documents[:8])) == pytest.approx(scores)
    assert np.ptp(scores) > 0
    with pytest.raises(UsageError, match="training split"):
        open_ranker("lambdamart")


def test_certificates_of_bm25_fall_with_the_radius(texts):
    domain = domain_of(texts)
    table = {"sorting": ["ordering"], "ordering": ["sorting"], "moon": ["earth"], "earth": ["moon", "sun"]}
    rate = certified_rate(
        open_ranker("bm25", collection=texts), domain, table, most=2, top=1, depth=4, queries=4, draws=300
    )
    assert list(rate.rates) == sorted(rate.rates, reverse=True)
    assert rate.queries > 0


def test_prompt_formats_of_a_language_model(texts, tiny_causals):
    from lorank.ranking.scorers import CausalRanker

    ranker = CausalRanker(tiny_causals["llama"])
    before = ranker.score("sorting", ["a list"])
    formats, found = spread_of_formats(TunedRanker(ranker), domain_of(texts), 3, 80)
    assert len(formats) == 3
    assert 0 <= found.lowest <= found.highest <= 1
    assert ranker.score("sorting", ["a list"]) == pytest.approx(before)
    with pytest.raises(UsageError, match="language models"):
        spread_of_formats(Constant(), domain_of(texts), 3, 80)


def run_command(*arguments):
    return CliRunner().invoke(app, [str(each) for each in arguments])


@pytest.fixture(scope="module")
def place(texts, tiny_folders, tmp_path_factory):
    here = tmp_path_factory.mktemp("stress")
    write_beir(texts, here / "beir")
    write_beir(texts, here / "other")
    TunedRanker(CrossEncoder(tiny_folders["bert"], head="random", max_length=40)).save(here / "run" / "model")
    return here


def test_one_command_runs_bm25_trees_and_a_neural_ranker_through_all_five(place):
    done = run_command(
        "stress", "bm25", "lambdamart", place / "run", "--data", place / "beir", "--other", place / "other",
        "--depth", 10, "--json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert list(found) == ["bm25", "lambdamart", str(place / "run")]
    for row in found.values():
        assert set(row) >= {"variance", "types", "corpora", "queries", "documents"}
        assert set(row["queries"]) | set(row["documents"]) == set(ALL) - {"none"}
        assert row["corpora"]["other"]["drop"] == pytest.approx(0.0)


def test_the_tables_name_every_ranker_and_task(place):
    done = run_command("stress", "bm25", "--data", place / "beir", "--depth", 10, "--certify", 1)
    assert done.exit_code == 0, done.output
    for word in ("1. variance", "2. by type", "4. disturbed", "5. documents", "stuffing", "certain to stay"):
        assert word in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "name one ranker"),
        (["bm25"], "--data"),
        (["bm25", "--data", "pydocs", "--perturbation", "typo"], "did you mean 'typos'"),
        (["bm52", "--data", "pydocs"], "did you mean 'bm25'"),
        (["bm25", "--data", "pydoc"], "did you mean 'pydocs'"),
        (["bm25", "--interactions", "log.tsv"], "leave out"),
    ],
)
def test_wrong_use_is_met_before_any_work(arguments, said):
    done = run_command("stress", *arguments)
    assert isinstance(done.exception, UsageError)
    assert said in str(done.exception)


def test_the_log_of_a_recommender(tmp_path):
    log = tmp_path / "log.tsv"
    log.write_text("".join(f"u{i % 4}\ti{i % 3}\n" for i in range(40)))
    found = json.loads(run_command("stress", "--interactions", log, "--json").stdout)
    assert found["events"] == 40
    assert 0 <= found["rbo"] <= 1
    assert "that event" in run_command("stress", "--interactions", log).stdout
    log.write_text("u\ti\nalone\n")
    assert isinstance(run_command("stress", "--interactions", log).exception, DataError)


@pytest.fixture(scope="module")
def trained(place, tiny_folders):
    out = place / "trained"
    steps = ("--steps", 2, "--batch-size", 2, "--negatives", 2, "--max-length", 32, "--kind", "cross-encoder")
    done = run_command("train", "--data", place / "beir", "--base", tiny_folders["bert"], *steps, "--out", out)
    assert done.exit_code == 0, done.output
    return out


@pytest.mark.parametrize("what", ["queries", "documents"])
def test_rankers_are_trained_again_on_less_and_the_cost_is_said_before(place, trained, what):
    asked = ("--data", place / "beir", "--depth", 10, "--perturbation", "case", "--delete-training", 0.5)
    asked += ("--deleted", what, "--minutes", 1)
    done = run_command("stress", "bm25", "lambdamart", trained, *asked, "--json")
    assert done.exit_code == 0, done.output
    assert f"without 50% of the training {what}" in done.stderr
    assert "at most 1 by --minutes" in done.stderr
    found = json.loads(done.stdout)
    assert found["bm25"]["deletion"] is None
    for name in ("lambdamart", str(trained)):
        again, whole = found[name]["deletion"], found[name]["variance"]["mean"]
        assert again["left"] < again["whole"]
        assert again["drop"] == pytest.approx((again["mean"] - whole) / whole)
    said = run_command("stress", "lambdamart", *asked).stdout
    assert f"6. without 50% of the training {what}" in said


def test_deleted_queries_and_documents_are_gone_from_what_is_trained_on(texts):
    whole = texts.train
    less = delete_training_data(texts, DeletionSettings(0.5, "queries", seed=1))
    assert len(less.train.queries) == round(len(whole.queries) / 2)
    assert less.train.queries.items() <= whole.queries.items()
    assert less.test is texts.test
    relevant = {d for row in whole.qrels.values() for d, grade in row.items() if grade > 0}
    less = delete_training_data(texts, DeletionSettings(0.5, "documents", seed=1))
    gone = set(texts.document_ids) - set(less.document_ids)
    assert len(gone) == len(relevant) - round(len(relevant) / 2)
    assert gone <= relevant
    assert not any(gone & set(row) for split in less.splits.values() for row in split.qrels.values())
    assert [less.documents[less.position[d]] for d in less.document_ids] == [
        texts.documents[texts.position[d]] for d in less.document_ids
    ]


@pytest.mark.parametrize(
    ("rankers", "more", "said"),
    [
        (["bm25"], ["--delete-training", 0.5], "none of these was trained"),
        (["lambdamart"], ["--delete-training", 1.5], "between 0 and 1"),
        (["lambdamart"], ["--delete-training", 0.5, "--deleted", "words"], "queries or documents"),
        (["lambdamart"], ["--delete-training", 0.5, "--minutes", 0], "above 0"),
        (["lambdamart"], ["--minutes", 3], "--delete-training"),
    ],
)
def test_wrong_deletion_is_met_before_any_work(rankers, more, said):
    done = run_command("stress", *rankers, "--data", "pydocs", *more)
    assert isinstance(done.exception, UsageError)
    assert said in str(done.exception)


def test_a_ranker_without_a_record_is_not_trained_again(place):
    done = run_command("stress", place / "run", "--data", place / "beir", "--delete-training", 0.5)
    assert isinstance(done.exception, UsageError)
    assert "run.json" in str(done.exception)
