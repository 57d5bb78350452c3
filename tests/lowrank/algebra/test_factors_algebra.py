"""Sums, scales and approximations of updates on their factors, against the dense matrices."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lorank import lowrank
from lorank.errors import UsageError
from lorank.lowrank import Factors, top_k_svd
from lorank.lowrank.algebra import (
    add,
    attach_factors,
    decompose,
    dense_update,
    factors_of,
    fold_scale,
    inner,
    scale,
    truncate,
)
from lorank.lowrank.algebra.factors import plain_lora


def draw(out, width, rank, scaling, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    A = torch.randn(rank, width, generator=generator, dtype=dtype)
    return Factors(A, torch.randn(out, rank, generator=generator, dtype=dtype), scaling)


sizes = st.integers(1, 9)
ranks = st.integers(0, 12)
scales = st.sampled_from([0.25, 1.0, 3.0, -2.0])


@settings(max_examples=60, deadline=None)
@given(out=sizes, width=sizes, ranks=st.tuples(ranks, ranks), s=st.tuples(scales, scales), seed=st.integers(0, 50))
def test_sums_scales_products_and_decompositions_are_the_dense_ones(out, width, ranks, s, seed):
    one, two = (draw(out, width, rank, factor, seed + i) for i, (rank, factor) in enumerate(zip(ranks, s)))
    torch.testing.assert_close(dense_update(add(one, two)), dense_update(one) + dense_update(two))
    assert add(one, two).A.shape[0] == sum(ranks)
    torch.testing.assert_close(dense_update(scale(one, -0.3)), -0.3 * dense_update(one))
    torch.testing.assert_close(dense_update(fold_scale(one)), dense_update(one))
    assert fold_scale(one).scaling == pytest.approx(1.0)
    assert inner(one, two) == pytest.approx((dense_update(one) * dense_update(two)).sum().item(), abs=1e-9)
    U, sigma, Vh = decompose(one)
    torch.testing.assert_close((U * sigma) @ Vh, dense_update(one))
    full = torch.linalg.svdvals(dense_update(one))[: len(sigma)]
    torch.testing.assert_close(sigma, full, atol=1e-9, rtol=1e-9)
    eye = torch.eye(len(sigma), dtype=torch.float64)
    torch.testing.assert_close(U.T @ U, eye)
    torch.testing.assert_close(Vh @ Vh.T, eye)


@settings(max_examples=40, deadline=None)
@given(out=sizes, width=sizes, rank=ranks, target=ranks, energy=st.floats(0.05, 1.0), seed=st.integers(0, 50))
def test_truncation_is_the_best_approximation_and_energy_the_least_rank(out, width, rank, target, energy, seed):
    own = draw(out, width, rank, 2.0, seed)
    U, sigma, Vh = top_k_svd(dense_update(own), min(target, rank))
    torch.testing.assert_close(dense_update(truncate(own, target)), (U * sigma) @ Vh, atol=1e-9, rtol=1e-9)
    kept = truncate(own, energy=energy)
    squares = torch.linalg.svdvals(dense_update(own)).square()
    held = squares[: kept.A.shape[0]].sum()
    assert held >= energy * squares.sum() * (1 - 1e-9)
    if kept.A.shape[0]:
        assert squares[: kept.A.shape[0] - 1].sum() < energy * squares.sum()


def test_nothing_dense_is_formed():
    out = width = 400_000  # a dense matrix would take 640 GB
    one, two = (draw(out, width, 2, 0.5, seed, torch.float32) for seed in (0, 1))
    assert truncate(add(one, two), 3).B.shape == (out, 3)
    assert inner(one, one) > 0


def test_wrong_use_is_told():
    with pytest.raises(UsageError, match="no updates"):
        add()
    with pytest.raises(UsageError, match="different weights"):
        add(draw(2, 3, 1, 1.0, 0), draw(3, 2, 1, 1.0, 0))
    with pytest.raises(UsageError, match="energy"):
        truncate(draw(2, 3, 1, 1.0, 0), energy=1.5)
    with pytest.raises(UsageError, match="negative"):
        truncate(draw(2, 3, 1, 1.0, 0), -1)
    with pytest.raises(UsageError, match="no layers"):
        attach_factors(nn.Sequential(nn.Linear(2, 2)), {})


@pytest.mark.parametrize("form", ["lora", "gralora", "vera", "mora-square", "dora", "hydra"])
def test_an_adapter_taken_off_as_factors_and_attached_again_scores_the_same(form, tower, shake):
    model = tower(torch.float64)
    x = torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    adapter = lowrank.attach(
        model, form, rank=2, alpha=5.0, ranks={"narrow": 4}, targets=["wide", "narrow", "transposed"], trained=["head"]
    )
    shake(adapter)
    before, update = model(x), adapter.forms["wide"]
    heads = lowrank.algebra.heads_of(adapter)
    if update.as_lora() is None:
        with pytest.raises(UsageError, match="no plain LoRA"):
            factors_of(adapter)
        assert plain_lora(update, model.wide.base.weight) is None
    factors = factors_of(adapter, rank=10)
    adapter.detach()
    fresh = tower(torch.float64)
    again = attach_factors(fresh, factors, heads=heads)
    torch.testing.assert_close(fresh(x), before)
    assert again.settings.method == "lora"
    assert all(layer.forms["default"].scaling == pytest.approx(1.0) for layer in again.layers.values())


def test_a_set_with_layers_of_rank_0_is_saved_and_loaded(tower, tmp_path):
    model = tower()
    none = Factors(torch.zeros(0, 10), torch.zeros(5, 0), 1.0)
    adapter = attach_factors(model, {"wide": draw(10, 6, 2, 3.0, 0, torch.float32), "narrow": none})
    adapter.save(tmp_path / "adapter")
    fresh = tower()
    lowrank.load(fresh, tmp_path / "adapter")
    x = torch.ones(2, 6)
    torch.testing.assert_close(fresh(x), model(x))
