"""BASE: equal loads in training, the largest affinity otherwise, and an auction as good as the Hungarian method."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from torch import nn

from lorank import lowrank
from lorank.errors import UsageError
from lorank.lowrank.routing import balanced_assignment


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 6), st.integers(0, 999), st.sampled_from([0, 1, 9]))
def test_the_auction_reaches_the_hungarian_optimum(tokens, experts, seed, spread):
    rng = np.random.default_rng(seed)
    affinity = rng.normal(size=(tokens, experts)) + spread * rng.normal(size=experts)
    room = -(-tokens // experts)
    found = balanced_assignment(torch.from_numpy(affinity))
    assert torch.bincount(found, minlength=experts).max() <= room
    rows, slots = linear_sum_assignment(np.repeat(affinity, room, axis=1), maximize=True)
    best = affinity[rows, slots // room].sum()
    assert affinity[np.arange(tokens), found].sum() >= best - 1e-5 * tokens * np.ptp(affinity) - 1e-12


def test_ties_and_equal_tokens():
    assert balanced_assignment(torch.zeros(8, 4)).bincount().tolist() == [2, 2, 2, 2]
    with pytest.raises(UsageError, match="do not fit"):
        balanced_assignment(torch.zeros(8, 2), room=3)


def experts(number=4):
    torch.manual_seed(0)
    model = nn.ModuleDict({"layer": nn.Linear(6, 5).double()})
    adapter = lowrank.attach(model, "base-layers", rank=2, options={"experts": number})
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.normal_()
    return model["layer"], adapter.forms["layer"]


def test_base_layers_give_every_expert_the_same_number_of_tokens_in_training_and_the_nearest_otherwise():
    layer, form = experts()
    x = torch.randn(40, 6).double() + 1
    affinity = x @ form.centroids.t()
    layer.train()
    assert form.assign(affinity).bincount(minlength=4).tolist() == [10, 10, 10, 10]
    layer.eval()
    assert torch.equal(form.assign(affinity), affinity.argmax(1))
    assert affinity.argmax(1).bincount(minlength=4).max() > 10


def test_the_output_is_that_of_the_assigned_expert_under_its_gate():
    layer, form = experts()
    layer.eval()
    x = torch.randn(7, 6).double()
    for row in x:
        affinity = form.centroids @ row
        e = int(affinity.argmax())
        update = 2 * affinity[e].sigmoid() * form.B[e] @ (form.A[e] @ row)
        torch.testing.assert_close(layer(row), layer.base(row) + update)


def test_there_is_no_auxiliary_loss_and_centroids_learn_through_the_gate():
    layer, form = experts()
    layer.train()(torch.randn(8, 6).double()).sum().backward()
    assert form.penalty() is None
    assert (form.centroids.grad.abs().sum(1) > 0).all()


@pytest.mark.by_hand("base-layers")
def test_two_by_three_by_hand(one_layer, set_tensors):
    model, form = one_layer([[0.0] * 3, [0.0] * 3], "base-layers", rank=1, options={"experts": 2})
    set_tensors(form, A=[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], B=[[1.0, 0.0], [0.0, 1.0]])
    set_tensors(form, centroids=[[math.log(3), 0.0, 0.0], [0.0] * 3])
    x = torch.tensor([[1.0, 2.0, 0.0], [2.0, 2.0, 0.0]], dtype=torch.float64)
    # affinities (log 3, 0) and (log 9, 0): both would go to expert 0, under gates 2 * 3/4 and 2 * 9/10
    torch.testing.assert_close(model.eval()["layer"](x), torch.tensor([[1.5, 0.0], [3.6, 0.0]], dtype=torch.float64))
    # in training one each; the total is largest with the second at expert 0, and the first's gate is 2 * 1/2
    torch.testing.assert_close(model.train()["layer"](x), torch.tensor([[0.0, 2.0], [3.6, 0.0]], dtype=torch.float64))
