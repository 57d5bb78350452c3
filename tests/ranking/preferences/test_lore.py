"""lore-reward: rank 1 is one reward model, planted users are recovered, and a new user needs few pairs."""

import pytest
import torch

from lorank.catalogue import METHODS
from lorank.errors import UsageError
from lorank.ranking.preferences import PersonalRewards, fit_personal_rewards


def planted(users=30, pairs=60, dim=10, rank=3, seed=0):
    """Users are mixtures of three tastes; each prefers the answer that its own mixture rewards more."""
    generator = torch.Generator().manual_seed(seed)
    basis = 4 * torch.linalg.qr(torch.randn(dim, rank, generator=generator))[0].T
    mixtures = (2.5 * torch.randn(users, rank, generator=generator)).softmax(1)
    who = torch.arange(users).repeat_interleave(pairs)
    first, second = torch.randn(2, users * pairs, dim, generator=generator)
    margin = (((first - second) @ basis.T) * mixtures[who]).sum(1)
    better = torch.rand(len(margin), generator=generator) < margin.sigmoid()
    chosen = torch.where(better.unsqueeze(1), first, second)
    return basis, mixtures, who, chosen, torch.where(better.unsqueeze(1), second, first)


def test_lore_reward_of_rank_1_is_a_single_reward_model():
    assert METHODS["lore-reward"].area == "losses.preference"
    *_, who, chosen, rejected = planted(users=6)
    rewards = fit_personal_rewards(chosen, rejected, who, 1, steps=60)
    assert torch.equal(rewards.mixtures, torch.ones(6, 1))
    weights = torch.zeros(10, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=100, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        value = -torch.nn.functional.logsigmoid((chosen - rejected) @ weights).mean() + 1e-4 * weights.square().sum()
        value.backward()
        return value

    optimizer.step(closure)
    torch.testing.assert_close(
        fit_personal_rewards(chosen, rejected, who, 1, steps=300).basis[0], weights.detach(), atol=2e-3, rtol=1e-2
    )


def test_lore_reward_recovers_the_planted_tastes():
    basis, _, who, chosen, rejected = planted(pairs=120)
    found = fit_personal_rewards(chosen, rejected, who, 3)
    q, r = (torch.linalg.qr(m.T)[0] for m in (basis, found.basis))
    smallest = torch.linalg.svdvals(q.T @ r).min()
    assert torch.rad2deg(torch.arccos(smallest.clamp(max=1))) < 15


def test_lore_reward_serves_a_new_user_better_than_the_pooled_model():
    basis, _, who, chosen, rejected = planted()
    personal, pooled = (fit_personal_rewards(chosen, rejected, who, rank) for rank in (3, 1))
    right = {"few": [], "pooled": []}
    for seed in range(12):
        generator = torch.Generator().manual_seed(100 + seed)
        mixture = torch.eye(3)[seed % 3]
        gap = torch.randn(210, 10, generator=generator)
        gap = gap * (gap @ basis.T @ mixture).sign().unsqueeze(1)
        few, zero = gap[:10], torch.zeros(10, 10)
        tuned = personal.with_user(few, zero)
        assert torch.equal(tuned.basis, personal.basis)
        right["few"].append(float((tuned.score(gap[10:], user=len(tuned.mixtures) - 1) > 0).float().mean()))
        right["pooled"].append(float((pooled.score(gap[10:]) > 0).float().mean()))
    means = {name: sum(values) / 12 for name, values in right.items()}
    assert means["few"] > means["pooled"] + 0.05


def test_mixtures_lie_in_the_simplex_and_come_back_from_disk(tmp_path):
    *_, who, chosen, rejected = planted(users=4)
    rewards = fit_personal_rewards(chosen, rejected, who, 2, steps=20)
    torch.testing.assert_close(rewards.mixtures.sum(1), torch.ones(4))
    assert (rewards.mixtures >= 0).all()
    rewards.save(tmp_path / "rewards.safetensors")
    again = PersonalRewards.load(tmp_path / "rewards.safetensors")
    assert torch.equal(again.score(chosen, 2), rewards.score(chosen, 2))
    for bad in ((chosen, rejected[:3], who, 2), (chosen, rejected, who[:3], 2), (chosen, rejected, who, 0)):
        with pytest.raises(UsageError):
            fit_personal_rewards(*bad)
