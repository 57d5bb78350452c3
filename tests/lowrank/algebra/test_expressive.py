"""lora-expressive-power: the linear case, exact at the bound and of the predicted error below it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lorank import lowrank
from lorank.errors import UsageError
from lorank.lowrank.algebra import attach_factors, dense_update
from lorank.lowrank.algebra.expressive import product, reach, sufficient_rank


def chain(n, layers, seed):
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randn(layers + 1, n, n, generator=generator, dtype=torch.float64) / n**0.5
    return list(draws[:-1] + torch.eye(n)), draws[-1] + torch.eye(n)


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 8), layers=st.integers(1, 4), rank=st.integers(0, 4), seed=st.integers(0, 99))
def test_lora_expressive_power_the_error_is_the_predicted_singular_value(n, layers, rank, seed):
    weights, target = chain(n, layers, seed)
    updates = reach(weights, target, rank)
    assert all(torch.linalg.matrix_rank(dense_update(update)) <= rank for update in updates if rank)
    reached = product([weight + dense_update(update) for weight, update in zip(weights, updates, strict=True)])
    sigma = torch.linalg.svdvals(target - product(weights))
    predicted = sigma[rank * layers].item() if rank * layers < n else 0.0
    assert torch.linalg.matrix_norm(reached - target, 2).item() == pytest.approx(predicted, abs=1e-6)


def test_lora_expressive_power_is_exact_at_the_bound_and_not_below_it():
    weights, _ = chain(6, 3, 0)
    generator = torch.Generator().manual_seed(5)
    low = torch.randn(6, 4, generator=generator, dtype=torch.float64)
    target = product(weights) + low @ torch.randn(4, 6, generator=generator, dtype=torch.float64)
    bound = sufficient_rank(weights, target)
    assert bound == 2
    model = torch.nn.Sequential(*(torch.nn.Linear(6, 6, bias=False) for _ in weights)).double()
    with torch.no_grad():
        for layer, weight in zip(model, weights, strict=True):
            layer.weight.copy_(weight)
    x = torch.randn(3, 6, dtype=torch.float64)
    for rank, exact in ((bound, True), (bound - 1, False)):
        updates = {str(place): update for place, update in enumerate(reach(weights, target, rank))}
        adapter = attach_factors(model, updates)
        assert torch.allclose(model(x), x @ target.T, atol=1e-8) is exact
        adapter.detach()
    assert lowrank.methods("adapters.form")


def test_a_singular_layer_is_told():
    with pytest.raises(UsageError, match="singular"):
        reach([torch.eye(2), torch.zeros(2, 2)], torch.eye(2), 1)
