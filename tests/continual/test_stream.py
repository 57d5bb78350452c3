"""Streams: each stage goes on from the one before, stages that are done are not trained again, the matrix adds up."""

import json
from dataclasses import replace

import pytest
import torch

from lorank.continual import METHODS, QualityMatrix, make_method, to_markdown, train_stream
from lorank.continual.core import train_stream as stream_module
from lorank.errors import UsageError
from lorank.reporting import write_report
from lorank.tuned.ranker import TunedRanker
from tiny_streams import method


def weights_of(folder):
    tuned = TunedRanker.load(folder)
    tuned.merge()
    return {name: own.clone() for name, own in tuned.trainable.module.state_dict().items() if "forms" not in name}


def test_the_matrix_follows_its_formulas():
    rows = ((0.1, 0.2, 0.3), (0.5, 0.25, 0.2), (0.3, 0.6, 0.35), (0.4, 0.5, 0.7))
    matrix = QualityMatrix(("a", "b", "c"), rows)
    assert matrix.forgetting() == pytest.approx([0.5 - 0.4, 0.6 - 0.5, 0.0])
    assert matrix.transfer() == pytest.approx([0.0, 0.25 - 0.2, 0.35 - 0.3])
    assert matrix.learned() == pytest.approx([0.5, 0.6, 0.7])
    assert matrix.final_mean() == pytest.approx((0.4 + 0.5 + 0.7) / 3)
    assert matrix.mean_forgetting() == pytest.approx(0.1)
    assert matrix.mean_transfer() == pytest.approx(0.05)
    table = to_markdown(matrix)
    assert len({len(line) for line in table.splitlines()}) == 1
    assert ".600*" in table


@pytest.mark.parametrize("rows", [(), ((0.1,),), ((0.1, 0.2),) * 4])
def test_a_matrix_of_another_shape_is_refused(rows):
    with pytest.raises(UsageError):
        QualityMatrix(("a", "b"), rows)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_method_learns_a_stream_at_its_defaults(name, three, recipe, tmp_path):
    done = train_stream(method(recipe, name), three[:2], tmp_path / "out")
    record = json.loads((tmp_path / "out/continual.json").read_text())
    assert record["method"] == name
    assert len(record["quality"]) == 3
    assert all(0 <= value <= 1 for row in record["quality"] for value in row)
    assert (done.folder / "lorank.json").is_file()
    assert [stage["collection"] for stage in record["stages"]] == ["sorting", "heaven"]
    assert TunedRanker.load(done.folder).score("moon of", ["moon earth", "words"]).shape == (2,)
    page = write_report(tmp_path / "out").read_text()
    assert 'id="continual"' in page


@pytest.mark.slow
def test_a_sequential_stream_goes_on_with_the_same_adapter(three, recipe, tmp_path):
    train_stream(recipe, three[:2], tmp_path / "out")
    first, second = (TunedRanker.load(tmp_path / f"out/stage-{n}").adapter for n in (1, 2))
    assert first.num_parameters() == second.num_parameters()
    alone = replace(recipe, training=replace(recipe.training, lr=1e-12))
    train_stream(alone, three[:2], tmp_path / "still")
    # with a rate of almost 0 the second stage ends where the first did
    one, two = (weights_of(tmp_path / f"still/stage-{n}") for n in (1, 2))
    assert all(torch.allclose(one[key], two[key], atol=1e-6) for key in one)
    one, two = (weights_of(tmp_path / f"out/stage-{n}") for n in (1, 2))
    assert any((one[key] - two[key]).abs().max() > 1e-4 for key in one)


@pytest.mark.slow
def test_separate_adapters_forget_nothing_and_pass_nothing_on(three, recipe, tmp_path):
    done = train_stream(method(recipe, "one-adapter-each"), three, tmp_path / "out").matrix
    assert done.mean_forgetting() == pytest.approx(0)
    assert done.mean_transfer() == pytest.approx(0)


@pytest.mark.slow
def test_a_stream_that_was_killed_does_not_train_a_stage_again(three, recipe, tmp_path, monkeypatch):
    whole = train_stream(recipe, three, tmp_path / "whole")
    fit = stream_module.fit_run

    def killed(ranker, data, *rest, **named):
        if data.name == "reading":
            raise KeyboardInterrupt
        return fit(ranker, data, *rest, **named)

    monkeypatch.setattr(stream_module, "fit_run", killed)
    with pytest.raises(KeyboardInterrupt):
        train_stream(recipe, three, tmp_path / "out")
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.safetensors")}
    trained = []

    def counted(ranker, data, *rest, **named):
        trained.append(data.name)
        return fit(ranker, data, *rest, **named)

    monkeypatch.setattr(stream_module, "fit_run", counted)
    again = train_stream(recipe, three, tmp_path / "out", resume=True)
    assert trained == ["reading"]
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())
    assert again.matrix.values == pytest.approx(whole.matrix.values)
    train_stream(recipe, three, tmp_path / "out", resume=True)
    assert trained == ["reading"]


def test_a_stream_is_refused_where_it_cannot_be(three, recipe, tmp_path, rows):
    with pytest.raises(UsageError, match="two collections"):
        train_stream(recipe, three[:1], tmp_path / "a")
    with pytest.raises(UsageError, match="feature rows"):
        train_stream(recipe, [three[0], rows], tmp_path / "a")
    with pytest.raises(UsageError, match="unknown continual method 'reply'"):
        make_method("reply")
    with pytest.raises(UsageError, match="share"):
        make_method("replay", {"share": 1.0})
    train_stream(recipe, three[:2], tmp_path / "out")
    with pytest.raises(UsageError, match="already holds a stream"):
        train_stream(recipe, three[:2], tmp_path / "out")
    with pytest.raises(UsageError, match="another tests"):
        train_stream(recipe, three[1:], tmp_path / "out", resume=True)
    budget = replace(recipe, adapter=replace(recipe.adapter, name="adalora"))
    with pytest.raises(UsageError, match="moves ranks"):
        train_stream(budget, three[:2], tmp_path / "b")


def test_a_collection_with_one_judged_split_is_divided(three):
    whole = replace(three[0].train, name="test")
    parts = stream_module.divided(replace(three[0], splits={"test": whole}), 0)
    assert set(parts.splits) == {"train", "dev", "test"}
    assert sum(len(split) for split in parts.splits.values()) == len(whole)
