"""NExt: signs agree, the prediction beats a straight line, and a step that helps nothing is left out."""

import math
import statistics

import pytest
import torch
from torch import nn

from lorank import lowrank
from lorank.errors import UsageError
from lorank.lowrank.forms.form import Factors
from lorank.lowrank.rules import make_rule
from lorank.lowrank.rules.predictor import Predictor
from lorank.lowrank.rules.trajectory import Differences, RankOne, align_differences, leading_difference, stack

MARKS, AHEAD, GAP = 20, 5, 0.1


def unit(size, generator):
    return torch.nn.functional.normalize(torch.randn(size, generator=generator), dim=0)


def planted(seed, turning=0.0):
    """A layer whose update is sigma(t) u v^T with sigma = 1 - exp(-t), u turning; every sign as a coin says.

    Returns the three series, what comes next, and the straight line through the last two checkpoints.
    """
    generator = torch.Generator().manual_seed(seed)
    one, two, v = unit(8, generator), unit(8, generator), unit(12, generator)
    two = torch.nn.functional.normalize(two - (two @ one) * one, dim=0)

    def update(mark):
        angle = torch.tensor(turning * mark)
        sigma = 1 - torch.exp(torch.tensor(-GAP * mark))
        return Factors(v.unsqueeze(0), (sigma * (angle.cos() * one + angle.sin() * two)).unsqueeze(1), 1.0)

    def difference(late, early):
        found = leading_difference(update(late), update(early))
        sign = 1.0 if torch.rand((), generator=generator) < 0.5 else -1.0
        return RankOne(found.sigma, sign * found.u, sign * found.v)

    whole = [difference(mark, 0) for mark in range(1, MARKS + 1)]
    last = [difference(mark, mark - 1) for mark in range(1, MARKS + 1)]
    later = [difference(mark + AHEAD, mark) for mark in range(1, MARKS + 1 - AHEAD)]
    dense = {mark: update(mark).B @ update(mark).A for mark in (MARKS - 1, MARKS, MARKS + AHEAD)}
    line = AHEAD * (dense[MARKS] - dense[MARKS - 1])
    return (whole, last, later), dense[MARKS + AHEAD] - dense[MARKS], line


def predict(layers, seed):
    predictor = Predictor(AHEAD, 16, torch.Generator().manual_seed(seed)).fit(layers, steps=60)
    return [predictor.predict(layer).dense() for layer in layers]


def errors(seed, turning, align):
    cases = [planted(10 * seed + i, turning) for i in range(3)]
    layers = [align_differences(*case[0]) if align else Differences(*map(stack, case[0])) for case in cases]
    ours = [float((found - case[1]).norm()) for found, case in zip(predict(layers, seed), cases, strict=True)]
    return statistics.median(ours), statistics.median(float((case[2] - case[1]).norm()) for case in cases)


def test_with_agreed_signs_the_prediction_beats_a_straight_line():
    found = [errors(seed, 0.0, True) for seed in range(3)]
    assert statistics.median(ours / line for ours, line in found) < 0.5


def test_signs_that_do_not_agree_cannot_be_learned_from():
    with_signs, without = ([errors(seed, 0.02, align)[0] for seed in range(5)] for align in (True, False))
    assert statistics.median(without) > 2 * statistics.median(with_signs)


def test_agreed_signs_leave_every_matrix_as_it_is():
    series, _, _ = planted(3, 0.05)
    agreed = align_differences(*series)
    for before, after in zip(series, agreed, strict=True):
        for i, each in enumerate(before):
            torch.testing.assert_close(RankOne(*(part[i] for part in after)).dense(), each.dense())
    assert (agreed.whole.u[1:] * agreed.whole.u[:-1]).sum(1).min() > 0
    assert (agreed.last.u * agreed.whole.u).sum(1).min() > 0


def test_the_leading_difference_is_the_best_rank_one_approximation():
    generator = torch.Generator().manual_seed(0)
    A, B, C, D = (torch.randn(shape, generator=generator).double() for shape in ((2, 5), (4, 2), (2, 5), (4, 2)))
    found = leading_difference(Factors(A, B, 0.5), Factors(C, D, 0.5))
    U, sigma, Vh = torch.linalg.svd(0.5 * (B @ A - D @ C))
    torch.testing.assert_close(found.dense(), sigma[0] * torch.outer(U[:, 0], Vh[0]))


class Bandit:
    """A policy over 6 documents whose scores are a low-rank function of features; the loss is minus what it earns."""

    def __init__(self, seed):
        generator = torch.Generator().manual_seed(seed)
        self.model = nn.ModuleDict({"layer": nn.Linear(12, 6, bias=False)})
        with torch.no_grad():
            self.model["layer"].weight.copy_(0.1 * torch.randn(6, 12, generator=generator))
        self.features = {part: torch.randn(64, 12, generator=generator) for part in ("train", "held out")}
        self.best = torch.randn(6, 12, generator=generator)
        self.adapter = lowrank.attach(self.model, rank=2, seed=seed)

    def loss(self, part):
        chances = self.model["layer"](self.features[part]).softmax(-1)
        right = (self.features[part] @ self.best.t()).argmax(1)
        return -chances[torch.arange(len(right)), right].mean()

    def reward(self):
        return -float(self.loss("held out").detach())

    def walk(self, open_walk, name, of):
        held_out = lambda index: self.loss("held out")  # noqa: E731
        return open_walk(self.adapter, make_rule(name), lambda step: self.loss("train"), of, held_out, lr=1e-3)


def test_a_policy_comes_to_the_same_reward_in_fewer_steps(open_walk):
    saved = []
    for seed in range(3):
        fast, plain = Bandit(seed), Bandit(seed)
        run = fast.walk(open_walk, "next-extrapolation", 60).go(60)
        assert run.rule.coefficient > 0
        slow = plain.walk(open_walk, "adamw", 400)
        while plain.reward() < fast.reward() and slow.at < 400:
            slow.go(1)
        saved.append(slow.at)
    assert statistics.median(saved) > 72


@pytest.mark.parametrize("values", [[1.0, 2.0, 1.5, 1.0, 1.0], [1.0, *[math.nan] * 4]])
def test_a_prediction_that_lowers_no_held_out_loss_leaves_the_weights_alone(values, open_walk):
    one, other = Bandit(0), Bandit(0)
    left = iter(values)
    rule = make_rule("next-extrapolation")
    open_walk(one.adapter, rule, lambda step: one.loss("train"), 10, lambda index: torch.tensor(next(left))).go(10)
    open_walk(other.adapter, make_rule("adamw"), lambda step: other.loss("train"), 10).go(10)
    x = one.features["train"]
    torch.testing.assert_close(one.model["layer"](x), other.model["layer"](x), rtol=1e-6, atol=1e-6)
    assert rule.coefficient == 0  # exact: chosen, not computed
    assert "left it out" in rule.describe()


def test_zero_is_predicted_of_layers_that_rest():
    still = [RankOne(torch.tensor(0.0), torch.zeros(3), torch.zeros(2)) for _ in range(4)]
    layer = align_differences(still, still, still[:3])
    found = Predictor(1, 4, torch.Generator().manual_seed(0)).fit([layer], steps=5).predict(layer)
    assert found.dense().abs().max() < 1e-3


def test_the_chosen_step_is_that_of_the_lowest_held_out_loss(open_walk):
    bandit, left = Bandit(1), iter([5.0, 4.0, 1.0, 2.0, 3.0])
    rule = make_rule("next-extrapolation", most=8.0)
    run = open_walk(bandit.adapter, rule, lambda step: bandit.loss("train"), 10, lambda index: torch.tensor(next(left)))
    run.go(8)
    assert rule.coefficient == 8.0 / 4  # exact: chosen, not computed
    assert "2 times" in rule.describe()
    form = bandit.adapter.forms["layer"]
    assert form.rank_bound() == 3
    assert form.A0[0].norm() == pytest.approx(1.0, abs=1e-5)


def test_what_was_added_is_saved_with_the_adapter(open_walk, tmp_path):
    bandit = Bandit(2)
    bandit.walk(open_walk, "next-extrapolation", 20).go(20)
    bandit.adapter.save(tmp_path / "adapter")
    fresh = Bandit(2)
    fresh.adapter.detach()
    lowrank.load(fresh.model, tmp_path / "adapter")
    x = bandit.features["train"]
    torch.testing.assert_close(fresh.model["layer"](x), bandit.model["layer"](x), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(
    ("steps", "last", "count", "ahead"), [(250, 200, 20, 5), (30, 24, 20, 5), (12, 9, 9, 2), (4, 3, 3, 1)]
)
def test_checkpoints_lie_evenly_in_the_first_four_fifths(steps, last, count, ahead):
    marks, found = make_rule("next-extrapolation").marks(steps)
    assert (marks[-1], len(marks), found) == (last, count, ahead)
    assert len(set(marks)) == count


@pytest.mark.parametrize("options", [{"checkpoints": 1}, {"ahead": 0}, {"at": 0.0}, {"most": -1.0}, {"width": 0}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(UsageError, match="next-extrapolation|at must be"):
        make_rule("next-extrapolation", **options)


def test_a_run_that_is_too_short_and_one_without_held_out_lists_are_refused(tower):
    from lorank.lowrank.rules import Losses

    rule, optimizer = make_rule("next-extrapolation"), torch.optim.SGD([nn.Parameter(torch.ones(1))])
    with pytest.raises(UsageError, match="--steps 4"):
        rule.begin(lowrank.attach(tower()), optimizer, 3, Losses(lambda step: None, lambda index: None))
    with pytest.raises(UsageError, match="not trained on"):
        rule.begin(lowrank.attach(tower()), optimizer, 30, Losses(lambda step: None))
