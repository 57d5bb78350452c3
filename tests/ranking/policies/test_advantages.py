"""Each advantage against its value worked by hand, and what unlikeliness does to a policy of several modes."""

import statistics

import pytest
import torch

from lorank.ranking.losses.grpo import group_advantages
from lorank.ranking.policies.advantages import Replies, compute_advantages

ONE = torch.zeros(4, dtype=torch.long)
REWARDS = torch.tensor([1.0, 0.0, 0.5, 0.0])


def test_by_hand():
    found = compute_advantages("leave-one-out", Replies(REWARDS, ONE))
    torch.testing.assert_close(found, torch.tensor([1.0 - 0.5 / 3, 0.0 - 1.5 / 3, 0.5 - 1.0 / 3, 0.0 - 1.5 / 3]))
    found = compute_advantages("centred", Replies(REWARDS, ONE))
    torch.testing.assert_close(found, REWARDS - 1.5 / 4)
    spread = float(torch.tensor(REWARDS.tolist()).std())
    found = compute_advantages("group", Replies(REWARDS, ONE))
    torch.testing.assert_close(found, (REWARDS - 1.5 / 4) / (spread + 1e-4))
    torch.testing.assert_close(found, group_advantages(REWARDS.unsqueeze(0))[0])
    found = compute_advantages("global-mean", Replies(REWARDS, ONE, baselines=torch.tensor([0.2])))
    torch.testing.assert_close(found, REWARDS - 0.2)
    torch.testing.assert_close(compute_advantages("none", Replies(REWARDS, ONE)), REWARDS)


def test_ranks_are_compared_with_the_same_rank_of_other_lists():
    lists = torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    found = compute_advantages("per-rank", Replies(lists, torch.zeros(3, dtype=torch.long)))
    for rank in range(2):
        alone = compute_advantages("group", Replies(lists[:, rank], torch.zeros(3, dtype=torch.long)))
        torch.testing.assert_close(found[:, rank], alone)


def test_rare_right_replies_get_more_and_no_beta_is_grpo():
    rewards, logs = torch.tensor([1.0, 1.0, 0.0, 1.0]), torch.tensor([-0.1, -3.0, -0.5, -1.0])
    given = Replies(rewards, ONE, log_probs=logs)
    torch.testing.assert_close(
        compute_advantages("unlikeliness", given, beta=0.0), compute_advantages("group", Replies(rewards, ONE))
    )
    found = compute_advantages("unlikeliness", given, beta=0.25)
    assert found[1] > found[3] > found[0] > found[2]
    lowered = torch.tensor([1 - 0.25 * 3 / 4, 1.0, 0.0, 1 - 0.25 * 1 / 4])
    torch.testing.assert_close(found, compute_advantages("group", Replies(lowered, ONE)))


def trained(advantage, seed, steps=200, prompts=24, group=8, **options):
    """Policies over 12 replies of which 4 are right, one of them likely at the start and three hardly ever written."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.zeros(prompts, 12)
    logits[:, 0], logits[:, 1:4] = 2.0, -0.5
    logits = (logits + 0.3 * torch.randn(logits.shape, generator=generator)).requires_grad_()
    optimizer = torch.optim.Adam([logits], lr=0.05)
    groups = torch.arange(prompts).repeat_interleave(group)
    for _ in range(steps):
        logs = logits.log_softmax(1)
        said = torch.multinomial(logs.detach().exp(), group, replacement=True, generator=generator)
        chosen = logs.gather(1, said).reshape(-1)
        earned = (said < 4).float().reshape(-1)
        gain = compute_advantages(advantage, Replies(earned, groups, log_probs=chosen.detach()), **options)
        optimizer.zero_grad()
        (-(gain * chosen).mean()).backward()
        optimizer.step()
    chances = logits.detach().softmax(1)
    return float(chances[:, :4].sum(1).mean()), float((1 - (1 - chances[:, :4]) ** 8).sum(1).mean())


def test_unlikeliness_keeps_several_right_replies_alive_while_the_first_try_stays_as_good():
    plain, rare = (
        [trained(name, seed, **options) for seed in (0, 1, 2)]
        for name, options in (("group", {}), ("unlikeliness", {"beta": 0.5}))
    )
    first_try = [statistics.median(one for one, _ in runs) for runs in (plain, rare)]
    found_in_eight = [statistics.median(many for _, many in runs) for runs in (plain, rare)]
    assert first_try[0] > 0.9
    assert first_try[1] > first_try[0] - 0.05
    assert found_in_eight[1] > found_in_eight[0] + 0.3  # of four right replies, how many eight tries find


@pytest.mark.parametrize("seed", [0, 1])
def test_the_global_mean_corrects_what_keeping_a_balanced_group_distorts(seed):
    """A prompt answered right 9 times in 10: of its balanced group the own mean says half, the global mean says 0.9."""
    generator = torch.Generator().manual_seed(seed)
    own, corrected = [], []
    for _ in range(400):
        rewards = (torch.rand(32, generator=generator) < 0.9).float()
        if 0 < rewards.sum() < 32:
            kept = torch.cat([rewards[rewards > 0][:1], rewards[rewards < 1][:1]])
            replies = Replies(kept, torch.zeros(2, dtype=torch.long), baselines=rewards.mean().unsqueeze(0))
            own.append(compute_advantages("centred", replies)[0])
            corrected.append(compute_advantages("global-mean", replies)[0])
    assert float(torch.stack(own).mean()) == pytest.approx(0.5)
    assert float(torch.stack(corrected).mean()) == pytest.approx(0.1, abs=0.02)
