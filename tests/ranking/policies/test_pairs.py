"""Pairs of replies: the best against the worst, and the gradient of direct preference optimisation."""

import math

import pytest
import torch

from lorank.errors import UsageError
from lorank.ranking.policies.pairs import best_and_worst, preference_loss


def test_a_prompt_whose_replies_earned_the_same_has_no_pair():
    rewards, groups = torch.tensor([0.2, 0.2, 0.1, 0.9, 0.4]), torch.tensor([3, 3, 1, 1, 1])
    assert best_and_worst(rewards, groups) == [(3, 2)]
    with pytest.raises(UsageError, match=r"\[replies\]"):
        best_and_worst(rewards, groups[:2])


@pytest.mark.parametrize("beta", [0.1, 1.0])
def test_value_and_gradient_are_those_of_the_logistic_loss(beta):
    chosen, rejected = torch.tensor([0.5, -1.0], requires_grad=True), torch.tensor([0.0, 2.0], requires_grad=True)
    value = preference_loss(chosen, rejected, beta)
    value.backward()
    gaps = [0.5, -3.0]
    assert value.item() == pytest.approx(sum(math.log1p(math.exp(-beta * gap)) for gap in gaps) / 2)
    wanted = [-beta / (1 + math.exp(beta * gap)) / 2 for gap in gaps]
    torch.testing.assert_close(chosen.grad, torch.tensor(wanted))
    torch.testing.assert_close(rejected.grad, -chosen.grad)


def test_pairs_need_a_divergence():
    with pytest.raises(UsageError, match="divergence above 0"):
        preference_loss(torch.zeros(1), torch.zeros(1), 0.0)
