"""AR2's loss: the score-function form by enumeration, the divergence in closed form, and what goes down."""

import itertools
import math

import pytest
import torch

from lorank.errors import UsageError
from lorank.ranking.losses import loss
from lorank.ranking.losses.ar2 import rewards

LABELS = torch.tensor([[1.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
SCORES = torch.tensor([[0.4, 0.3, -0.8, 1.1]], dtype=torch.float64)
OPPONENT = torch.tensor([[1.5, -0.2, 2.0, 0.7]], dtype=torch.float64)


def counts(drawn):
    return torch.tensor([[float(drawn.count(i)) for i in range(4)]], dtype=torch.float64)


@pytest.mark.parametrize("baseline", [True, False])
def test_the_expected_gradient_over_all_draws_is_that_of_the_expected_reward(baseline):
    """E[r grad log p] over three draws, by enumeration, against the derivative of sum p r, which it estimates."""
    scores = SCORES.clone().requires_grad_()
    share = scores[0, 1:].softmax(0)
    fixed = share.tolist()
    reward = torch.nn.functional.logsigmoid(OPPONENT[0, 0] - OPPONENT[0, 1:])
    (expected,) = torch.autograd.grad((share * reward).sum(), scores)
    found, adversarial = torch.zeros_like(SCORES), loss("ar2", weight=1.0, baseline=baseline)
    for drawn in itertools.product((1, 2, 3), repeat=3):
        chance = math.prod(fixed[d - 1] for d in drawn)
        leaf = SCORES.clone().requires_grad_()
        value = adversarial(leaf, LABELS, opponent=OPPONENT, draws=counts(drawn))
        found += chance * torch.autograd.grad(value, leaf)[0]
    torch.testing.assert_close(found, expected)


def test_one_gradient_is_the_score_function_form_by_hand():
    leaf = SCORES.clone().requires_grad_()
    value = loss("ar2", weight=1.0, baseline=False)(leaf, LABELS, opponent=OPPONENT, draws=counts((2, 2, 3)))
    share = torch.cat([torch.zeros(1, dtype=torch.float64), SCORES[0, 1:].softmax(0)])
    by_hand = torch.zeros(4, dtype=torch.float64)
    for d in (2, 2, 3):
        reward = -torch.log1p(torch.exp(OPPONENT[0, d] - OPPONENT[0, 0]))
        by_hand += reward * (torch.eye(4, dtype=torch.float64)[d] - share) / 3
    torch.testing.assert_close(torch.autograd.grad(value, leaf)[0][0], by_hand)


def test_the_baseline_makes_the_gradient_vary_less():
    every = list(itertools.product((1, 2, 3), repeat=4))
    share = SCORES[0, 1:].softmax(0)
    chance = torch.stack([share[torch.tensor(drawn) - 1].prod() for drawn in every]).unsqueeze(1)

    def spread(baseline):
        found = []
        for drawn in every:
            leaf = SCORES.clone().requires_grad_()
            value = loss("ar2", weight=1.0, baseline=baseline)(leaf, LABELS, opponent=OPPONENT, draws=counts(drawn))
            found.append(torch.autograd.grad(value, leaf)[0][0])
        gradients = torch.stack(found)
        return float((chance * (gradients - (chance * gradients).sum(0)) ** 2).sum())

    assert spread(True) < 0.9 * spread(False)


def test_going_down_makes_what_fools_the_ranker_likelier():
    leaf = SCORES.clone().requires_grad_()
    value = loss("ar2", weight=1.0)(leaf, LABELS, opponent=OPPONENT, draws=counts((1, 2, 3)))
    (gradient,) = torch.autograd.grad(value, leaf)
    hardest = int(OPPONENT[0, 1:].argmax()) + 1
    assert gradient[0, hardest] < 0
    assert gradient[0, 0] == 0  # exact: the relevant document is not drawn


def test_the_regulariser_is_the_divergence_over_what_is_relevant_or_drawn():
    draws, temperature = counts((1, 3)), 2.0
    read = [0, 1, 3]
    teacher = (OPPONENT[0, read] / temperature).softmax(0)
    student = SCORES[0, read].log_softmax(0)
    expected = (teacher * (teacher.log() - student)).sum()
    found = loss("ar2", weight=0.0, temperature=temperature)(SCORES, LABELS, opponent=OPPONENT, draws=draws)
    torch.testing.assert_close(found, expected)
    alike = loss("ar2", weight=0.0)(SCORES, LABELS, opponent=SCORES + 4.0, draws=draws)
    assert float(alike) == pytest.approx(0.0, abs=1e-9)


def test_the_parts_are_weighed_and_lists_without_a_contrast_count_nothing():
    given = {"opponent": OPPONENT.repeat(2, 1), "draws": counts((1, 2)).repeat(2, 1)}
    scores, labels = SCORES.repeat(2, 1), torch.cat([LABELS, 0 * LABELS])
    both, one, other = (loss("ar2", weight=w)(scores, labels, **given) for w in (0.3, 1.0, 0.0))
    torch.testing.assert_close(both, 0.3 * one + 0.7 * other)
    alone = loss("ar2", weight=0.3)(SCORES, LABELS, opponent=OPPONENT, draws=counts((1, 2)))
    torch.testing.assert_close(both, alone)


def test_the_reward_of_several_relevant_documents_is_their_mean():
    relevant = torch.tensor([[True, True, False, False]])
    expected = torch.stack([torch.nn.functional.logsigmoid(OPPONENT[0, i] - OPPONENT[0]) for i in (0, 1)]).mean(0)
    torch.testing.assert_close(rewards(OPPONENT, relevant)[0], expected)


@pytest.mark.parametrize("options", [{"weight": 1.1}, {"weight": -0.1}, {"temperature": 0.0}, {"warmup": -1}])
def test_numbers_out_of_range_are_refused(options):
    with pytest.raises(UsageError, match=next(iter(options))):
        loss("ar2", **options)
    with pytest.raises(UsageError, match="draws"):
        loss("ar2")(SCORES, LABELS, opponent=OPPONENT, draws=torch.ones(1, 3))
