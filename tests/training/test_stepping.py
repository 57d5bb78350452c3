"""Rules inside the training loop: every one trains, is taken up after kill -9, and `auto` is the adapter's own."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch

from lorank.data import write_beir
from lorank.errors import UsageError
from lorank.lowrank.rules import RULES
from lorank.ranking.scorers import BiEncoder, CrossEncoder
from lorank.training import fit
from lorank.training.hooks.rule import make_stepping, rule_name, without_clipping
from lorank.training.settings import AdapterSettings, ListSettings, OptimizerSettings, Recipe, RuleSettings

pytestmark = pytest.mark.usefixtures("own_cache")
QUICK = Recipe(
    training=OptimizerSettings(steps=4, batch_size=4, lr=5e-3, evaluations=2), lists=ListSettings(negatives=3, depth=20)
)


@pytest.mark.parametrize("name", RULES)
def test_every_rule_trains_a_ranker_and_what_is_saved_scores_as_it(name, texts, bert, tmp_path):
    adapter = AdapterSettings("bilora" if name == "bilora" else "lora", rank=2, targets=["query", "value"])
    recipe = replace(QUICK, adapter=adapter, rule=RuleSettings(name))
    tuned = fit(BiEncoder(bert), texts, out=tmp_path / "run", recipe=recipe)
    from lorank.training import load_ranker

    documents = list(texts.documents[:6])
    one, two = tuned.score("moon earth", documents), load_ranker(tmp_path / "run").score("moon earth", documents)
    assert abs(one - two).max() <= 1e-6 * max(1.0, abs(one).max())


def losses(run):
    """What the run wrote down of its training losses; dev decides which weights it keeps, not these."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


def test_auto_is_the_rule_that_the_adapters_method_names(texts, bert, tmp_path):
    runs = []
    for adapter, rule in (("lora-plus", "auto"), ("lora", "lora-plus"), ("lora", "auto")):
        recipe = replace(QUICK, adapter=AdapterSettings(adapter, rank=2), rule=RuleSettings(rule))
        fit(BiEncoder(bert), texts, out=tmp_path / adapter / rule, recipe=recipe)
        runs.append(losses(tmp_path / adapter / rule))
    assert len(runs[0]) == 2
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]  # scores may be equal: dev may choose the first stage alone
    assert rule_name(RuleSettings("adamw"), "lora-plus") == "adamw"


def test_a_head_that_a_rule_does_not_know_is_trained_too(texts, bert, tmp_path):
    recipe = replace(QUICK, adapter=AdapterSettings("loft", rank=2, targets=["query"]))
    ranker = CrossEncoder(bert)
    head = {name: p.detach().clone() for name, p in ranker.head_parameters()}
    fit(ranker, texts, out=tmp_path / "run", recipe=recipe)
    assert head
    assert all(not torch.equal(head[name], p) for name, p in ranker.head_parameters())


def test_whole_weights_have_no_rule(texts, bert, tmp_path):
    recipe = replace(QUICK, adapter=AdapterSettings("full"), rule=RuleSettings("loft"))
    with pytest.raises(UsageError, match="trains whole weights"):
        fit(BiEncoder(bert), texts, out=tmp_path / "run", recipe=recipe)
    assert make_stepping(RuleSettings(), None, "full") is None


def test_clipping_is_left_to_rules_that_do_it_themselves(tower_adapter):
    settings = OptimizerSettings(clip=1.0)
    for name, clips in (("loft", False), ("polyak-momentum", False), ("lora-plus", True)):
        by = make_stepping(RuleSettings(name), tower_adapter, "lora")
        assert (without_clipping(settings, by).clip is not None) == clips
    assert without_clipping(settings, None).clip == pytest.approx(1.0)


@pytest.fixture
def tower_adapter():
    from lorank import lowrank

    return lowrank.attach(torch.nn.Sequential(torch.nn.Linear(3, 2)), rank=1)


SCRIPT = """
import sys
import lorank
from lorank.ranking.scorers import BiEncoder
from lorank.training import fit
from lorank.training.settings import AdapterSettings, ListSettings, OptimizerSettings, Recipe, RuleSettings
data, base, out, rule = sys.argv[1:]
adapter = AdapterSettings("bilora" if rule == "bilora" else "lora", rank=2)
training = OptimizerSettings(steps=24, batch_size=4, lr=5e-3, evaluations=4, checkpoint_seconds=0.0)
recipe = Recipe(adapter, rule=RuleSettings(rule), training=training, lists=ListSettings(negatives=3))
fit(BiEncoder(base), lorank.load(data), out=out, recipe=recipe, resume=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["chain-of-lora"])
def test_a_run_that_was_killed_ends_in_the_same_bits(rule, texts, bert, tmp_path):
    write_beir(texts, tmp_path / "beir")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def command(out):
        return [sys.executable, "-c", SCRIPT, str(tmp_path / "beir"), bert, str(out), rule]

    subprocess.run(command(whole), env=environment, check=True, capture_output=True)
    process = subprocess.Popen(command(cut), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not list((cut / "checkpoints").glob("step-*")):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    subprocess.run(command(cut), env=environment, check=True, capture_output=True)
    name = "model/adapter/adapter_model.safetensors"
    assert (whole / name).read_bytes() == (cut / name).read_bytes()
    assert losses(whole) == losses(cut)
