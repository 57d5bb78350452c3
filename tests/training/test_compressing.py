"""Compressions by name through `lorank train`: each runs at its defaults, is resumed and is opened again."""

import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from lorank.cli.app import app
from lorank.data import write_beir
from lorank.errors import UsageError
from lorank.lowrank.compression import COMPRESSIONS
from lorank.training.checks import check_options
from lorank.training.hooks.compressing import list_divergence
from lorank.training.recipe import RecipeFile, override
from lorank.tuned.ranker import TunedRanker


@pytest.fixture(scope="module")
def folder(tmp_path_factory, texts):
    made = tmp_path_factory.mktemp("compressed")
    write_beir(texts, made / "data")
    return made


def command(folder, base, out, method, *more):
    options = ["--data", str(folder / "data"), "--base", str(base), "--out", str(folder / out), "--quiet", "--no-test"]
    short = ["--steps", "6", "--batch-size", "4", "--lr", "1e-3", "--set", "training.evaluations=2"]
    return CliRunner().invoke(app, ["train", *options, *short, "--compress", method, *more])


@pytest.mark.parametrize("method", COMPRESSIONS)
@pytest.mark.parametrize("kind", ["bi-encoder", "cross-encoder"])
def test_every_method_runs_at_its_defaults_and_its_ranker_opens(folder, tiny_folders, method, kind):
    out = f"{method}-{kind}"
    done = command(folder, tiny_folders["bert"], out, method, "--kind", kind)
    assert done.exit_code == 0, done.output
    assert_has_ranks(folder / out)


def assert_has_ranks(out):
    """The folder of a run opens as plain layers, whose weights have the ranks that its record says."""
    record = json.loads((out / "run.json").read_text())
    assert record["settings"]["adapter"]["name"] == "full"
    assert record["adapter"]["trained_parameters"] > 0
    assert record["outcome"]["best_step"] > 0
    ranks = record["compress"]["ranks"]
    assert record["compress"]["factored_values"] <= record["compress"]["dense_values"]
    tuned = TunedRanker.load(out)
    scores = tuned.score("moon", ["the moon and the sun", "a list of words"])
    assert np.isfinite(scores).all()
    assert ranks
    for path, rank in ranks.items():
        weight = tuned.ranker.module.get_submodule(path).weight
        values = torch.linalg.svdvals(weight.detach())
        assert int((values > 1e-4 * values[0]).sum()) <= rank, path


@pytest.mark.parametrize("method", ["maestro", "pela"])
def test_the_ranker_that_folds_end_with_has_the_ranks_too(folder, tiny_folders, method):
    out = f"folds-{method}"
    done = command(folder, tiny_folders["bert"], out, method, "--kind", "bi-encoder", "--folds", "3")
    assert done.exit_code == 0, done.output
    assert_has_ranks(folder / out)


def test_pruning_goes_with_a_projected_optimizer(folder, tiny_folders):
    more = ("--kind", "bi-encoder", "--optimizer", "galore", "--rank", "2")
    done = command(folder, tiny_folders["bert"], "projected", "trp", *more)
    assert done.exit_code == 0, done.output
    assert_has_ranks(folder / "projected")


def test_a_compression_is_resumed_to_the_bit(folder, tiny_folders, monkeypatch):
    from lorank.training.loop.loop import Trainer

    base = tiny_folders["bert"]
    assert command(folder, base, "whole", "pela", "--kind", "bi-encoder").exit_code == 0
    steps = Trainer.step

    def stops(self):
        if self.progress.step == 4:
            raise KeyboardInterrupt
        steps(self)

    monkeypatch.setattr(Trainer, "step", stops)
    command(folder, base, "halted", "pela", "--kind", "bi-encoder")
    monkeypatch.setattr(Trainer, "step", steps)
    done = command(folder, base, "halted", "pela", "--kind", "bi-encoder", "--resume")
    assert done.exit_code == 0, done.output
    ours, theirs = (TunedRanker.load(folder / out).ranker.module.state_dict() for out in ("halted", "whole"))
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), name


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"compress.name": "pela", "adapter.name": "lora"}, "trains whole weights"),
        ({"compress.name": "maestro", "optimizer.name": "galore"}, "leave one of them out"),
        ({"compress.name": "trp", "compress.options.enrgy": 1}, "did you mean 'energy'"),
        ({"compress.name": "trp", "compress.energy": "much"}, "compress.energy"),
        ({"compress.options.energy": 0.5}, "no compression is named"),
        ({"compress.name": "trp", "compress.energy": 1.5}, "'trp': energy=1.5 is above 0 and at most 1"),
        ({"compress.name": "pela", "compress.factor": 0.5}, "'pela': factor=0.5 is above 1"),
        ({"compress.name": "maestro", "compress.cut": 2.0}, "'maestro': .*cut=2"),
    ],
)
def test_what_does_not_go_together_is_refused_before_any_work(changes, says):
    with pytest.raises(UsageError, match=says):
        check_options(override(RecipeFile(base="minilm"), changes))


def test_the_divergence_of_lists():
    teacher = torch.tensor([[2.0, 1.0, 0.0], [1.0, 3.0, 7.0]])
    mask = torch.tensor([[True, True, True], [True, True, False]])
    assert float(list_divergence(teacher, teacher, mask)) == pytest.approx(0, abs=1e-6)
    student = torch.zeros(2, 3)
    p, q = teacher[0].softmax(0), teacher[1, :2].softmax(0)
    expected = ((p * (p * 3).log()).sum() + (q * (q * 2).log()).sum()) / 2
    assert float(list_divergence(teacher, student, mask)) == pytest.approx(float(expected), rel=1e-5)
