"""The clipped objective: against the loss of GRPO, by finite differences, and by units of tokens."""

import pytest
import torch

from lorank.ranking.losses.grpo import grpo_loss
from lorank.ranking.policies.objective import clipped_objective, unit_means


def tokens(seed=0, rows=4, width=5):
    generator = torch.Generator().manual_seed(seed)
    old = -torch.rand(rows, width, generator=generator, dtype=torch.float64)
    new = old + 0.4 * torch.randn(rows, width, generator=generator, dtype=torch.float64)
    mask = torch.rand(rows, width, generator=generator) < 0.8
    mask[:, 0] = True
    return new, old, torch.randn(rows, generator=generator, dtype=torch.float64), mask


@pytest.mark.parametrize("seed", [0, 1])
def test_units_of_one_token_are_grpo(seed):
    new, old, gains, mask = tokens(seed)
    reference = old - 0.1
    ours = clipped_objective(new, old, gains, mask, reference_log_probs=reference, beta=0.04)
    torch.testing.assert_close(ours, grpo_loss(new, old, gains, mask, reference_log_probs=reference))


@pytest.mark.parametrize("clips", [(0.2, 0.28), (0.5, 0.1)])
def test_the_gradient_is_the_derivative(clips):
    new, old, gains, mask = tokens()
    units = torch.tensor([0, 0, 1, 1, 2]).expand(4, 5)
    new.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda given: clipped_objective(
            given,
            old,
            gains,
            mask,
            units=units,
            clip_low=clips[0],
            clip_high=clips[1],
            beta=0.1,
            reference_log_probs=old,
        ),
        new,
    )


def test_a_list_of_one_item_is_the_ratio_of_the_whole_reply_normalised_by_its_length():
    new, old, gains, mask = tokens()
    one = torch.zeros(4, 5, dtype=torch.long)
    found = clipped_objective(new, old, gains, mask, units=one)
    ratio = (((new - old) * mask).sum(1) / mask.sum(1)).exp()
    each = -torch.minimum(ratio * gains, ratio.clamp(0.8, 1.2) * gains)
    torch.testing.assert_close(found, each.mean())


def test_an_items_ratio_is_the_geometric_mean_of_its_tokens():
    new, old, _, mask = tokens()
    units = torch.tensor([0, 0, 0, 1, 1]).expand(4, 5)
    mask = torch.ones_like(mask)
    ratios = unit_means(new - old, units, mask).exp()
    torch.testing.assert_close(ratios[:, 0], (new - old)[:, :3].exp().prod(1) ** (1 / 3))
    torch.testing.assert_close(ratios[:, 4], (new - old)[:, 3:].exp().prod(1) ** (1 / 2))


def test_what_was_pushed_far_enough_is_pushed_no_further():
    old = torch.zeros(1, 1)
    for shift, gain in ((1.0, 1.0), (-1.0, -1.0)):
        new = (old + shift).requires_grad_()
        clipped_objective(new, old, torch.tensor([gain]), torch.ones(1, 1, dtype=torch.bool)).backward()
        assert new.grad.abs().sum() == 0
