"""PaLoRA: a corner of the simplex is one task's adapter, and one model holds the front of two losses."""

import numpy as np
import pytest
import torch
from torch import nn

from lorank import lowrank
from lorank.errors import UsageError
from lorank.lowrank.routing import context, preference_schedule


def mixed(tasks=3, rank=2):
    torch.manual_seed(0)
    model = nn.ModuleDict({"layer": nn.Linear(6, 5).double()})
    adapter = lowrank.attach(model, "palora", rank=rank, alpha=3.0, options={"tasks": tasks})
    with torch.no_grad():
        adapter.forms["layer"].B.normal_()
    return model["layer"], adapter, adapter.forms["layer"]


def test_palora_at_a_corner_uses_that_tasks_adapter_only():
    layer, _, form = mixed()
    x = torch.randn(4, 6).double()
    for task in range(3):
        with context(preferences=[float(t == task) for t in range(3)]):
            expected = layer.base(x) + form.scaling * x @ form.A[task].t() @ form.B[task].t()
            torch.testing.assert_close(layer(x), expected)
            (gradient,) = torch.autograd.grad(layer(x).sum(), form.B)
            assert [bool(part.abs().sum() > 0) for part in gradient] == [t == task for t in range(3)]


def test_preferences_an_example_are_those_one_by_one():
    layer, _, _ = mixed()
    x, weights = torch.randn(4, 7, 6).double(), torch.rand(4, 3).double().softmax(1)
    with context(preferences=weights):
        together = layer(x)
    for row in range(4):
        with context(preferences=weights[row]):
            torch.testing.assert_close(together[row], layer(x[row]))
    with context(preferences=weights), pytest.raises(UsageError, match="no one matrix"):
        layer.delta()


def test_merging_within_a_context_serves_that_preference():
    layer, adapter, _ = mixed()
    x = torch.randn(4, 6).double()
    with context(preferences=[0.2, 0.3, 0.5]):
        before = layer(x)
        adapter.merge()
    torch.testing.assert_close(layer(x), before)


def test_memory_is_that_of_one_lora_a_task():
    _, adapter, _ = mixed(tasks=4)
    assert adapter.num_parameters() == 4 * 2 * (6 + 5)


def test_the_schedule_covers_the_simplex_and_ends_at_its_corners():
    steps = [preference_schedule(step, 400, 3) for step in range(400)]
    late = torch.stack(steps[200:])
    torch.testing.assert_close(late.sum(1), torch.ones(200))
    grid = {(a / 4, b / 4, (4 - a - b) / 4) for a in range(5) for b in range(5 - a)}
    assert {tuple(row.tolist()) for row in late} == grid
    torch.testing.assert_close(late.mean(0), torch.full((3,), 1 / 3), atol=0.02, rtol=0)
    assert (torch.stack(steps[:20]) - 1 / 3).abs().max() < 0.1


def test_one_model_covers_a_monotone_front_between_two_losses():
    """Two targets that cannot both be met; after one training run the preference moves along the front."""
    torch.manual_seed(0)
    model = nn.ModuleDict({"layer": nn.Linear(6, 4, bias=False)})
    x, targets = torch.randn(200, 6), [torch.randn(4, 6), torch.randn(4, 6)]
    adapter = lowrank.attach(model, "palora", rank=4, options={"tasks": 2})
    optimizer = torch.optim.Adam(adapter.parameters(), lr=0.02)

    def losses():
        y = model["layer"](x)
        return torch.stack([(y - x @ target.t()).square().mean() for target in targets])

    for step in range(300):
        told = preference_schedule(step, 300, 2)
        with context(preferences=told):
            loss = (told * losses()).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    front = []
    for share in torch.linspace(0, 1, 6):
        with context(preferences=torch.stack([share, 1 - share])), torch.no_grad():
            front.append(losses())
    front = torch.stack(front)
    assert (front[:, 0].diff() < 0).all()
    assert (front[:, 1].diff() > 0).all()
    assert front[-1, 0] < 0.05 * front[0, 0]
    assert front[0, 1] < 0.05 * front[-1, 1]


@pytest.mark.by_hand("palora")
def test_two_by_three_by_hand(one_layer, set_tensors):
    model, form = one_layer([[0.0] * 3, [0.0] * 3], "palora", rank=1, options={"tasks": 2})
    set_tensors(form, A=[[1.0, 0.0, 2.0], [0.0, 1.0, 0.0]], B=[[1.0, 0.0], [0.0, 4.0]])
    with context(preferences=[0.25, 0.75]):
        # 1/4 (1, 0)^T (1, 0, 2) + 3/4 (0, 4)^T (0, 1, 0)
        assert form.delta(model["layer"].weight).tolist() == pytest.approx(
            np.array([[0.25, 0.0, 0.5], [0.0, 3.0, 0.0]])
        )
        assert model["layer"](torch.ones(1, 3).double()).tolist() == pytest.approx(np.array([[0.75, 3.0]]))
