"""contextual-quality-rm: its formula, what it becomes without the outside option, and stopping early with it."""

import math

import numpy as np
import pytest
import torch

from lorank.catalogue import METHODS
from lorank.errors import UsageError
from lorank.ranking.losses import loss
from lorank.ranking.preferences import acceptance_threshold, best_of_mini_n

NOTHING = torch.tensor([True])
SOMETHING = torch.tensor([False])


def row(*values):
    return torch.tensor([values], dtype=torch.float64)


def test_by_hand():
    r, quality = (0.5, -1.0), loss("contextual-quality-rm")
    total = 1 + sum(math.exp(x) for x in r)
    assert float(quality(row(*r), row(1, 0), outside=SOMETHING)) == pytest.approx(-math.log(math.exp(0.5) / total))
    assert float(quality(row(*r), row(0, 0), outside=NOTHING)) == pytest.approx(math.log(total))
    weighted = quality(row(*r), row(0, 0), None, torch.tensor([3.0]), outside=NOTHING)
    assert float(weighted) == pytest.approx(3 * math.log(total))


def test_contextual_quality_rm_without_the_outside_option_is_bradley_terry_and_multinomial_logit():
    choice = loss("contextual-quality-rm", outside_option=False)
    pair = row(0.3, -0.9), row(0, 1)
    torch.testing.assert_close(choice(*pair, outside=SOMETHING), loss("ranknet")(*pair))
    many = row(0.3, -0.9, 2.0, 0.1), row(0, 0, 1, 0)
    torch.testing.assert_close(choice(*many, outside=SOMETHING), loss("softmax")(*many))
    assert choice(row(1, 2), row(0, 0), outside=NOTHING) == 0


def population(seed=0, lists=600, size=4):
    """People choose by Gumbel noise among answers of known utility and nothing, whose utility is 0."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(lists, size, 5, generator=generator)
    utility = 2 * x @ torch.tensor([1.0, -1.0, 0.5, 0.0, 0.0]) - 1.5
    gumbel = -(-torch.rand(lists, size + 1, generator=generator).log()).log()
    chosen = (torch.nn.functional.pad(utility, (1, 0)) + gumbel).argmax(1)
    labels = torch.nn.functional.one_hot(chosen, size + 1)[:, 1:].float()
    return x, utility, labels, chosen == 0


def fitted(name, **options):
    x, _, labels, outside = population()
    weights = torch.zeros(6, requires_grad=True)
    optimizer = torch.optim.Adam([weights], lr=0.1)
    for _ in range(150):
        optimizer.zero_grad()
        loss(name, **options)(x @ weights[:5] + weights[5], labels, outside=outside).backward()
        optimizer.step()
    return weights.detach()


def test_contextual_quality_rm_is_above_zero_where_an_answer_is_better_than_none():
    assert METHODS["contextual-quality-rm"].area == "losses.preference"
    weights = fitted("contextual-quality-rm")
    x, utility, *_ = population(seed=1)
    agree = ((x @ weights[:5] + weights[5] > 0) == (utility > 0)).float().mean()
    assert agree > 0.95
    without = fitted("contextual-quality-rm", outside_option=False)
    assert ((x @ without[:5] + without[5] > 0) == (utility > 0)).float().mean() < agree - 0.1


def test_contextual_quality_rm_stops_early_at_equal_quality():
    weights = fitted("contextual-quality-rm")
    x, utility, *_ = population(seed=2)
    rewards = x @ weights[:5] + weights[5]
    threshold = acceptance_threshold(rewards.flatten().tolist(), (utility > 0).flatten().tolist(), share=0.99)
    generator = np.random.default_rng(0)
    test_x, test_utility, *_ = population(seed=3)
    pool_reward, pool = (test_x @ weights[:5] + weights[5]).flatten().numpy(), test_utility.flatten().numpy()
    drawn, early, late = [], [], []
    for _ in range(200):
        order = iter(generator.permutation(len(pool)))

        def draw(count, order=order):
            return [next(order) for _ in range(count)]

        stopped = best_of_mini_n(draw, lambda chosen: pool_reward[chosen], size=4, most=32, threshold=threshold)
        drawn.append(stopped.drawn)
        early.append(pool[stopped.best] > 0)
        late.append(
            pool[best_of_mini_n(draw, lambda chosen: pool_reward[chosen], size=32, most=32, threshold=math.inf).best]
            > 0
        )
    assert np.mean(drawn) < 20
    assert np.mean(early) > np.mean(late) - 0.03


def test_early_exit_counts_and_refuses():
    numbers = iter(range(100))
    found = best_of_mini_n(lambda n: [next(numbers) for _ in range(n)], lambda xs: xs, size=4, most=10, threshold=99)
    assert (found.best, found.drawn, found.accepted) == (9, 10, False)
    with pytest.raises(UsageError, match="size"):
        best_of_mini_n(lambda n: [], lambda xs: xs, size=5, most=4)


def test_thresholds_let_equal_rewards_pass_together():
    assert acceptance_threshold([3.0, 2.0, 2.0, 1.0], [True, True, False, False], share=0.6) == pytest.approx(1.0)
    assert acceptance_threshold([3.0, 2.0, 2.0, 1.0], [True, True, False, False], share=0.9) == pytest.approx(2.0)
    assert acceptance_threshold([2.0, 1.0], [True, True]) < 1.0
    with pytest.raises(UsageError, match="no reward"):
        acceptance_threshold([2.0, 1.0], [False, True], share=0.9)
