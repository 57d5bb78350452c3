"""Pretraining: methods learn, masks follow their rule, a killed run goes on bit for bit, bad input writes nothing."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import lorank
from lorank.errors import DataError, UsageError
from lorank.lowrank.factored import FACTORED, open_factored
from lorank.training.pretraining import FactoredSettings, MaskingSettings, PretrainRecipe, pretrain
from lorank.training.pretraining.corpus import read_corpus
from lorank.training.pretraining.model import open_masked
from lorank.training.pretraining.settings import override_pretrain, read_pretrain_recipe
from lorank.training.pretraining.windows import IGNORED, Windows, cut_windows
from lorank.training.settings import OptimizerSettings
from tiny_encoders import TEXT

CONFIG = {
    "model_type": "bert",
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 32,
}


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "corpus.jsonl"
    rows = [json.dumps({"title": f"note {i}", "text": " ".join(TEXT[: 2 + i % 5])}) for i in range(24)]
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(CONFIG))
    return path


def recipe(corpus, base, out, method="dense", seed=0, steps=30, **options):
    return PretrainRecipe(
        str(corpus),
        str(base),
        str(out),
        seed,
        FactoredSettings(method, options=options),
        MaskingSettings(max_length=24, held_out=0.1, vocabulary=200),
        OptimizerSettings(steps=steps, batch_size=8, evaluations=2),
    )


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("method", ["dense", *FACTORED])
def test_every_method_learns_and_gives_a_base_for_rankers(tmp_path, corpus, config, method, seed):
    found = pretrain(recipe(corpus, config, tmp_path / "base", method, seed, steps=25))
    assert found.loss < found.before - 0.1
    assert found.before == pytest.approx(np.log(200), rel=0.1)
    assert (found.trained < found.dense) is (method != "dense")
    record = json.loads((tmp_path / "base" / "pretrain.json").read_text())
    assert record["loss"] == pytest.approx(found.loss)
    assert record["recipe"]["factored"]["name"] == method
    ranker = lorank.BiEncoder(tmp_path / "base")
    assert np.isfinite(ranker.score("the moon", ["the earth", "words in a list"])).all()
    assert not (tmp_path / "base" / "tokenizer").exists()
    if method == "dense":
        return
    opened = open_masked(str(tmp_path / "base"), [], 100, 0)
    kept = {name: value.clone() for name, value in opened.module.named_parameters()}
    layers = open_factored(opened.module, tmp_path / "base" / "factored")
    for path, layer in layers.layers.items():
        torch.testing.assert_close(layer.dense(), kept[f"{path}.weight"], atol=1e-6, rtol=1e-5)


@pytest.mark.slow
def test_a_trained_base_keeps_its_pooling_and_pooler(tmp_path, corpus, minilm):
    found = pretrain(recipe(corpus, "minilm", tmp_path / "base", "switchlora", steps=2))
    assert found.loss <= found.before + 0.5
    source = Path(minilm)
    for name in ("modules.json", "1_Pooling/config.json"):
        assert (tmp_path / "base" / name).is_file(), name
    before, after = load_file(source / "model.safetensors"), load_file(tmp_path / "base" / "model.safetensors")
    name = "pooler.dense.weight"
    torch.testing.assert_close(after[f"bert.{name}"], before[name], atol=0, rtol=0)
    ranker, original = lorank.BiEncoder(tmp_path / "base"), lorank.BiEncoder("minilm")
    assert (ranker.pooling, ranker.max_length) == (original.pooling, original.max_length)
    pair = ("how to sort", ["sorting a list", "the moon"])
    np.testing.assert_allclose(ranker.score(*pair), original.score(*pair), atol=1.5)


slowly = [pytest.param(name, marks=pytest.mark.slow) for name in ("sltrain", "pretrain-refactor-reset")]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["switchlora", *slowly])
def test_a_run_that_was_killed_goes_on_bit_for_bit(tmp_path, corpus, config, method):
    def command(out, *more):
        options = ["--method", method, "--out", str(out), "--batch-size", "8", "--max-length", "24", "--quiet"]
        sets = [
            "masking.vocabulary=200",
            "training.checkpoint_seconds=0",
            "training.evaluations=2",
            "training.steps=80",
        ]
        given = [part for text in sets for part in ("--set", text)]
        texts = ["--texts", str(corpus), "--base", str(config)]
        return [sys.executable, "-m", "lorank", "pretrain", *texts, *options, *given, *more]

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run(command(whole), check=True, capture_output=True)
    process = subprocess.Popen(command(killed), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not list(killed.glob("checkpoints/step-0000000[3-9]*")) and time.monotonic() < deadline:
        assert process.poll() is None, "the run ended before it was killed"
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (killed / "model.safetensors").exists()
    subprocess.run(command(killed, "--resume"), check=True, capture_output=True)
    ours, theirs = load_file(killed / "model.safetensors"), load_file(whole / "model.safetensors")
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), name
    losses = [
        [json.loads(line).get("loss") for line in (out / "metrics.jsonl").read_text().splitlines()]
        for out in (killed, whole)
    ]
    assert losses[0] == losses[1]


def test_masks_follow_their_rule_and_are_drawn_anew_each_epoch():
    rows = [np.arange(5, 105, dtype=np.int32) for _ in range(40)]
    windows = Windows(rows, frozenset({0, 1, 5}), mask=1, pad=0, size=1000, share=0.2, seed=3)
    batch = windows.collate([(0, i) for i in range(40)])
    predicted = batch.labels != IGNORED
    assert (predicted.sum(1) == round(0.2 * 99)).all()
    assert not predicted[:, 0].any()
    hidden = (batch.tokens[predicted] == 1).double().mean()
    same = (batch.tokens[predicted] == batch.labels[predicted]).double().mean()
    assert float(hidden) == pytest.approx(0.8, abs=0.05)
    assert float(same) == pytest.approx(0.1, abs=0.04)
    assert torch.equal(batch.tokens[~predicted], torch.arange(5, 105).repeat(40, 1)[~predicted])
    again, other = windows.collate([(0, 7)]), windows.collate([(1, 7)])
    assert torch.equal(again.tokens, batch.tokens[7:8])
    assert not torch.equal(other.labels, again.labels)
    assert sorted(i for _, i in windows.epoch(2)) == list(range(40))
    assert windows.epoch(2) != windows.epoch(3)


def test_held_out_windows_share_no_document(corpus, config):
    texts = [f"{word} " * 30 for word in ("sorting", "moon", "query", "model", "list")] * 4
    model = open_masked(str(config), texts, 200, 0)
    learned, held_out = cut_windows(texts, model.tokenizer, MaskingSettings(max_length=16, held_out=0.2), 32, 0)
    assert len(held_out.rows) and len(learned.rows)  # noqa: PT018
    assert max(map(len, learned.rows)) <= 16
    assert held_out.epoch(0) == held_out.epoch(5)
    assert len(learned.rows) == pytest.approx(4 * len(held_out.rows), rel=0.3)


def test_corpora_of_every_kind(tmp_path, corpus):
    assert len(read_corpus(corpus)) == 24
    assert read_corpus(corpus)[0].startswith("note 0\n")
    plain = tmp_path / "plain.txt"
    plain.write_text("one line\nof the first\n\n\nthe second\n")
    assert read_corpus(plain) == ["one line\nof the first", "the second"]
    beir = tmp_path / "beir"
    beir.mkdir()
    (beir / "corpus.jsonl").write_text('{"_id": "1", "title": "t", "text": "words"}\n{"_id": "2", "text": ""}\n')
    assert read_corpus(beir) == ["t\nwords"]
    assert len(read_corpus("lohelp")) > 2000


@pytest.mark.parametrize(
    ("content", "says"),
    [("", "empty"), ("\n\n  \n", "empty"), ('{"body": 3}\n', "no text under"), ('{"a": \n', "JSON")],
)
def test_a_corpus_without_text_is_refused_and_nothing_is_written(tmp_path, config, content, says):
    path = tmp_path / "spoiled.jsonl"
    path.write_text(content)
    with pytest.raises((DataError, UsageError), match=says):
        pretrain(recipe(path, config, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_one_document_of_a_word_is_too_little(tmp_path, config):
    path = tmp_path / "word.txt"
    path.write_text("word\n")
    with pytest.raises(DataError, match="too few to hold some out"):
        pretrain(recipe(path, config, tmp_path / "out"))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"factored.name": "sltrian"}, "did you mean 'sltrain'"),
        ({"factored.name": "sltrain", "factored.rank": 0.001}, "less than one rank"),
        ({"factored.name": "sltrain", "factored.rank": 33}, "above min"),
        ({"factored.name": "sltrain", "factored.detla": 0.1}, "did you mean 'delta'"),
        ({"factored.name": "sltrain", "factored.targets": ["decoder"]}, "tied to that of another module"),
        ({"factored.name": "dense", "factored.delta": 0.1}, "dense layers have no options"),
        ({"masking.share": 1.5}, "below 1"),
        ({"masking.held_out": 0}, "above 0"),
        ({"training.minutes": 3}, "not used here"),
        ({"training.lr": -1}, "above 0"),
        ({"base": None}, "no base"),
        ({"base": "smollm2"}, "encoder|cannot|llama"),
        ({"texts": "no-such"}, "nothing at|unknown collection"),
    ],
)
def test_settings_that_cannot_be_are_refused_and_nothing_is_written(tmp_path, corpus, config, changes, says):
    with pytest.raises((UsageError, DataError), match=says):
        pretrain(override_pretrain(recipe(corpus, config, tmp_path / "out"), changes))
    assert not (tmp_path / "out").exists()


def test_a_quantised_base_and_no_configuration_are_refused(tmp_path, corpus):
    path = tmp_path / "config.json"
    for content, says in (
        ({**CONFIG, "quantization_config": {"bits": 4}}, "quantised"),
        ({"hidden_size": 3}, "no configuration of a model"),
        ({"model_type": "gpt2"}, "encoders"),
        ({**CONFIG, "num_attention_heads": 3}, "no such encoder"),
    ):
        path.write_text(json.dumps(content))
        with pytest.raises((UsageError, DataError), match=says):
            pretrain(recipe(corpus, path, tmp_path / "out"))
        assert not (tmp_path / "out").exists()


def test_a_recipe_file_and_slips_in_it(tmp_path):
    path = tmp_path / "r.toml"
    path.write_text('texts = "t.txt"\n[factored]\nname = "lost"\nchannels = 0.1\n[training]\nlr = 0.01\n')
    plan = read_pretrain_recipe(path)
    assert (plan.texts, plan.factored.name) == ("t.txt", "lost")
    assert plan.factored.options == {"channels": 0.1}  # exact: read
    for text, says in (
        ("[factord]\nname = 'lost'", "no such section"),
        ("[training]\nlrr = 1", "did you mean 'lr'"),
        ("[training]\nlr = 'fast'", "training.lr"),
        ("texts = 3\n", "texts"),
        ("[training", "TOML"),
    ):
        path.write_text(text)
        with pytest.raises((UsageError, DataError), match=says):
            read_pretrain_recipe(path)


@pytest.mark.parametrize("kind", ["roberta", "modernbert", "deberta-v2"])
def test_encoders_of_other_kinds(tmp_path, corpus, tiny_folders, kind):
    source = tiny_folders[kind]
    found = pretrain(replace(recipe(corpus, source, tmp_path / "base", "greenformers-lrt", steps=3)))
    assert np.isfinite(found.loss)
    assert np.isfinite(lorank.BiEncoder(tmp_path / "base").score("the moon", ["the earth"])).all()


def test_a_finished_run_is_not_replaced_unasked(tmp_path, corpus, config):
    plan = recipe(corpus, config, tmp_path / "base", steps=2)
    pretrain(plan)
    with pytest.raises(UsageError, match="already holds a run"):
        pretrain(plan)
    before = (tmp_path / "base" / "model.safetensors").read_bytes()
    again = pretrain(plan, resume=True)
    assert again.outcome.steps == 2
    assert (tmp_path / "base" / "model.safetensors").read_bytes() == before
    pretrain(plan, overwrite=True)
