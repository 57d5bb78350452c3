"""The one SVD: Eckart-Young, orthonormality, fixed signs, seeds, and bad input."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lorank.errors import UsageError
from lorank.lowrank.linalg import top_k_svd

METHODS = ("exact", "randomised")


def decaying(rows, columns, seed=0):
    generator = torch.Generator().manual_seed(seed)
    U = torch.linalg.qr(torch.randn(rows, rows, generator=generator, dtype=torch.float64)).Q
    V = torch.linalg.qr(torch.randn(columns, columns, generator=generator, dtype=torch.float64)).Q
    values = 0.5 ** torch.arange(min(rows, columns), dtype=torch.float64)
    return (U[:, : len(values)] * values) @ V[:, : len(values)].T, values


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=25, deadline=None)
@given(rows=st.integers(1, 20), columns=st.integers(1, 20), k=st.integers(0, 25), seed=st.integers(0, 9))
def test_it_is_the_best_approximation(method, rows, columns, k, seed):
    matrix, values = decaying(rows, columns, seed)
    U, s, Vh = top_k_svd(matrix, k, method=method, generator=seeded(seed))
    kept = min(k, rows, columns)
    assert (U.shape, s.shape, Vh.shape) == ((rows, kept), (kept,), (kept, columns))
    torch.testing.assert_close(s, values[:kept], atol=1e-8, rtol=1e-6)
    torch.testing.assert_close(U.T @ U, torch.eye(kept).double(), atol=1e-9, rtol=0)
    torch.testing.assert_close(Vh @ Vh.T, torch.eye(kept).double(), atol=1e-9, rtol=0)
    error = torch.linalg.norm(matrix - (U * s) @ Vh)
    torch.testing.assert_close(error, values[kept:].norm(), atol=1e-7, rtol=1e-5)
    if kept:
        assert (U.gather(0, U.abs().argmax(0, keepdim=True)) > 0).all()


@pytest.mark.parametrize("method", METHODS)
def test_signs_do_not_depend_on_the_matrixs_sign_convention(method):
    matrix, _ = decaying(8, 6)
    U, _, Vh = top_k_svd(matrix, 3, method=method, generator=seeded())
    V, _, Uh = top_k_svd(-matrix, 3, method=method, generator=seeded())
    torch.testing.assert_close(U, V)
    torch.testing.assert_close(Vh, -Uh)


def test_the_same_generator_gives_the_same_bits():
    matrix, _ = decaying(30, 20)
    one, two = (top_k_svd(matrix, 4, method="randomised", generator=seeded(3)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_work_is_done_in_float32_or_better(dtype):
    matrix = decaying(6, 5)[0].to(dtype)
    U, s, Vh = top_k_svd(matrix, 5)
    assert U.dtype is (torch.float64 if dtype is torch.float64 else torch.float32)
    torch.testing.assert_close((U * s) @ Vh, matrix.to(U.dtype))


def test_the_zero_matrix():
    U, s, Vh = top_k_svd(torch.zeros(3, 4), 2)
    assert s.tolist() == [0.0, 0.0]
    assert U.isfinite().all()
    assert Vh.isfinite().all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"matrix": torch.zeros(3), "k": 1}, "matrix"),
        ({"matrix": torch.zeros(3, 3), "k": -1}, "negative"),
        ({"matrix": torch.zeros(3, 3), "k": 1, "method": "randomized"}, "randomised"),
        ({"matrix": torch.zeros(3, 3), "k": 1, "method": "randomised"}, "generator"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(UsageError, match=message):
        top_k_svd(**arguments)
