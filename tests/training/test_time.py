"""A run's time: estimated before its first step, and kept to where it is bounded; clocks are made, not waited for."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from lorank.errors import LorankError, UsageError
from lorank.ranking.scorers import BiEncoder
from lorank.ranking.scorers.folders import PROBE_DOCUMENTS
from lorank.training.estimate import Estimate, read_estimate, time_steps
from lorank.training.fitting import fit_run
from lorank.training.loop.schedule import rate_factor
from lorank.training.loop.time_budget import SLACK, TimeBudget
from lorank.training.plan import build_plan, resolve_recipe
from lorank.training.settings import AdapterSettings, ListSettings, OptimizerSettings, Recipe

pytestmark = pytest.mark.usefixtures("own_cache")

RECIPE = Recipe(
    adapter=AdapterSettings("lora", rank=2),
    training=OptimizerSettings(batch_size=4, lr=5e-3, checkpoint_seconds=0.0),
    lists=ListSettings(negatives=3, depth=20),
)
STEP, DOCUMENT = 2.0, 0.01
"""Seconds of the made clock: of a forward pass in training, and of a document that is scored."""


class Clock:
    def __init__(self):
        self.now, self.steps, self.looks = 0.0, 0, []

    def __call__(self):
        return self.now


class Timed(BiEncoder):
    """A bi-encoder that moves a clock; steps after ``slow_after`` take thrice as long."""

    def __init__(self, base, clock, slow_after=10**9):
        super().__init__(base)
        self.clock, self.slow_after = clock, slow_after

    def forward(self, *arguments):
        self.clock.steps += 1
        self.clock.now += STEP * (3 if self.clock.steps > self.slow_after else 1)
        return super().forward(*arguments)

    def score_prepared(self, inputs, pairs, on_progress=None):
        documents = len(np.unique(pairs[:, 1]))
        if documents > len(PROBE_DOCUMENTS):  # saving scores a few fixed pairs
            self.clock.looks.append(documents)
            self.clock.now += DOCUMENT * documents
        return super().score_prepared(inputs, pairs, on_progress)


def run(bert, texts, out, *, slow_after=10**9, recipe=RECIPE, **training):
    clock, said = Clock(), []
    recipe = replace(recipe, training=replace(recipe.training, **training))

    def report(what, done, total):
        if total == 0:
            said.append(what)

    ranker = Timed(bert, clock, slow_after)
    fitted = fit_run(ranker, texts, recipe, out, clock=clock, on_progress=report)
    return fitted, clock, said


def last_rate(out):
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line["lr"] for line in lines if "lr" in line][-1] / RECIPE.training.lr


def test_the_estimate_is_told_before_the_first_step_and_kept(bert, texts, tmp_path):
    fitted, clock, said = run(bert, texts, tmp_path / "run", steps=9, evaluations=2)
    found = read_estimate(tmp_path / "run/estimate.json")
    assert found.step_seconds == pytest.approx(STEP)
    assert found.look_seconds == pytest.approx(DOCUMENT * clock.looks[0])
    assert found.seconds == pytest.approx(9 * STEP + 3 * found.look_seconds + found.test_seconds)
    assert said == [found.describe()]
    record = json.loads((tmp_path / "run/run.json").read_text())
    assert record["estimate"]["sentence"] == said[0]
    assert record["estimate"]["dev_share"] == pytest.approx(3 * found.look_seconds / found.seconds)
    assert record["time"]["looks"] == 3
    spared = found.test_seconds / 2 if fitted.outcome.best_step == 0 else 0.0  # the untuned base is scored once
    assert clock.now == pytest.approx(found.seconds + 3 * STEP - spared)  # and the three steps that were measured
    assert fitted.outcome.steps == 9


def test_every_look_scores_each_document_once_and_no_look_is_taken_twice(bert, texts, tmp_path):
    fitted, clock, _ = run(bert, texts, tmp_path / "run", steps=8, evaluations=4)
    dev = len({document for row in fitted.runs["tuned"].values() for document in row})
    judged = 1 if fitted.outcome.best_step == 0 else 2
    assert len(clock.looks) == 1 + 4 + judged  # the untuned base, four looks, and test
    assert set(clock.looks[:5]) == {clock.looks[0]}
    assert clock.looks[0] <= len(texts.document_ids)
    assert dev <= len(texts.document_ids)


def test_steps_fill_the_minutes_and_the_schedule_ends_with_them(bert, texts, tmp_path):
    fitted, clock, said = run(bert, texts, tmp_path / "run", minutes=1.5)
    found = read_estimate(tmp_path / "run/estimate.json")
    assert 90 - (STEP + found.look_seconds) <= clock.now <= 90
    assert fitted.outcome.steps == found.steps == int(found.stepping / STEP)
    assert not fitted.outcome.out_of_time
    assert "of 1.5 min" in said[0]
    assert last_rate(tmp_path / "run") == pytest.approx(rate_factor(found.steps - 1, found.steps, 0.1, "linear"))


@pytest.mark.parametrize("slow_after", [6, 15, 30])
def test_a_run_that_slows_down_ends_in_time_at_the_end_of_its_schedule(bert, texts, tmp_path, slow_after):
    fitted, clock, _ = run(bert, texts, tmp_path / "run", slow_after=slow_after, minutes=1.5)
    found = read_estimate(tmp_path / "run/estimate.json")
    assert fitted.outcome.out_of_time
    assert fitted.outcome.steps < found.steps
    assert clock.now <= 90 + 3 * STEP + found.look_seconds + found.test_seconds
    assert last_rate(tmp_path / "run") <= 3 * STEP / found.stepping / 0.9 + SLACK
    assert json.loads((tmp_path / "run/run.json").read_text())["outcome"]["out_of_time"]


def test_of_steps_and_minutes_the_earlier_counts(bert, texts, tmp_path):
    fitted, _, _ = run(bert, texts, tmp_path / "few", minutes=60.0, steps=4)
    assert fitted.outcome.steps == 4
    fitted, clock, _ = run(bert, texts, tmp_path / "short", minutes=1.0, steps=10**6)
    assert fitted.outcome.steps < 30
    assert clock.now <= 60


def test_too_little_time_still_takes_one_step(bert, texts, tmp_path):
    fitted, _, _ = run(bert, texts, tmp_path / "run", minutes=0.01)
    assert fitted.outcome.steps == 1


class Killed(Exception):
    pass


def test_a_bounded_run_that_was_killed_resumes_to_the_same_bits_within_its_time(bert, texts, tmp_path):
    whole, _, _ = run(bert, texts, tmp_path / "whole", minutes=1.5)
    recipe = replace(RECIPE, training=replace(RECIPE.training, minutes=1.5))

    def kill(what, done, total):
        if what.startswith("train") and done == 11:
            raise Killed

    first, second = Clock(), Clock()
    with pytest.raises(Killed):
        fit_run(Timed(bert, first), texts, recipe, tmp_path / "cut", clock=first, on_progress=kill)
    (saved,) = (tmp_path / "cut/checkpoints").glob("step-*/state.json")
    elapsed = json.loads(saved.read_text())["elapsed"]
    assert 10 * STEP <= elapsed <= first.now
    resumed = fit_run(Timed(bert, second), texts, recipe, tmp_path / "cut", clock=second, resume=True)
    a, b = whole.tuned.adapter.state(), resumed.tuned.adapter.state()
    assert all(torch.equal(a[name], b[name]) for name in a)
    found = read_estimate(tmp_path / "cut/estimate.json")
    assert elapsed + second.now <= 90 + STEP + 2 * found.look_seconds + found.test_seconds
    other = replace(recipe, training=replace(recipe.training, minutes=2.0))
    with pytest.raises(LorankError, match=r"begun with minutes = 1.5, and is resumed with 2"):
        fit_run(Timed(bert, second), texts, other, tmp_path / "cut", clock=second, resume=True)


@pytest.mark.parametrize(("setting", "value"), [("minutes", 0.0), ("minutes", -3.0), ("evaluation_share", 1.0)])
def test_a_time_that_cannot_be_is_refused_before_any_work(bert, texts, tmp_path, setting, value):
    with pytest.raises(UsageError, match=setting):
        run(bert, texts, tmp_path / "run", **{setting: value})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("loss", ["softmax", "elr", "dpo"])
def test_measuring_steps_changes_nothing(bert, texts, tmp_path, loss):
    ranker = BiEncoder(bert)
    recipe, budget = resolve_recipe(ranker, texts, replace(RECIPE, loss=replace(RECIPE.loss, name=loss)))
    plan = build_plan(ranker, texts, recipe, budget, tmp_path, None, lambda *_: None)
    memory = getattr(plan.loss, "state_dict", dict)
    before = {name: tensor.clone() for name, tensor in memory().items()}
    weights, random = plan.weights.state(), torch.random.get_rng_state()
    time_steps(plan, Clock())
    assert all(torch.equal(tensor, weights[name]) for name, tensor in plan.weights.state().items())
    assert memory().keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in memory().items())
    assert torch.equal(random, torch.random.get_rng_state())
    assert all(p.grad is None for group in plan.weights.parameter_groups() for p in group["params"])


def test_a_schedule_follows_the_clock_only_where_it_has_fallen_behind():
    now = [0.0]
    budget = TimeBudget(120.0, clock=lambda: now[0], reserve=10.0, look=5.0, stepping=100.0)
    assert budget.position(0, 50, 2) == 0
    now[0] = 40.0  # 70 left, of which two looks take 10: 60 of 100 for steps, so step 20 of 50
    assert budget.position(18, 50, 2) == 18
    assert budget.position(10, 50, 2) == pytest.approx(20.0)
    assert not budget.spent()
    now[0] = 110.0
    assert budget.spent()
    assert budget.position(10, 50, 2) == 49


def test_an_estimate_is_described_in_the_units_that_a_reader_would_choose():
    made = Estimate(2000, 0.5, [1000, 2000], 60.0, 0.0, 100, 30)
    assert made.describe() == "about 20 min: 2000 steps of 0.50 s, dev evaluation 15%"
    assert replace(made, steps=1, looks=[1], minutes=3.0).describe().startswith("about 2 min (of 3 min): 1 step of")
