"""MHR: one head is Poly, one module a LoRA; z trains the logits, mu the mean."""

import math

import pytest
import torch
from torch import nn

from lorank import lowrank
from lorank.errors import UsageError
from lorank.lowrank.routing import context
from lorank.lowrank.routing.mhr import tune


def inventory(**options):
    torch.manual_seed(0)
    model = nn.ModuleDict({"layer": nn.Linear(6, 5).double()})
    adapter = lowrank.attach(model, "mhr", rank=4, options={"tasks": 3, "modules": 2, "heads": 2} | options)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.normal_()
    return model["layer"], adapter, adapter.forms["layer"]


def test_mhr_with_one_head_is_poly():
    layer, _, form = inventory(heads=1)
    x = torch.randn(4, 6).double()
    for task in range(3):
        alpha = form.logits[task, 0].softmax(0)
        A, B = (sum(a * part for a, part in zip(alpha, factor, strict=True)) for factor in (form.A, form.B))
        with context(tasks=task):
            torch.testing.assert_close(layer(x), layer.base(x) + x @ A.t() @ B.t())


def test_a_head_is_a_block_of_each_factors_input():
    layer, _, form = inventory()
    alpha = form.logits[1].softmax(-1)
    A = torch.cat([sum(alpha[h, m] * form.A[m][:, 3 * h : 3 * h + 3] for m in range(2)) for h in range(2)], dim=1)
    B = torch.cat([sum(alpha[h, m] * form.B[m][:, 2 * h : 2 * h + 2] for m in range(2)) for h in range(2)], dim=1)
    with context(tasks=1):
        torch.testing.assert_close(layer.delta(), B @ A)


def test_tasks_an_example_are_those_one_by_one():
    layer, _, _ = inventory()
    for shape in ((5, 6), (5, 3, 6)):
        x, tasks = torch.randn(shape).double(), torch.tensor([2, 0, 1, 2, 1])
        with context(tasks=tasks):
            together = layer(x)
        for row, task in enumerate(tasks.tolist()):
            with context(tasks=task):
                torch.testing.assert_close(together[row], layer(x[row]))


def test_a_tasks_loss_moves_its_own_logits_only():
    layer, _, form = inventory()
    with context(tasks=1):
        layer(torch.randn(4, 6).double()).sum().backward()
    assert [bool(part.abs().sum() > 0) for part in form.logits.grad] == [False, True, False]


def test_mhr_z_moves_only_logits():
    layer, adapter, form = inventory()
    A, B = form.A.detach().clone(), form.B.detach().clone()
    trained = tune(adapter, "z")
    assert [id(p) for p in trained] == [id(form.logits)] == [id(p) for p in adapter.parameters()]
    optimizer = torch.optim.SGD(trained, lr=1.0)
    with context(tasks=0):
        layer(torch.randn(4, 6).double()).square().sum().backward()
    optimizer.step()
    assert torch.equal(form.A, A)
    assert torch.equal(form.B, B)
    assert form.logits.abs().max() > 0


def test_mhr_mu_is_the_uniform_average_and_stays_one_module():
    layer, adapter, form = inventory()
    mean_A, mean_B = form.A.detach().mean(0), form.B.detach().mean(0)
    optimizer = torch.optim.Adam(tune(adapter, "mu"), lr=0.1)
    torch.testing.assert_close(layer.delta(), mean_B @ mean_A)
    for _ in range(3):
        optimizer.zero_grad()
        layer(torch.randn(4, 6).double()).square().sum().backward()
        optimizer.step()
    torch.testing.assert_close(form.A[0], form.A[1])
    torch.testing.assert_close(layer.delta(), form.B[0] @ form.A[0])
    assert not form.logits.requires_grad


def test_only_an_inventory_can_be_tuned_so(tower):
    with pytest.raises(UsageError, match="no inventory"):
        tune(lowrank.attach(tower()), "z")
    with pytest.raises(UsageError, match="known: mu, z"):
        tune(inventory()[1], "y")


@pytest.mark.by_hand("mhr")
def test_two_by_three_by_hand(one_layer, set_tensors):
    options = {"tasks": 1, "modules": 2, "heads": 3}
    model, form = one_layer([[0.0] * 3, [0.0] * 3], "mhr", rank=3, options=options)
    set_tensors(form, logits=[[math.log(3), 0.0], [0.0, 0.0], [0.0, 0.0]])
    set_tensors(form, A=[[[4.0, 0.0, 0.0], [0.0, 4.0, 0.0], [0.0, 0.0, 4.0]], [[0.0] * 3] * 3])
    set_tensors(form, B=[[[0.0] * 3] * 2, [[4.0, 0.0, 2.0], [0.0, 4.0, 2.0]]])
    # heads are columns; module 0 has weights 3/4, 1/2, 1/2 in them, module 1 the rest:
    # A = diag(3, 2, 2), B = [[1, 0, 1], [0, 2, 1]]
    expected = torch.tensor([[3.0, 0.0, 2.0], [0.0, 4.0, 2.0]], dtype=torch.float64)
    torch.testing.assert_close(form.delta(model["layer"].weight), expected)
