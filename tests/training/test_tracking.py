"""A run followed by a tracker: accelerate's own class for them, with a tracker that keeps what it is sent."""

import pytest
from accelerate.tracking import GeneralTracker
from typer.testing import CliRunner

from lorank.cli.app import app
from lorank.errors import UsageError
from lorank.ranking.scorers import BiEncoder
from lorank.training import Recipe, fit
from lorank.training.hooks.tracking import Tracking
from lorank.training.settings import AdapterSettings, ListSettings, OptimizerSettings, as_plain
from lorank.training.trackers import PACKAGES, check_trackers


class Kept(GeneralTracker):
    """Keeps settings and numbers in lists."""

    name = "kept"
    requires_logging_directory = False

    def __init__(self):
        super().__init__()
        self.settings, self.rows, self.finished = {}, [], False

    @property
    def tracker(self):
        return self.rows

    def store_init_configuration(self, values):
        self.settings = values

    def log(self, values, step=None, **_):
        self.rows.append((step, values))

    def finish(self):
        self.finished = True


@pytest.fixture
def recipe():
    return Recipe(
        adapter=AdapterSettings("lora", rank=2),
        lists=ListSettings(negatives=2),
        training=OptimizerSettings(steps=4, batch_size=4, evaluations=2),
    )


def test_every_step_and_evaluation_is_sent_and_the_run_is_the_same(texts, tiny_folders, recipe, tmp_path):
    kept = Kept()
    tracking = Tracking([kept], tmp_path / "run", as_plain(recipe))
    tuned = fit(BiEncoder(tiny_folders["bert"]), texts, recipe=recipe, out=tmp_path / "run", hooks=[tracking])
    tracking.close({"dev": 0.5})
    plain = fit(BiEncoder(tiny_folders["bert"]), texts, recipe=recipe, out=tmp_path / "plain")
    assert kept.settings["adapter.rank"] == 2
    assert kept.finished
    losses = [step for step, values in kept.rows if "loss" in values]
    assert losses == [1, 2, 3, 4]
    assert [step for step, values in kept.rows if "dev/nDCG@10" in values] == [0, 2, 4]
    assert kept.rows[-1] == (None, {"dev": 0.5})  # exact: handed on
    pairs = [("sorting", ["sorting a list", "the moon"])]
    for query, documents in pairs:
        assert tuned.score(query, documents) == pytest.approx(plain.score(query, documents), rel=1e-5, abs=1e-6)


def test_a_run_is_resumed_with_or_without_its_tracker(texts, tiny_folders, recipe, tmp_path):
    tracking = Tracking([Kept()], tmp_path / "run", {})
    fit(BiEncoder(tiny_folders["bert"]), texts, recipe=recipe, out=tmp_path / "run", hooks=[tracking])
    fit(BiEncoder(tiny_folders["bert"]), texts, recipe=recipe, out=tmp_path / "run", resume=True)


def test_a_tracker_that_is_not_there_is_refused_before_any_work(monkeypatch):
    with pytest.raises(UsageError, match="did you mean 'wandb'"):
        check_trackers(["wanbd"])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for name in PACKAGES:
        with pytest.raises(UsageError, match=r"its package is not installed; pip install"):
            check_trackers([name])
    done = CliRunner().invoke(app, ["train", "--data", "pydocs", "--base", "minilm", "--out", "x", "--track", "wandb"])
    assert isinstance(done.exception, UsageError)
    assert "pip install 'lorank[wandb]'" in str(done.exception)


def test_the_trackers_are_those_of_accelerate():
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    assert set(PACKAGES) == {str(name) for name in LOGGER_TYPE_TO_CLASS}
