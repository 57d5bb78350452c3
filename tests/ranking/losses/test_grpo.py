"""GRPO against its formula, and rank-r1: a toy policy learns the format and the label from the reward alone."""

import numpy as np
import pytest
import torch

from lorank.catalogue import METHODS
from lorank.errors import UsageError
from lorank.ranking import Oracle, rerank
from lorank.ranking.losses.grpo import group_advantages, grpo_loss
from lorank.ranking.losses.rewards import ndcg, setwise_reward


def tokens(replies=4, length=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    log_probs = torch.randn(3, replies, length, generator=generator, dtype=torch.float64) * 0.3 - 1
    mask = torch.rand(replies, length, generator=generator) < 0.7
    mask[:, 0] = True
    return (*log_probs, torch.randn(replies, generator=generator, dtype=torch.float64), mask)


@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_the_loss_is_the_formula(beta):
    new, old, reference, gain, mask = tokens()
    total = 0.0
    for i in range(4):
        row = []
        for t in range(5):
            if mask[i, t]:
                ratio = float((new[i, t] - old[i, t]).exp())
                apart = float(reference[i, t] - new[i, t])
                row.append(
                    -min(ratio * gain[i], min(max(ratio, 0.8), 1.2) * gain[i]) + beta * (np.exp(apart) - apart - 1)
                )
        total += sum(row) / len(row)
    got = grpo_loss(new, old, gain, mask, reference_log_probs=reference, beta=beta)
    assert got.item() == pytest.approx(float(total) / 4)


def test_at_the_old_policy_the_gradient_is_the_policy_gradient():
    new, _, _, gain, mask = tokens()
    new = new.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(grpo_loss(new, new.detach(), gain, mask), new)
    expected = -gain[:, None] * mask / mask.sum(-1, keepdim=True) / 4
    torch.testing.assert_close(gradient, expected.double())


def test_advantages_are_standard_scores_and_equal_rewards_teach_nothing():
    rewards = torch.tensor([[1.0, 0.0, 0.0, 1.0], [1.0, 1.0, 1.0, 1.0]])
    advantages = group_advantages(rewards)
    torch.testing.assert_close(advantages.mean(-1), torch.zeros(2))
    torch.testing.assert_close(advantages[0].std(), torch.tensor(1.0), atol=1e-3, rtol=0)
    assert (advantages[1] == 0).all()


def test_rank_r1_raises_the_probability_of_the_right_label():
    replies = [*(f"<think>so</think><answer>[{place}]</answer>" for place in (1, 2, 3)), "[2]", "I cannot say", "[1]"]
    rewards = torch.tensor([setwise_reward(text, 3, 1) for text in replies])
    assert rewards.tolist() == [0, 1, 0, 0, 0, 0]
    logits = torch.zeros(len(replies), requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.1)
    generator = torch.Generator().manual_seed(0)
    history = []
    for _ in range(60):
        with torch.no_grad():
            shares = logits.softmax(0)
            history.append(shares[1].item())
            drawn = torch.multinomial(shares, 16, replacement=True, generator=generator)
            old = shares.log()[drawn][:, None]
        new = logits.log_softmax(0)[drawn][:, None]
        loss = grpo_loss(new, old, group_advantages(rewards[drawn][None])[0], torch.ones(16, 1, dtype=torch.bool))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert history[0] == pytest.approx(1 / 6)
    assert history[-1] > 0.9


def test_rank_r1_sorts_by_setwise_heapsort():
    labels = np.random.default_rng(3).integers(0, 4, 50)
    done = rerank("q", ["d"] * 50, Oracle(labels), "setwise", method="heapsort", size=20)
    assert ndcg(done.order, labels) == pytest.approx(1.0)
    assert METHODS["rank-r1"].area == "rerank"


def test_shapes_that_do_not_fit_are_refused():
    new, old, _, gain, mask = tokens()
    with pytest.raises(UsageError, match="advantages"):
        grpo_loss(new, old, gain[:2], mask)
