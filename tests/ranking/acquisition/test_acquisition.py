"""Batches to judge follow their laws, TAILOR finds the planted strategy, and the command's file goes round.

Among the methods of the catalogue that these are facts of: stochastic-batch-acquisition.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from lorank.cli.app import app
from lorank.data import write_beir
from lorank.data.collection import Collection
from lorank.errors import UsageError
from lorank.ranking.acquisition import INFORMATIVE, STRATEGIES, Tailor, choose_batch
from lorank.ranking.acquisition.informative import informative_pairs

SCORES = np.array([0.1, 0.4, 0.2, 0.3])


@pytest.mark.parametrize("strategy", ["power", "softmax", "softrank", "top"])
def test_an_infinite_beta_takes_the_best(strategy: str) -> None:
    found = choose_batch(SCORES, 3, strategy, np.random.default_rng(0), beta=float("inf"))
    assert found.tolist() == [1, 3, 2]


@pytest.mark.parametrize("beta", [0.0, 1.0, 2.5])
@pytest.mark.parametrize("strategy", ["power", "softmax", "softrank"])
def test_stochastic_batch_acquisition_draws_follow_the_law(strategy: str, beta: float) -> None:
    rng, rounds = np.random.default_rng(1), 6000
    found = np.array([choose_batch(SCORES, 2, strategy, rng, beta=beta) for _ in range(rounds)])
    ranks = np.array([4, 1, 3, 2])
    law = {"power": SCORES**beta, "softmax": np.exp(beta * SCORES), "softrank": ranks**-beta}[strategy]
    law = law / law.sum()
    assert np.bincount(found[:, 0], minlength=4) / rounds == pytest.approx(law, abs=0.035)
    second = sum(law[first] * np.where(np.arange(4) == first, 0, law / (1 - law[first])) for first in range(4))
    assert np.bincount(found[:, 1], minlength=4) / rounds == pytest.approx(second, abs=0.035)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_batch_has_each_candidate_once_and_bad_numbers_are_refused(strategy: str) -> None:
    rng = np.random.default_rng(2)
    assert sorted(choose_batch(SCORES, 9, strategy, rng).tolist()) == [0, 1, 2, 3]
    assert choose_batch(SCORES, 0, strategy, rng).tolist() == []
    assert choose_batch(np.zeros(0), 3, strategy, rng).tolist() == []
    for changes in ({"count": -1}, {"beta": -1.0}, {"scores": np.array([np.nan])}, {"strategy": "powr"}):
        with pytest.raises(UsageError):
            choose_batch(**({"scores": SCORES, "count": 1, "strategy": strategy, "rng": rng} | changes))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="softmax"):
        choose_batch(-SCORES, 1, "power", rng)


@pytest.mark.parametrize("name", INFORMATIVE)
def test_informativeness_lies_between_0_and_1_and_judged_pairs_are_left_out(name: str) -> None:
    rng = np.random.default_rng(3)
    scores = {"q": {f"d{i}": float(rng.normal()) for i in range(9)}, "one": {"d0": 1.0}}
    first = {"q": {f"d{i}": float(rng.normal()) for i in range(9)}}
    pairs, values = informative_pairs(scores, first, {"q": {"d3": 0}}, name)
    assert ("q", "d3") not in pairs
    assert len(pairs) == len(values) == 9
    assert ((values >= 0) & (values <= 1)).all()


def test_tailor_finds_the_planted_strategy_and_needs_few_more_labels_than_it() -> None:
    shares = {"good": 0.5, "poor": 0.05, "random": 0.03}
    found = []
    for seed in range(5):
        rng, tailor, relevant = np.random.default_rng(seed), Tailor(list(shares)), 0
        for _ in range(20):
            for way in tailor.draw(10, rng):
                is_relevant = bool(rng.random() < shares[way])
                relevant += is_relevant
                tailor.learn(way, is_relevant)
        found.append((relevant, tailor.draw(200, rng).count("good") / 200))
    relevant, share = np.median(found, axis=0)
    assert share > 0.7
    assert relevant > 0.6 * 0.5 * 200
    posterior = tailor.posterior()
    counts = [sum(at == i for at, _ in tailor.labels) for i in range(3)]
    assert posterior.sum(1) == pytest.approx(np.array(counts) + 2, abs=1e-9)
    with pytest.raises(UsageError, match="each once"):
        Tailor(["a", "a"])


def command(*words: Any, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["label", *map(str, words)])
    assert (done.exit_code == 0) == (code == 0), (done.output, done.exception)
    return done.stdout if not code else str(done.exception)


@pytest.mark.parametrize("strategy", ["power", "tailor"])
def test_the_command_proposes_what_nobody_judged_and_reads_the_grades_again(
    strategy: str, texts: Collection, tiny_folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_beir(texts, tmp_path / "beir")
    line = ["--data", tmp_path / "beir", "--ranker", tiny_folders["bert"], "--strategy", strategy, "--count", 12]
    line += ["--kind", "bi-encoder"]
    command(*line, "--out", tmp_path / "one.jsonl")
    rows = [json.loads(row) for row in (tmp_path / "one.jsonl").read_text().splitlines()]
    assert len(rows) == len({(row["query_id"], row["document_id"]) for row in rows}) == 12
    for row in rows:
        assert row["document_id"] not in texts.train.qrels[row["query_id"]]
        assert row["query"] == texts.train.queries[row["query_id"]]
    for i, row in enumerate(rows[:8]):
        row["grade"] = i % 2
    (tmp_path / "one.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    more = ["--judged", tmp_path / "one.jsonl", "--qrels", tmp_path / "q.qrels", "--seed", 1]
    command(*line, *more, "--out", tmp_path / "two.jsonl")
    second = [json.loads(row) for row in (tmp_path / "two.jsonl").read_text().splitlines()]
    graded = {(row["query_id"], row["document_id"]) for row in rows[:8]}
    assert not graded & {(row["query_id"], row["document_id"]) for row in second}
    assert len((tmp_path / "q.qrels").read_text().splitlines()) == 8
    if strategy == "tailor":
        assert len({row["strategy"] for row in second}) > 1


def test_the_command_refuses_slips_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text('{"query_id": "q", "document_id": "d", "grade": "yes"}\n')
    base = ["--data", "pydocs", "--ranker", "bm25", "--out", tmp_path / "x.jsonl"]
    for more, says in [
        (["--strategy", "powr"], "power"),
        (["--by", "uncertain"], "uncertainty"),
        (["--judged", tmp_path / "bad.jsonl"], "bad.jsonl:1"),
    ]:
        assert says in command(*base, *more, code=1)
