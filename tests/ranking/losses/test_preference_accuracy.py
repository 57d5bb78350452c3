"""preference-ranking-accuracy: the idealised bound in closed form, and the loss at which DPO turns a pair."""

import math

import pytest
import torch

from lorank.catalogue import METHODS
from lorank.errors import UsageError
from lorank.ranking.losses import LOSSES
from lorank.ranking.losses.lipo import log_ratio_scores
from lorank.ranking.losses.preference_accuracy import idealised_accuracy, ranking_accuracy, turning_loss


def pairs(count=200, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return -20 * torch.rand(2, count, generator=generator, dtype=torch.float64)


def test_preference_ranking_accuracy_of_any_policy():
    assert METHODS["preference-ranking-accuracy"].area == "losses.preference"
    chosen, rejected = pairs()
    assert ranking_accuracy(chosen, rejected) == sum(a > b for a, b in zip(chosen, rejected)) / 200
    lengths = torch.randint(1, 9, (2, 200), generator=torch.Generator().manual_seed(1))
    expected = sum(a / n > b / m for a, b, n, m in zip(chosen, rejected, *lengths)) / 200
    assert ranking_accuracy(chosen, rejected, chosen_lengths=lengths[0], rejected_lengths=lengths[1]) == expected
    assert ranking_accuracy(chosen, chosen) == 0


def test_idealised_accuracy_in_closed_form():
    chosen, rejected = pairs()
    assert idealised_accuracy(chosen, rejected, 1.0, beta=0.1) == 1  # everyone agrees: all can be right
    assert idealised_accuracy(chosen, rejected, 0.0, beta=0.1) == 0
    assert idealised_accuracy(chosen, rejected, 0.5, beta=0.1) == ranking_accuracy(chosen, rejected)
    for alpha, beta in ((0.7, 0.1), (0.6, 0.5)):
        bound = (alpha / (1 - alpha)) ** (1 / beta)
        expected = sum(math.exp(a - b) * bound > 1 for a, b in zip(chosen.tolist(), rejected.tolist())) / 200
        assert idealised_accuracy(chosen, rejected, alpha, beta=beta) == expected


def test_the_optimal_policy_attains_the_idealised_accuracy():
    """pi* is pi_ref exp(r / beta) up to a constant; with Bradley-Terry preferences r_w - r_l is the log-odds."""
    chosen, rejected = pairs()
    reward = torch.randn(2, 200, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    ideal = ranking_accuracy(chosen + reward[0] / 0.3, rejected + reward[1] / 0.3)
    assert idealised_accuracy(chosen, rejected, torch.sigmoid(reward[0] - reward[1]), beta=0.3) == ideal


@pytest.mark.parametrize("beta", [0.05, 0.5])
def test_a_pair_flips_exactly_when_its_dpo_loss_falls_below_the_turning_value(beta):
    """With the paper's c = log pi_ref(y_l) - log pi_ref(y_w): right iff DPO loss <= -log sigma(beta c)."""
    reference, policy = pairs(), pairs(seed=1)
    turning = turning_loss(*reference, beta=beta)
    c = reference[1] - reference[0]
    torch.testing.assert_close(turning, -torch.nn.functional.logsigmoid(beta * c))
    for pair in range(200):
        scores = log_ratio_scores(policy[:, pair], reference[:, pair], beta)[None]
        value = LOSSES["dpo"](scores, torch.tensor([[1.0, 0.0]]))
        assert bool(value < turning[pair]) == bool(policy[0, pair] > policy[1, pair])


def test_wrong_use_is_refused():
    chosen, rejected = pairs()
    for call in (
        lambda: ranking_accuracy(chosen, rejected[:3]),
        lambda: ranking_accuracy(chosen[:0], chosen[:0]),
        lambda: ranking_accuracy(chosen, rejected, chosen_lengths=torch.ones(200)),
        lambda: idealised_accuracy(chosen, rejected, 1.2, beta=0.1),
        lambda: turning_loss(chosen, rejected, beta=0.0),
    ):
        with pytest.raises(UsageError):
            call()
