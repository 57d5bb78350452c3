"""A supervised first stage for policies, and dynamicrag's second: cloned experts, pairs of trajectories, generators."""

import json
import random
import statistics

import pytest
import torch
from typer.testing import CliRunner

import lorank
from lorank.cli.app import app
from lorank.errors import DataError, UsageError
from lorank.ranking.policies.experts import expert_reply
from lorank.ranking.policies.rewards import Asked
from lorank.ranking.policies.writing import Writer
from lorank.ranking.scorers import CausalRanker
from lorank.ranking.strategies.reranking import rerank
from lorank.training import fit, load_ranker
from lorank.training.checks import check_names, check_options
from lorank.training.policies.generating import read_answers
from lorank.training.policies.objectives import cloned, cloning_loss
from lorank.training.policies.questions import Posed
from lorank.training.policies.settings import resolve_policy
from lorank.training.recipe import RecipeFile, override
from lorank.training.settings import AdapterSettings, PolicySettings, Recipe
from planted_selection import (
    MISLEADING,
    PLAIN,
    RELEVANT,
    write_graded_rows,
    write_misleading_rows,
    write_selecting_model,
    write_templates,
)
from planted_setwise import short_training

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    return write_templates(tmp_path_factory.mktemp("prompts"))


@pytest.fixture(scope="module")
def model(tmp_path_factory, prompts):
    """It selects some passages at random."""
    return write_selecting_model(tmp_path_factory.mktemp("model"), prompts, steps=40)


@pytest.fixture(scope="module")
def misleading(tmp_path_factory):
    return write_misleading_rows(tmp_path_factory.mktemp("misleading"), 40, 0)


def recipe(prompts, steps=4, **policy):
    settings = {"name": "dynamicrag", "size": 4, "max_tokens": 8, "samples": 4, "prompts": str(prompts), **policy}
    return Recipe(
        policy=PolicySettings(**settings),
        adapter=AdapterSettings("lora", rank=4),
        training=short_training(steps),
        keep="tuned",
    )


def weights(tuned):
    return {name: value.clone() for name, value in tuned.adapter.state().items()}


class Killed(Exception):
    pass


@pytest.mark.parametrize(
    "policy",
    [
        {"objective": "cloning", "samples": None},
        {"name": "erank", "objective": "cloning", "samples": None},
        {"answers": True},
        {"answers": True, "updates": 2, "generator": True},
    ],
)
def test_a_run_that_was_cut_off_is_the_same_run_when_it_is_resumed(prompts, model, misleading, tmp_path, policy):
    rows, answers = misleading
    given = {key: {"answers": str(answers), "generator": str(model)}.get(key, value) for key, value in policy.items()}
    settings, data = recipe(prompts, **given), lorank.load(str(rows))

    def cut(what, done, total):
        if what.startswith("train") and done == 3:
            raise Killed

    whole = fit(CausalRanker(str(model)), data, out=tmp_path / "whole", recipe=settings)
    with pytest.raises(Killed):
        fit(CausalRanker(str(model)), data, out=tmp_path / "cut", recipe=settings, on_progress=cut)
    again = fit(CausalRanker(str(model)), data, out=tmp_path / "cut", recipe=settings, resume=True)
    for key, value in weights(whole).items():
        assert torch.equal(weights(again)[key], value), key  # exact: a resumed run is the same run
    assert any(value.abs().max() > 0 for name, value in weights(whole).items() if name.endswith("B"))


@pytest.mark.parametrize("kind", ["selection", "pointwise"])
def test_the_loss_of_cloning_is_the_cross_entropy_of_the_experts_tokens(model, kind):
    ranker = CausalRanker(str(model))
    writer = Writer(ranker.module, ranker.tokenizer, 8)
    labels = [(0.0, 2.0, 1.0), (0.0, 0.0, 0.0)] if kind == "selection" else [(2.0,), (0.0,)]
    posed = [Posed(0, [5, 9 + i], Asked(kind, each, highest=2.0)) for i, each in enumerate(labels)]
    found = cloning_loss(writer, cloned(posed, writer))
    means = []
    for each in posed:
        reply = writer.spell(expert_reply(kind, each.asked.labels, 2.0))
        logits = ranker.module(torch.tensor([[*each.prompt, *reply]])).logits[0, len(each.prompt) - 1 : -1]
        means.append(torch.nn.functional.cross_entropy(logits, torch.tensor(reply)))
    torch.testing.assert_close(found, torch.stack(means).mean(), rtol=1e-4, atol=1e-4)


def test_cloning_asks_for_no_thought_and_measures_how_near_replies_are_to_the_experts():
    for name in ("rank-r1", "erank", "dynamicrag", "reasonrank"):
        policy = resolve_policy(PolicySettings(name, objective="cloning"))
        assert (policy.reward, policy.thinking, policy.objective) == ("expert", False, "cloning")
    assert resolve_policy(PolicySettings("erank", objective="cloning", reward="erank")).reward == "erank"
    assert resolve_policy(PolicySettings("rank-r1")).thinking
    assert not resolve_policy(PolicySettings("dynamicrag")).thinking


def test_the_generator_is_given_what_was_selected_and_is_the_model_before_training(
    prompts, model, misleading, tmp_path
):
    rows, answers = misleading
    settings = recipe(prompts, answers=str(answers))
    fit(CausalRanker(str(model)), lorank.load(str(rows)), out=tmp_path / "run", recipe=settings)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    seen = [line["dev"] for line in lines if "dev" in line]
    parts = {"exact", "similarity", "fluency", "brevity", "judge"}
    assert parts | {f"train/{part}" for part in parts} <= set(seen[-1])
    assert all(0 <= dev[part] <= 1 for dev in seen for part in parts)


def test_answers_are_found_by_text_or_id_and_what_is_missing_is_named(tmp_path):
    path = tmp_path / "answers.jsonl"
    path.write_text('{"query": "who?", "answers": ["me", "I"]}\n\n{"query": "q2", "answers": "you"}\n')
    assert read_answers(path, ["q1", "q2"], ["who?", "and who?"]) == [("me", "I"), ("you",)]
    with pytest.raises(DataError, match="1 of 2 queries have no answer, 'q3'"):
        read_answers(path, ["q1", "q3"], ["who?", "why?"])
    for bad in ("{}", "[1]", "{", '{"query": "x", "answers": []}', '{"query": "x", "answers": [1]}'):
        path.write_text(bad + "\n")
        with pytest.raises(DataError, match="answers.jsonl:1"):
            read_answers(path, ["q1"], ["who?"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"policy.name": "dynamicrag"}, "give policy.answers"),
        ({"policy.name": "dynamicrag", "policy.answers": "nowhere.jsonl"}, "no file at nowhere.jsonl"),
        ({"policy.name": "setwise", "policy.answers": "a.jsonl"}, "a reward that a generator earns"),
        ({"policy.name": "setwise", "policy.generator": "smollm2"}, "a reward that a generator earns"),
        ({"policy.name": "erank", "policy.objective": "cloning", "policy.samples": 4}, "policy.samples means nothing"),
        ({"policy.name": "erank", "policy.objective": "cloning", "policy.thinking": True}, "without a thought"),
        ({"policy.name": "setwise", "policy.objective": "dpo"}, "give policy.divergence"),
        ({"policy.name": "setwise", "policy.objective": "clone"}, "did you mean 'cloning'"),
        ({"policy.name": "rank-grpo", "policy.objective": "dpo", "policy.divergence": 0.1}, "rewards places"),
        ({"policy.objective": "cloning"}, "no policy is named"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(settings, message):
    def check():
        plan = override(RecipeFile(), settings)
        check_names(plan)
        check_options(plan)

    with pytest.raises(UsageError, match=message):
        check()


def run(*words):
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output


def train(rows, base, prompts, out, steps, rate, seed, *more):
    run(
        *("train", "--data", rows, "--base", base, "--kind", "causal", "--seed", seed, "--out", out),
        *("--steps", steps, "--lr", rate, "--batch-size", 16, "--set", "policy.size=4", "--set", "policy.max_tokens=8"),
        *("--set", f"policy.prompts={prompts}", "--set", "training.precision=fp32", "--set", "training.evaluations=6"),
        *more,
    )
    return load_ranker(out)


def named(tuned, lists):
    """Return the documents that the model selects of each list."""
    judge = tuned.policy.judge(tuned.ranker)
    found = []
    for i, documents in enumerate(lists):
        done = rerank(f"find it {i}", documents, judge, tuned.policy.strategy)
        found.append([documents[place] for place in done.order[: done.selected]])
    return found


def both_stages(prompts, folder, seed):
    """Return both tuned models, and of 30 lists how many selections name gold and brass after each."""
    model = write_selecting_model(folder / "model", prompts, seed=seed)
    rows, answers = write_misleading_rows(folder / "rows", 240, seed)
    stage = ("--policy", "dynamicrag", "--objective", "cloning")
    one = train(rows, model, prompts, folder / "one", 300, 2e-2, seed, *stage)
    run("adapter", "merge", folder / "one", "--out", folder / "merged")
    stage = ("--policy", "dynamicrag", "--set", f"policy.answers={answers}", "--set", f"policy.generator={model}")
    heat = ("--set", "policy.temperature=1.5")
    two = train(rows, folder / "merged", prompts, folder / "two", 120, 1e-2, seed, *stage, *heat)
    rng = random.Random(seed)
    lists = [rng.sample(["gold", MISLEADING, *rng.sample(PLAIN, 2)], 4) for _ in range(30)]
    counts = [
        tuple(sum(word in each for each in selected) for word in ("gold", MISLEADING))
        for selected in (named(one, lists), named(two, lists))
    ]
    return one, two, counts


@pytest.mark.slow
def test_two_stages_learn_to_select_and_then_drop_what_misleads_the_generator(prompts, tmp_path):
    gold, brass = [], []
    for seed in (0, 1, 2):
        one, two, (cloned_counts, counts) = both_stages(prompts, tmp_path / str(seed), seed)
        assert one.dev["before"] < 0.5  # some passages at random, in any order
        assert one.dev["value"] > 0.9
        assert min(cloned_counts) > 24  # both are judged relevant, so the expert names them
        assert two.dev["value"] > two.dev["before"] + 0.15
        assert counts[1] < cloned_counts[1] - 10  # it earns less, so it is dropped
        gold.append(counts[0])
        brass.append(counts[1])
    assert statistics.median(gold) > 24
    assert statistics.median(brass) < 6


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_cloned_lists_are_as_long_as_there_is_to_read(prompts, tmp_path, seed):
    model = write_selecting_model(tmp_path / "model", prompts, seed=seed)
    rows = write_graded_rows(tmp_path / "rows.jsonl", 240, seed)
    tuned = train(
        rows, model, prompts, tmp_path / "one", 300, 2e-2, seed, "--policy", "dynamicrag", "--objective", "cloning"
    )
    assert tuned.dev["value"] > 0.75 > 0.5 > tuned.dev["before"]
    rng = random.Random(seed)
    means = []
    for count in range(4):
        lists = [rng.sample([*RELEVANT[:count], *rng.sample(PLAIN, 4 - count)], 4) for _ in range(12)]
        means.append(sum(len(each) for each in named(tuned, lists)) / len(lists))
    assert means == sorted(means)
    assert means[0] < 0.5
    assert means[3] > 1.8


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_erank_is_cloned_from_grades_and_its_expected_scores_order_documents(prompts, tmp_path, seed):
    model = write_selecting_model(tmp_path / "model", prompts, seed=seed)
    rows = write_graded_rows(tmp_path / "rows.jsonl", 120, seed)
    stage = ("--policy", "erank", "--objective", "cloning")
    one = train(rows, model, prompts, tmp_path / "one", 240, 2e-2, seed, *stage)
    assert one.dev["value"] > max(0.85, one.dev["before"] + 0.2)
    documents = ["stone", "gilt", "gold", "cloud", "golden", "smoke"]
    found = rerank("find it 7", documents, one.policy.judge(one.ranker), one.policy.strategy)
    scores = dict(zip(documents, found.scores))
    plain = [scores[word] for word in ("stone", "cloud", "smoke")]
    assert max(plain) < min(scores["gold"], scores["golden"])
    assert len(set(plain)) == len(plain)  # each was given 0, and the expected scores tell them apart

    two = train(
        *(rows, model, prompts, tmp_path / "two", 2, 1e-3, seed),
        *("--policy", "erank", "--set", "policy.thinking=false"),
    )
    assert two.policy.question == "pointwise"
