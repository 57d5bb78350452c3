"""The loop on a small perceptron: it learns, it stops early, and a killed run resumed is the same run."""

import json
import signal

import numpy as np
import pytest
import torch

from lorank.data.candidates import TrainingList
from lorank.errors import Interrupted, LorankError
from lorank.ranking import loss
from lorank.ranking.scorers import FeatureRanker
from lorank.training.hooks.hook import Hook
from lorank.training.lists.batches import epoch_order, pad_lists
from lorank.training.loop.loop import Session, train
from lorank.training.settings import AdapterSettings, OptimizerSettings
from lorank.training.weights import WholeWeights

SETTINGS = OptimizerSettings(steps=12, batch_size=4, lr=1e-2, evaluations=4, checkpoint_seconds=0.0)


class GivenLists:
    def __init__(self, count=10, size=5, features=3, seed=0):
        rng = np.random.default_rng(seed)
        self.rows = rng.normal(size=(count * size, features)).astype(np.float32)
        best = self.rows @ np.arange(1, features + 1, dtype=np.float32)
        self.lists = [
            TrainingList(
                "q", np.arange(i * size, (i + 1) * size), (best[i * size : (i + 1) * size] > 0).astype(np.float32)
            )
            for i in range(count)
        ]

    def epoch(self, epoch):
        return [self.lists[i] for i in epoch_order(len(self.lists), epoch, 0)]

    def collate(self, lists):
        return pad_lists(lists, {"q": 0})


def start(lists, dropout=0.3):
    ranker = FeatureRanker(features=3, hidden=(8,), dropout=dropout, transform="none")
    return ranker, ranker.prepare([""], lists.rows), WholeWeights(ranker, AdapterSettings("full"), None)


def run(folder, settings=SETTINGS, hooks=(), on_progress=lambda progress: None, resume=False, lists=None, dev=None):
    lists = lists or GivenLists()
    ranker, inputs, weights = start(lists)
    evaluate = dev(weights) if dev else None
    session = Session(ranker, inputs, weights, lists, loss("softmax"), settings, 0, folder, evaluate, hooks=hooks)
    outcome = train(session, on_progress=on_progress, resume=resume)
    return weights.state(), outcome


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def dev_by_norm(weights):
    """A stand-in for dev nDCG that depends on the weights and nothing else."""
    return lambda: {"nDCG@10": float(sum(t.abs().sum() for t in weights.state().values()).item() % 1.0)}


def losses(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(line["step"], line["loss"]) for line in lines if "loss" in line]


def test_the_loss_falls(tmp_path):
    run(tmp_path, OptimizerSettings(steps=100, batch_size=5, lr=5e-2, evaluations=10))
    curve = [value for _, value in losses(tmp_path)]
    assert curve[-1] < 0.9 * curve[0]


def test_the_same_seed_gives_the_same_run_and_leaves_the_global_generator_alone(tmp_path):
    before = torch.random.get_rng_state()
    first, _ = run(tmp_path / "a")
    second, _ = run(tmp_path / "b")
    assert same(first, second)
    assert torch.equal(before, torch.random.get_rng_state())


class Killed(Exception):
    pass


@pytest.mark.parametrize("at", [1, 3, 4, 7, 11, 12])
def test_a_run_cut_off_at_any_step_resumes_to_the_same_bits(tmp_path, at):
    whole, outcome = run(tmp_path / "whole", dev=dev_by_norm)

    def cut(progress):
        if progress.step == at:
            raise Killed

    with pytest.raises(Killed):
        run(tmp_path / "cut", on_progress=cut, dev=dev_by_norm)
    resumed, again = run(tmp_path / "cut", resume=True, dev=dev_by_norm)
    assert same(whole, resumed)
    assert (again.best, again.best_step) == (outcome.best, outcome.best_step)
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")


def test_the_best_weights_by_dev_are_kept(tmp_path):
    seen = []

    def dev(weights):
        def measure():
            seen.append(weights.state())
            return {"nDCG@10": {2: 0.9}.get(len(seen), 0.1)}

        return measure

    final, outcome = run(tmp_path, dev=dev)
    assert outcome.best == pytest.approx(0.9)
    assert outcome.best_step == 3
    assert same(final, seen[1])


def test_patience_stops_a_run_that_does_not_gain(tmp_path):
    settings = OptimizerSettings(steps=100, batch_size=4, evaluations=50, patience=3)
    _, outcome = run(tmp_path, settings, dev=lambda weights: lambda: {"nDCG@10": 0.5})
    assert outcome.stopped_early
    assert outcome.steps == 3 * 2


class Recorder(Hook):
    def __init__(self):
        self.calls = []
        self.count = torch.zeros((), dtype=torch.int64)

    def before_step(self, progress, optimizer):
        self.calls.append("before")

    def penalty(self, progress):
        self.calls.append("penalty")
        return torch.zeros(())

    def after_backward(self, progress, optimizer):
        assert all(p.grad is not None for group in optimizer.param_groups for p in group["params"])
        self.calls.append("backward")

    def after_step(self, progress, optimizer):
        self.calls.append("step")
        self.count += 1

    def at_epoch_end(self, progress):
        self.calls.append("epoch")

    def state(self):
        return {"count": self.count}

    def load_state(self, state):
        self.count = state["count"].clone()


def test_hooks_are_called_in_order_and_their_state_survives(tmp_path):
    recorder = Recorder()

    def cut(progress):
        if progress.step == 7:
            raise Killed

    with pytest.raises(Killed):
        run(tmp_path, hooks=[recorder], on_progress=cut)
    assert recorder.calls[:4] == ["before", "penalty", "backward", "step"]
    assert recorder.calls[:12].count("epoch") == 0
    assert "epoch" in recorder.calls
    again = Recorder()
    run(tmp_path, hooks=[again], resume=True)
    assert again.count == SETTINGS.steps


def test_hooks_are_found_by_name_whatever_their_order(tmp_path):
    class Other(Recorder):
        def state(self):
            return {"count": self.count + 100}

    class Third(Recorder):
        pass

    def cut(progress):
        if progress.step == 7:
            raise Killed

    with pytest.raises(Killed):
        run(tmp_path, hooks=[Recorder(), Other(), Recorder()], on_progress=cut)
    hooks = [Other(), Recorder(), Recorder()]
    for hook in hooks:
        hook.load_state = lambda state, hook=hook: setattr(hook, "count", state["count"].clone())
    run(tmp_path, hooks=hooks, resume=True)
    assert [int(hook.count) for hook in hooks] == [SETTINGS.steps + 100, SETTINGS.steps, SETTINGS.steps]
    for others in ([Recorder()], [Third(), Other(), Recorder()], []):
        with pytest.raises(LorankError, match=r"hooks Other, Recorder, Recorder 2, this run has .*start anew"):
            run(tmp_path, hooks=others, resume=True)


@pytest.mark.parametrize("at", [1, 5])
def test_ctrl_c_finishes_the_step_saves_and_says_how_to_go_on(tmp_path, at):
    whole, _ = run(tmp_path / "whole", dev=dev_by_norm)

    def press(progress):
        if progress.step == at:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted, match=rf"after step {at} of 12; a checkpoint is in .*resume"):
        run(tmp_path / "cut", on_progress=press, dev=dev_by_norm)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert [path.name for path in (tmp_path / "cut/checkpoints").glob("step-*")] == [f"step-{at:08d}"]
    resumed, _ = run(tmp_path / "cut", resume=True, dev=dev_by_norm)
    assert same(whole, resumed)


def test_a_second_ctrl_c_stops_at_once(tmp_path):
    def press_twice(progress):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt) as found:
        run(tmp_path, on_progress=press_twice)
    assert not isinstance(found.value, Interrupted)


def test_accumulated_parts_make_one_step(tmp_path):
    settings = OptimizerSettings(steps=4, batch_size=2, accumulate=3, evaluations=1)
    _, outcome = run(tmp_path, settings)
    assert outcome.steps == 4
    line = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert line["examples"] == 4 * 3 * 2


def test_a_loss_that_is_not_finite_stops_the_run_and_says_what_to_do(tmp_path):
    lists = GivenLists()
    ranker, inputs, weights = start(lists)
    with pytest.raises(LorankError, match="lower the learning rate"):
        train(Session(ranker, inputs, weights, lists, lambda s, y, m: s.sum() * float("nan"), SETTINGS, 0, tmp_path))


def test_resuming_with_other_settings_is_refused(tmp_path):
    run(tmp_path)
    with pytest.raises(LorankError, match="12 steps, this one has 13"):
        run(tmp_path, OptimizerSettings(steps=13, batch_size=4, evaluations=4), resume=True)


def test_bf16_training_stays_finite(tmp_path):
    settings = OptimizerSettings(steps=4, batch_size=2, evaluations=1, precision="bf16")
    state, _ = run(tmp_path, settings)
    assert all(torch.isfinite(t).all() for t in state.values())
