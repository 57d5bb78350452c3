"""Refactorisation and reset: same product, equal norms, better condition, zero moments (pretrain-refactor-reset)."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from factored_layers import fit_teacher, linear
from lorank.errors import UsageError
from lorank.lowrank.factored import make_factored
from lorank.lowrank.factored.refactor_reset import balance

SEEDS = [0, 1]


@given(st.integers(1, 5), st.integers(5, 9), st.integers(5, 9), st.integers(0, 10**6))
def test_the_product_stays_and_the_factors_are_balanced(rank, out, width, seed):
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(rank, width, generator=generator, dtype=torch.float64) * 20
    b = torch.randn(out, rank, generator=generator, dtype=torch.float64) / 30
    new_a, new_b = balance(a, b)
    torch.testing.assert_close(new_b @ new_a, b @ a, atol=1e-9, rtol=1e-9)
    assert float(new_a.norm()) == pytest.approx(float(new_b.norm()))
    values = torch.linalg.svdvals(b @ a)[:rank]
    torch.testing.assert_close(torch.linalg.svdvals(new_a), values.sqrt(), atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("reset", [True, False])
def test_an_event_resets_the_moments_or_leaves_them(seed, reset):
    torch.manual_seed(seed)
    made = make_factored(
        nn.Sequential(nn.Linear(9, 8)), "pretrain-refactor-reset", targets="0", rank=3, every=5, reset=reset, seed=seed
    )
    (layer,) = made.layers.values()
    optimizer = made.optimizer(lr=1e-2)
    for step in range(1, 6):
        optimizer.zero_grad()
        layer.dense().square().sum().backward()
        optimizer.step()
        before = layer.dense().detach().clone()
        changed = made.after_step(step, 100, optimizer)
        assert changed == (step == 5)
        torch.testing.assert_close(layer.dense(), before, atol=1e-6, rtol=0)
    assert float(layer.A.norm()) == pytest.approx(float(layer.B.norm()), rel=1e-5)
    for factor in (layer.A, layer.B):
        state = optimizer.state[factor]
        zero = float(state["exp_avg"].abs().sum() + state["exp_avg_sq"].abs().sum() + state["step"])
        assert (zero == 0) is reset
    assert float(optimizer.state[layer.bias]["step"]) == 5 if layer.bias.grad is not None else True


def test_ten_events_a_run_and_none_at_its_end():
    made = make_factored(nn.Sequential(nn.Linear(9, 8)), "pretrain-refactor-reset", targets="0", rank=3)
    optimizer = made.optimizer(lr=1e-2)
    due = [step for step in range(1, 101) if made.after_step(step, 100, optimizer)]
    assert due == [10, 20, 30, 40, 50, 60, 70, 80, 90]


def test_no_step_is_no_interval():
    with pytest.raises(UsageError, match="every 1 step"):
        make_factored(nn.Sequential(nn.Linear(4, 4)), "pretrain-refactor-reset", rank=1, targets="0", every=0)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_below_plain_factors_on_an_ill_conditioned_teacher(seed):
    generator = torch.Generator().manual_seed(seed)
    left, right = (torch.linalg.qr(torch.randn(24, 24, generator=generator)).Q for _ in range(2))
    teacher = left * torch.logspace(1, -2, 24) @ right
    start = lambda: linear(torch.randn(24, 24, generator=torch.Generator().manual_seed(seed)))  # noqa: E731
    ours, _ = fit_teacher(start, teacher, steps=300, lr=0.01, method="pretrain-refactor-reset", rank=8, seed=seed)
    plain, _ = fit_teacher(
        start, teacher, steps=300, lr=0.01, method="greenformers-lrt", start="random", rank=8, seed=seed
    )
    assert ours < 0.5 * plain
