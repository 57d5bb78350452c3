"""mora-mixture: unit weights are a LoRA, an activation budget, ranks that call themselves, former ranks that stay."""

import math

import pytest
import torch
from torch import nn

from lorank import lowrank
from lorank.errors import UsageError

SEEDS = (0, 1)


def form_of(rank=4, width=16, seed=0, **options):
    model = nn.Sequential(nn.Linear(width, 6, bias=False)).double()
    adapter = lowrank.attach(model, "mora-mixture", rank=rank, alpha=float(rank), seed=seed, options=options)
    return model, adapter, adapter.forms["0"]


@pytest.mark.parametrize("seed", SEEDS)
def test_mora_mixture_with_all_ranks_at_unit_weight_is_lora(seed):
    torch.manual_seed(seed)
    model, _, form = form_of(frozen=4, top=8, temperature=float("inf"))
    with torch.no_grad():
        for own in (form.A, form.B, form.old_A, form.old_B):
            own.normal_()
    x = torch.randn(5, 16, dtype=torch.float64)
    update = form.scaling * (form.old_B @ form.old_A + form.B @ form.A)
    torch.testing.assert_close(model(x), x @ (model[0].base.weight + update).t())


@pytest.mark.parametrize("top", [1, 3])
def test_mora_mixture_uses_no_more_ranks_than_its_budget(top):
    _, _, form = form_of(frozen=8, top=top)
    with torch.no_grad():
        form.old_A.normal_()
    x = torch.randn(50, 16, dtype=torch.float64)
    weights = form.weights(x, x @ form.all_A().t(), form.all_A())
    assert ((weights > 0).sum(-1) <= top).all()
    torch.testing.assert_close(weights.sum(-1), torch.full((50,), float(top), dtype=torch.float64))


@pytest.mark.parametrize("seed", SEEDS)
def test_mora_mixture_calls_the_ranks_of_the_task_that_an_input_is_of(seed):
    """Two tasks whose inputs span orthogonal halves of the space: each rank trains on the inputs of its own task."""
    torch.manual_seed(seed)
    halves = torch.linalg.qr(torch.randn(16, 16, dtype=torch.float64)).Q.split(8, 1)

    def inputs(task, count=64):
        return torch.randn(count, 8, dtype=torch.float64) @ halves[task].t()

    def learn(model, adapter, task, change):
        optimizer = torch.optim.Adam(adapter.parameters(), lr=0.02)
        for _ in range(150):
            x = inputs(task)
            with adapter.disabled():
                target = model(x).detach() + x @ change.t()
            (model(x) - target).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()

    changes = [torch.randn(6, 2, dtype=torch.float64) @ torch.randn(2, 8, dtype=torch.float64) @ h.t() for h in halves]
    first, adapter, former = form_of()
    learn(first, adapter, 0, changes[0])
    second, adapter, form = form_of(frozen=4, top=4)
    second[0].base.weight.data.copy_(first[0].base.weight)
    form.take_over(former)
    kept = form.old_B.clone()
    learn(second, adapter, 1, changes[1])
    assert torch.equal(form.old_B, kept)
    for task, own in ((0, slice(0, 4)), (1, slice(4, 8))):
        x = inputs(task, 200)
        weights = form.weights(x, x @ form.all_A().t(), form.all_A())
        assert weights[:, own].sum() > 0.75 * weights.sum()


def test_mora_mixture_refuses_a_pool_of_another_size():
    _, _, former = form_of()
    _, _, form = form_of(frozen=3)
    with pytest.raises(UsageError, match="do not fit"):
        form.take_over(former)


@pytest.mark.by_hand("mora-mixture")
def test_two_by_three_by_hand(one_layer, set_tensors):
    x = torch.tensor([[3.0, 4.0, 0.0]], dtype=torch.float64)  # h = (3, 8), |x| = 5, so that q = (3/5, 8/10)
    factors = {"A": [[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]], "B": [[1.0, 10.0], [2.0, 20.0]]}
    model, form = one_layer([[0.0] * 3, [0.0] * 3], "mora-mixture", rank=2, options={"top": 1})
    set_tensors(form, **factors)
    torch.testing.assert_close(model["layer"](x), torch.tensor([[80.0, 160.0]], dtype=torch.float64))  # rank 1 alone
    options = {
        "top": 2,
        "temperature": 0.2 / math.log(3),
    }  # e^(q / tau) is 3 times as large for rank 1: weights 1/2, 3/2
    model, form = one_layer([[0.0] * 3, [0.0] * 3], "mora-mixture", rank=2, options=options)
    set_tensors(form, **factors)
    torch.testing.assert_close(model["layer"](x), torch.tensor([[121.5, 243.0]], dtype=torch.float64))
