"""Compressions by name through `lorank train`: each runs at its defaults, is resumed and is opened again."""

import json
from statistics import fmean

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from lorank.cli.app import app
from lorank.data import write_beir
from lorank.data.collection import Collection, Split
from lorank.errors import UsageError
from lorank.lowrank.compression import COMPRESSIONS
from lorank.ranking.metrics.measures import mean_of
from lorank.ranking.scorers import BiEncoder
from lorank.training import fit
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


SUBJECTS = ["sorting", "moon", "query", "adaptation", "list", "earth"]
ANSWERS = ["sun", "relevant", "language", "words", "rankers", "models"]


def planted(folder):
    """A BEIR folder whose queries name two subjects by words that their document replaces by others."""
    rng = np.random.default_rng(0)
    documents, splits = {}, {}
    for split, count in (("train", 54), ("dev", 16), ("test", 24)):
        queries, qrels = {}, {}
        for i in range(count):
            pair = rng.choice(6, 2, replace=False)
            documents[f"d{len(documents)}"] = " ".join(rng.permutation(["document", *(ANSWERS[j] for j in pair), "of"]))
            queries[f"{split}{i}"] = " ".join(["document", *(SUBJECTS[j] for j in pair)])
            qrels[f"{split}{i}"] = {f"d{len(documents) - 1}": 1}
        splits[split] = Split(split, queries, qrels)
    data = Collection("planted", list(documents), list(documents.values()), splits)
    write_beir(data, folder)
    return data


@pytest.fixture(scope="module")
def good(tiny_folders, tmp_path_factory):
    """A planted collection, and the folder of a bi-encoder that learned it."""
    home = tmp_path_factory.mktemp("planted")
    data = planted(home / "data")
    keys = {"adapter.name": "full", "keep": "tuned", "training.steps": 300, "training.lr": 3e-3}
    fit(BiEncoder(str(tiny_folders["bert"])), data, out=home / "good", recipe=override(RecipeFile(), keys))
    return data, home / "good" / "model" / "model"


@pytest.mark.slow
@pytest.mark.parametrize("method", COMPRESSIONS)
def test_at_its_defaults_ranks_fall_and_a_trained_ranker_stays_as_good(good, method, tmp_path):
    data, base = good
    values = {}
    for name in ("none", method):
        values[name] = []
        for seed in range(3):
            out = tmp_path / f"{name}-{seed}"
            keys = {"compress.name": name, "adapter.name": "full", "keep": "tuned", "seed": seed}
            tuned = fit(BiEncoder(str(base)), data, out=out, recipe=override(RecipeFile(), keys))
            run = {
                query: dict(zip(data.document_ids, map(float, tuned.score(text, list(data.documents))), strict=True))
                for query, text in data.test.queries.items()
            }
            values[name].append(mean_of(run, data.test.qrels, "nDCG@10"))
            if name != "none":
                ranks = json.loads((out / "run.json").read_text())["compress"]["ranks"]
                assert fmean(ranks.values()) < 0.75 * 32
    assert fmean(values[method]) > 0.8 * fmean(values["none"])


def test_the_divergence_of_lists():
    teacher = torch.tensor([[2.0, 1.0, 0.0], [1.0, 3.0, 7.0]])
    mask = torch.tensor([[True, True, True], [True, True, False]])
    assert float(list_divergence(teacher, teacher, mask)) == pytest.approx(0, abs=1e-6)
    student = torch.zeros(2, 3)
    p, q = teacher[0].softmax(0), teacher[1, :2].softmax(0)
    expected = ((p * (p * 3).log()).sum() + (q * (q * 2).log()).sum()) / 2
    assert float(list_divergence(teacher, student, mask)) == pytest.approx(float(expected), rel=1e-5)
