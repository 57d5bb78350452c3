"""The projector that keeps off former tasks: orthogonal updates, and GaLore where there is no history."""

import pytest
import torch
from torch import nn

from lorank import lowrank
from lorank.errors import UsageError
from lorank.lowrank.projected.projectors.orthogonal import end_task

SEEDS = (0, 1)


def task(seed, steps=6):
    """Gradients of a task: two directions of the shorter side and a little noise."""
    generator = torch.Generator().manual_seed(seed)
    lead = torch.randn(10, 2, generator=generator)
    for _ in range(steps):
        yield lead @ torch.randn(2, 14, generator=generator) + 0.01 * torch.randn(10, 14, generator=generator)


@pytest.mark.parametrize("seed", SEEDS)
def test_without_a_history_it_is_galore(seed):
    found = []
    for projector in ("svd", "orthogonal"):
        weight = nn.Parameter(torch.zeros(10, 14))
        optimizer = lowrank.optimizer("galore", [weight], lr=0.1, rank=2, gap=3, projector=projector)
        for gradient in task(seed):
            weight.grad = gradient
            optimizer.step()
        found.append(weight.detach())
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("seed", SEEDS)
def test_updates_are_orthogonal_to_all_former_tasks(seed):
    weight = nn.Parameter(torch.zeros(10, 14))
    optimizer = lowrank.optimizer("galore", [weight], lr=0.1, rank=2, gap=3, projector="orthogonal")
    for number in range(4):
        for gradient in task(20 * seed + number):
            before = weight.detach().clone()
            weight.grad = gradient
            optimizer.step()
            move = weight.detach() - before
            assert move.norm() > 0
            if "history" in optimizer.state[weight]:
                along = optimizer.state[weight]["history"].t() @ move
                assert along.norm() < 1e-6 * weight.detach().norm().clamp_min(1)
        end_task(optimizer)
    history = optimizer.state[weight]["history"]
    torch.testing.assert_close(history.t() @ history, torch.eye(history.shape[1]), atol=1e-5, rtol=0)
    assert 4 <= history.shape[1] <= 8


def test_another_projector_has_no_tasks():
    weight = nn.Parameter(torch.zeros(10, 14))
    with pytest.raises(UsageError, match="projector='orthogonal'"):
        end_task(lowrank.optimizer("galore", [weight], lr=0.1))
