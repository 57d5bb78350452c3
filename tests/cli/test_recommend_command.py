"""`lorank recommend`: learned from a log, judged by what came next, applied to a log, refused before any work."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from lorank.cli.app import app
from lorank.data import read_run
from lorank.ranking.dense_index import DenseIndex
from lorank.ranking.scorers.encoded import EncodedDocuments
from lorank.tuned.recommender import TunedRecommender
from planted_users import interested_users, on_a_circle, users_of_two_sides, write_log

QUICK = ["--option", "steps=40", "--option", "adapter_steps=10", "--option", "top=5", "--option", "batch_size=32"]


def command(*words, code=0):
    done = CliRunner().invoke(app, ["recommend", *map(str, words)])
    assert (done.exit_code == 0) == (code == 0), (done.output, done.exception)
    return done.stdout if not code else str(done.exception) + done.output


@pytest.mark.parametrize("method", ["sasrec", "ada-retrieval"])
def test_a_recommender_is_trained_and_applied(method, tmp_path):
    rows, _ = interested_users(0, users=80, groups=5)
    write_log(tmp_path / "log.csv", rows)
    said = command("train", "--data", tmp_path / "log.csv", "--method", method, *QUICK, "--out", tmp_path / "run")
    assert "| popularity |" in said
    assert f"| {method} |" in said
    line = ("train", "--data", tmp_path / "log.csv", "--method", method, *QUICK, "--out", tmp_path / "run")
    assert "--overwrite" in command(*line, code=1)
    assert command(*line, "--resume") == said
    assert command(*line, "--overwrite") == said
    out = tmp_path / "a.run"
    said = command("apply", tmp_path / "run", "--data", tmp_path / "log.csv", "--top", 5, "--out", out)
    assert json.loads(said)["users"] == 80
    run = read_run(out)
    for user, row in enumerate(rows):
        best = run[f"u{user}"]
        assert len(best) == 5
        assert not {f"i{item}" for item in row} & best.keys()


def test_a_log_of_new_users_is_served_and_unknown_items_are_passed_over(tmp_path):
    write_log(tmp_path / "log.csv", interested_users(0, users=60, groups=5)[0])
    command("train", "--data", tmp_path / "log.csv", *QUICK, "--out", tmp_path / "run")
    (tmp_path / "new.tsv").write_text("anna\ti3\nanna\tnew\nben\tnew\ncleo\ti9\n")
    out = tmp_path / "b.run"
    said = json.loads(command("apply", tmp_path / "run", "--data", tmp_path / "new.tsv", "--out", out))
    assert (said["users"], said["of"]) == (2, 3)
    assert set(read_run(out)) == {"anna", "cleo"}


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--method", "sasrek"], "did you mean 'sasrec'"),
        (["--loss", "softmx"], "did you mean 'softmax'"),
        (["--option", "dmi=3"], "did you mean 'dim'"),
        (["--option", "dim=many"], "give a whole number"),
        (["--option", "dim=31"], "multiple of heads"),
        (["--option", "schedule=linar"], "did you mean 'linear'"),
        (["--option", "schedule=3"], "unknown schedule"),
    ],
)
def test_wrong_use_is_refused(words, named, tmp_path):
    write_log(tmp_path / "log.csv", interested_users(0, users=9, groups=3)[0])
    assert named in command("train", "--data", tmp_path / "log.csv", *words, "--out", tmp_path / "run", code=1)


def test_a_folder_of_something_else_and_a_log_too_short_are_refused(tmp_path):
    (tmp_path / "log.tsv").write_text("u\ta\nu\tb\n")
    said = command("train", "--data", tmp_path / "log.tsv", "--out", tmp_path / "run", code=1)
    assert "four interactions" in said
    assert "no recommender here" in command(
        "apply", tmp_path, "--data", tmp_path / "log.tsv", "--out", tmp_path / "a.run", code=1
    )


@pytest.mark.slow
def test_at_its_defaults_it_finds_what_popularity_does_not(tmp_path):
    gains = []
    for seed in range(3):
        write_log(tmp_path / "log.csv", interested_users(seed)[0])
        said = command("train", "--data", tmp_path / "log.csv", "--seed", seed, "--out", tmp_path / f"run{seed}")
        values = {row.split("|")[1].strip(): row.split("|")[2] for row in said.splitlines()[2:]}
        gains.append(float(values["sasrec"]) / max(float(values["popularity"]), 1e-3))
    assert np.median(gains) > 3


def write_vectors(folder, table):
    """Write the index of the items' vectors [items + 1, dim]; place 0 is no item."""
    index = DenseIndex.create(folder, ranker="by hand", name="circle", dimension=table.shape[1])
    ids = [f"i{item}" for item in range(1, len(table))]
    made = EncodedDocuments(np.asarray(table[1:]), np.arange(len(ids)), np.zeros(len(ids), bool))
    index.add(ids, ids, lambda texts: made)
    return folder


def test_given_vectors_stay_as_they_are_and_every_item_needs_one(tmp_path):
    rows, items = interested_users(0, users=60, groups=5)
    write_log(tmp_path / "log.csv", rows)
    table = np.random.default_rng(0).normal(size=(items + 1, 6)).astype(np.float32)
    vectors = write_vectors(tmp_path / "vectors", table)
    line = ("train", "--data", tmp_path / "log.csv", *QUICK, "--vectors", vectors, "--out", tmp_path / "run")
    command(*line)
    made = TunedRecommender.load(tmp_path / "run")
    kept = made.model.items.weight.detach().numpy()
    for place, name in enumerate(made.items, 1):
        np.testing.assert_allclose(kept[place], table[int(name[1:])])
    DenseIndex.open(vectors).delete(["i3"])
    assert "lacks 1 of" in command(*line, code=1)


@pytest.mark.slow
def test_rounds_find_both_sides_of_a_circle_at_their_defaults(tmp_path):
    gains = []
    for seed in (0, 1, 2):
        folder = tmp_path / str(seed)
        folder.mkdir()
        write_log(folder / "log.csv", users_of_two_sides(seed)[0])
        vectors = write_vectors(folder / "vectors", on_a_circle(32).numpy())
        said = command(
            *("train", "--data", folder / "log.csv", "--vectors", vectors, "--method", "ada-retrieval"),
            *("--seed", seed, "--out", folder / "run"),
        )
        found = {cells[1].strip(): float(cells[2]) for line in said.splitlines() if len(cells := line.split("|")) > 3
                 and cells[2].strip()[:1].isdigit()}  # fmt: skip
        gains.append(found["ada-retrieval"] - found["sasrec"])
    assert min(gains) > 0.05
    assert np.median(gains) > 0.1
