"""A calibration is fitted on dev, kept in the model folder, and applied wherever the ranker is used."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit
from typer.testing import CliRunner

from lorank.cli.app import app
from lorank.data import write_beir
from lorank.data.collection import Collection, Split
from lorank.errors import LorankError, UsageError
from lorank.ranking.calibration.folder import Calibration, read_calibration, write_calibration
from lorank.ranking.calibration.isotonic import Isotonic
from lorank.ranking.calibration.platt import Platt
from lorank.ranking.scorers import CrossEncoder
from lorank.ranking.scorers.bm25 import BM25Statistics
from lorank.ranking.scorers.ranker import Ranker
from lorank.tuned.calibrate import CalibrationSettings, calibrate, sample_queries
from lorank.tuned.first_stage import Component, FirstStage
from lorank.tuned.mix import Mix
from lorank.tuned.open_ranker import open_ranker
from lorank.tuned.ranker import TunedRanker

SPLITS = ("dev", "test")


class Said(Ranker):
    """Its score is the number that a document holds."""

    def score_pairs(self, queries, documents, pairs, on_progress=None):
        return np.array([float(documents[d]) for _, d in pairs], np.float32)


def population(seed, queries=300, per_query=8, slope=1.5, intercept=-1.0):
    """Documents that state their score; each is relevant with probability logistic(slope s + intercept)."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=2 * queries * per_query).round(6)
    relevant = rng.random(len(scores)) < expit(slope * scores + intercept)
    names = [f"d{i}" for i in range(len(scores))]
    splits, candidates = {}, {}
    for number, name in enumerate(SPLITS):
        qrels = {}
        for i in range(queries):
            at = range((number * queries + i) * per_query, (number * queries + i + 1) * per_query)
            qrels[f"{name}{i}"] = {names[j]: int(relevant[j]) for j in at}
        candidates[name] = {query: dict.fromkeys(row, 0.0) for query, row in qrels.items()}
        splits[name] = Split(name, dict.fromkeys(qrels, "a query"), qrels, candidates[name])
    return Collection("planted", names, [str(score) for score in scores], splits), candidates


def fitted(seed=0, **settings):
    data, candidates = population(seed)
    ranker = TunedRanker(Said())  # type: ignore[arg-type]
    return calibrate(ranker, data, candidates, CalibrationSettings(**settings), lambda *_: None)


def test_the_planted_line_is_found_and_measured_on_test():
    found = [fitted(seed, method="platt") for seed in range(3)]
    assert np.mean([each.calibration.calibrator.slope for each in found]) == pytest.approx(1.5, abs=0.15)
    assert np.mean([each.calibration.calibrator.intercept for each in found]) == pytest.approx(-1.0, abs=0.15)
    for each in found:
        assert each.after.ece < each.before.ece
        assert each.after.log_loss < each.before.log_loss
        assert each.dev["pairs"] == 2400
        assert sum(point.pairs for point in each.points) == 2400


def test_the_threshold_holds_on_test_and_a_failed_one_is_named():
    found = [fitted(seed, precision=0.7, unit="document") for seed in range(5)]
    thresholds = [each for each in found if each.calibration.threshold is not None]
    assert thresholds
    assert np.mean([each.held.precision for each in thresholds]) > 0.7
    assert all(0 < each.held.answered <= 1 for each in thresholds)
    hopeless = fitted(0, precision=0.999)
    assert hopeless.certified.score is None
    assert hopeless.calibration.threshold is None
    assert hopeless.held is None


def test_the_coverage_holds_on_test():
    found = [fitted(seed, coverage=0.8, stream="saocp").covered for seed in range(3)]
    assert np.mean([each.fixed.coverage for each in found]) == pytest.approx(0.8, abs=0.08)
    assert np.mean([each.online.coverage for each in found]) == pytest.approx(0.8, abs=0.08)


def test_the_sample_keeps_judged_queries_in_their_order():
    split = Split("dev", {f"q{i}": str(i) for i in range(30)}, {f"q{i}": {"d": 1} for i in range(0, 30, 2)})
    chosen = list(sample_queries(split, 5, np.random.default_rng(0)))
    assert len(chosen) == 5
    assert [query for query in split.queries if query in chosen] == chosen
    assert set(chosen) <= set(split.qrels)


@pytest.fixture(scope="module")
def folder(texts, tiny_folders, tmp_path_factory):
    """A tuned ranker that BM25 decides, with a trace of a cross-encoder's random head."""
    home = tmp_path_factory.mktemp("calibrated") / "run"
    stage = FirstStage("bm25", (Component("bm25"),), BM25Statistics.of(list(texts.documents)))
    ranker = CrossEncoder(tiny_folders["bert"], head="random", max_length=40)
    TunedRanker(ranker, first_stage=stage, mix=Mix(1.0, 0.001)).save(home / "model")
    return home


def test_a_calibrated_ranker_states_probabilities_and_keeps_its_order(folder):
    ranker = open_ranker(folder)
    documents = ["sorting a list", "the moon", "words of a list", ""]
    raw = ranker.score("sorting words", documents)
    ranker.calibration = Calibration(Platt(3.0, 0.5))
    assert ranker.score("sorting words", documents) == pytest.approx(expit(3.0 * raw + 0.5), abs=1e-6)
    assert ranker.score("sorting words", documents, raw=True) == pytest.approx(raw)
    before, after = ranker.rank("sorting words", documents, raw=True), ranker.rank("sorting words", documents)
    assert [each.index for each in before] == [each.index for each in after]
    assert [each.score for each in after] == pytest.approx(expit(3.0 * np.sort(raw)[::-1] + 0.5), abs=1e-6)
    flat = replace(ranker, calibration=Calibration(Isotonic((0.0,), (0.5,))))
    assert [each.index for each in flat.rank("sorting words", documents)] == [each.index for each in before]
    assert len(ranker.rank("sorting words", documents, top=2)) == 2


def test_the_folder_keeps_it_beside_its_manifest(folder, tmp_path):
    ranker = open_ranker(folder)
    ranker.calibration = Calibration(Platt(2.0, -1.0), fitted_on={"queries": 3})
    ranker.save(tmp_path / "model")
    again = open_ranker(tmp_path / "model")
    assert again.calibration == ranker.calibration
    write_calibration(tmp_path / "model" / "lorank.json", Calibration(Platt(4.0, 0.0)))
    assert open_ranker(tmp_path / "model").calibration == Calibration(Platt(4.0, 0.0))
    write_calibration(tmp_path / "model" / "lorank.json", None)
    assert open_ranker(tmp_path / "model").calibration is None


@pytest.fixture(scope="module")
def beir(texts, tmp_path_factory):
    here = tmp_path_factory.mktemp("beir") / "beir"
    write_beir(texts, here)
    return here


def run_command(*arguments):
    return CliRunner().invoke(app, [str(each) for each in arguments])


def test_the_command_calibrates_and_rank_answers_in_probabilities(folder, beir, tmp_path):
    (tmp_path / "texts.txt").write_text("sorting a list\nthe moon\n")
    picture = tmp_path / "diagram.png"
    done = run_command("calibrate", folder, "--data", beir, "--method", "isotonic", "--json", "--plot", picture)
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["calibration"]["kind"] == "isotonic"
    assert picture.stat().st_size > 1000
    card = folder / "model" / "lorank.json"
    assert str(card) == report["saved"]
    assert read_calibration(card).fitted_on["queries"] == 6
    write_calibration(card, Calibration(Platt(1.0, 0.0)))
    rank = ("rank", "--ranker", folder, "--query", "sorting words", "--documents", tmp_path / "texts.txt")
    rows = [json.loads(line) for line in run_command(*rank).stdout.splitlines()]
    raw = [json.loads(line) for line in run_command(*rank, "--scale", "raw").stdout.splitlines()]
    assert [row["index"] for row in rows] == [row["index"] for row in raw]
    assert [row["score"] for row in rows] == pytest.approx([expit(row["score"]) for row in raw], abs=1e-6)
    shares = [json.loads(line)["score"] for line in run_command(*rank, "--scale", "softmax").stdout.splitlines()]
    assert sum(shares) == pytest.approx(1.0)


def test_rank_abstains_where_nothing_reaches_the_threshold(folder, tmp_path):
    (tmp_path / "texts.txt").write_text("sorting a list\nthe moon\n")
    rank = ("rank", "--ranker", folder, "--query", "sorting words", "--documents", tmp_path / "texts.txt")
    card = folder / "model" / "lorank.json"
    calibration = Calibration.from_dict(
        {
            "kind": "platt",
            "slope": 1.0,
            "intercept": 0.0,
            "thresholds": [{"score": 1e6, "target": 0.9, "confidence": 0.95, "unit": "best"}],
        }
    )
    write_calibration(card, calibration)
    (row,) = [json.loads(line) for line in run_command(*rank, "--above-threshold").stdout.splitlines()]
    assert row["abstain"] is True
    assert row["best"] < row["threshold"]
    low = replace(calibration, thresholds=(replace(calibration.thresholds[0], score=-1e6),))
    write_calibration(card, low)
    assert len(run_command(*rank, "--above-threshold").stdout.splitlines()) == 2
    (row,) = run_command(*rank, "--threshold", "2.0").stdout.splitlines()
    assert json.loads(row)["abstain"] is True
    write_calibration(card, None)
    assert isinstance(run_command(*rank, "--above-threshold").exception, UsageError)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--method", "plat"], "did you mean 'platt'"),
        (["--precision-at", "90"], "between 0 and 1"),
        (["--unit", "bst"], "did you mean 'best'"),
        (["--stream", "saocp"], "--coverage-at"),
        (["--plot", "x.txt"], ".png"),
        (["--set", "adapter.rank=2"], "reading"),
    ],
)
def test_wrong_use_is_met_before_any_work(options, said, beir):
    done = run_command("calibrate", "bm25", "--data", beir, *options)
    assert isinstance(done.exception, UsageError)
    assert said in str(done.exception)


def test_a_ranker_without_a_folder_is_measured_and_not_saved(beir):
    done = run_command("calibrate", "bm25", "--data", beir)
    assert done.exit_code == 0, done.output
    assert "chosen" in done.stdout
    assert "not saved" in done.stdout
    done = run_command("calibrate", "bm25", "--data", beir, "--precision-at", "0.9")
    assert isinstance(done.exception, LorankError)
    assert "no threshold" in str(done.exception)
