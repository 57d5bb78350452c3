"""The kernels of low-rank approximation recover planted matrices; attention and completion keep their bounds.

Among the methods of the catalogue that these are facts of: lowrank-tales, dr-rl-attention, robust-altmin-completion.
"""

import pytest
import torch
import torch.nn.functional as F

from counted_numbers import CountedNumbers
from lorank.errors import UsageError
from lorank.lowrank.shrink.completion import complete
from lorank.lowrank.shrink.dynamic_attention import (
    error_bound,
    learn_ranks,
    low_rank_attention,
    needs_new_svd,
    score_svd,
)
from lorank.lowrank.shrink.flashbias import alibi_factors, biased_attention, factor_bias
from lorank.lowrank.shrink.hadamard import nearest_hadamard
from lorank.lowrank.shrink.kronecker import nearest_kronecker
from lorank.lowrank.shrink.tales import KERNELS, approximate


@pytest.fixture(params=[0, 1])
def generator(request):
    return torch.Generator().manual_seed(request.param)


def normal(generator, *shape):
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def planted(kernel, generator):
    """A matrix of the kernel's class, and what the kernel is asked for."""
    if kernel == "kronecker":
        return torch.kron(normal(generator, 3, 2), normal(generator, 4, 5)) + torch.kron(
            normal(generator, 3, 2), normal(generator, 4, 5)
        ), {"rank": 2, "shape": (3, 2)}
    low = normal(generator, 12, 2) @ normal(generator, 2, 10)
    if kernel == "hadamard":
        return (normal(generator, 12, 1) @ normal(generator, 1, 10)).abs() * low, {"rank": 2}
    return low, {"rank": 2}


@pytest.mark.parametrize("kernel", sorted(KERNELS))
def test_lowrank_tales_a_planted_matrix_of_its_class_is_recovered(kernel, generator):
    matrix, options = planted(kernel, generator)
    made = approximate(matrix, kernel, **options)
    assert float((made - matrix).norm() / matrix.norm()) < 1e-4
    assert approximate(matrix.float(), kernel, **options).dtype is torch.float32


def test_a_hadamard_product_reaches_a_rank_that_its_parts_have_not(generator):
    (a, b), (c, d) = ((normal(generator, 9, 2), normal(generator, 2, 9)) for _ in range(2))
    matrix = (a @ b) * (c @ d)
    assert int(torch.linalg.matrix_rank(matrix)) == 4
    pairs = nearest_hadamard(matrix, (2, 2), generator, rounds=300, starts=6)
    best = torch.linalg.svdvals(matrix)[2:].norm()
    assert float((pairs[0][0] @ pairs[0][1] * (pairs[1][0] @ pairs[1][1]) - matrix).norm()) < float(best)


@pytest.mark.parametrize(
    ("words", "match"),
    [
        ({"kernel": "csv"}, "did you mean 'svd'"),
        ({"rank": 0}, "rank 0"),
        ({"rank": 9}, "rank 9"),
        ({"kernel": "als", "round": 2}, "unknown option"),
        ({"kernel": "kronecker", "shape": (3, 2)}, "does not divide"),
    ],
)
def test_what_cannot_work_is_refused(words, match):
    with pytest.raises(UsageError, match=match):
        approximate(torch.ones(4, 5), **words)
    with pytest.raises(UsageError, match="ranks"):
        nearest_hadamard(torch.ones(4, 5), (5, 1), torch.Generator())
    with pytest.raises(UsageError, match="does not divide"):
        nearest_kronecker(torch.ones(4, 5), (0, 1))


def heads(generator, tokens=33, width=8):
    return [torch.randn(2, 3, tokens, width, generator=generator) for _ in range(3)]


def test_flashbias_alibi_by_two_columns_equals_the_dense_bias(generator):
    q, k, v = heads(generator)
    slopes = torch.tensor([0.5, 0.25, 0.125])
    phi_q, phi_k = alibi_factors(33, slopes)
    places = torch.arange(33.0)
    bias = -slopes[:, None, None] * (places[:, None] - places)
    mask = torch.ones(33, 33).tril().bool()
    for given in (None, mask):
        dense = bias if given is None else bias.masked_fill(~mask, float("-inf"))
        expected = F.scaled_dot_product_attention(q, k, v, attn_mask=dense.expand(2, 3, 33, 33))
        for multiple in (1, 8):
            own = biased_attention(q, k, v, phi_q, phi_k, mask=given, multiple=multiple)
            torch.testing.assert_close(own, expected, rtol=1e-5, atol=1e-5)


def test_the_error_of_a_truncated_bias_falls_with_its_rank_and_its_factors_hold_n_times_r_numbers(generator):
    q, k, v = heads(generator)
    bias = torch.randn(3, 33, 33, generator=generator) @ torch.diag(0.7 ** torch.arange(33.0))
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.expand(2, 3, 33, 33))
    errors = []
    for rank in (1, 4, 12, 33):
        phi_q, phi_k = factor_bias(bias, rank)
        assert phi_q.numel() + phi_k.numel() == 3 * 2 * 33 * rank
        errors.append(float((biased_attention(q, k, v, phi_q, phi_k) - expected).norm()))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-4
    with pytest.raises(UsageError, match="from 1 to 33"):
        factor_bias(bias, 34)
    with pytest.raises(UsageError, match="do not fit"):
        biased_attention(q, k, v, phi_q[:, :5], phi_k)


def test_flashbias_memory_grows_with_the_length_where_a_dense_bias_grows_with_its_square(generator):
    def largest(tokens, dense):
        q, k, v = heads(generator, tokens, width=16)
        factors = alibi_factors(tokens, torch.tensor([0.5, 0.25, 0.125]))
        with torch.no_grad(), CountedNumbers() as counted:
            if dense:
                bias = factors[0] @ factors[1].mT
                F.scaled_dot_product_attention(q, k, v, attn_mask=bias.expand(2, 3, tokens, tokens))
            else:
                biased_attention(q, k, v, *factors)
        return counted.largest

    for tokens in (128, 256, 512):
        assert largest(tokens, dense=True) >= 3 * tokens**2
        assert largest(tokens, dense=False) == 2 * 3 * tokens * (16 + 2)  # n (d + R) for each head


@pytest.mark.parametrize("value_width", [3, 8, 20])
def test_values_of_any_width_are_attended_to_as_with_the_dense_bias(generator, value_width):
    (q, k, _), (_, _, v) = heads(generator), heads(generator, width=value_width)
    bias = torch.randn(3, 33, 2, generator=generator) @ torch.randn(3, 2, 33, generator=generator)
    q.requires_grad_()
    own = biased_attention(q, k, v, *factor_bias(bias, 2))
    (mine,) = torch.autograd.grad(own.square().sum(), q)
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.expand(2, 3, 33, 33))
    (theirs,) = torch.autograd.grad(expected.square().sum(), q)
    torch.testing.assert_close(own, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-3)


def segment(generator, decay=0.6, tokens=40, width=12):
    q, k, v = (normal(generator, tokens, width) for _ in range(3))
    return q * decay ** torch.arange(width), k, v


def test_full_rank_attention_is_exact_and_no_error_is_above_its_bound(generator):
    for decay in (0.4, 0.8, 1.0):
        q, k, v = segment(generator, decay)
        exact = F.scaled_dot_product_attention(q, k, v)
        torch.testing.assert_close(low_rank_attention(q, k, v, 12), exact)
        spectrum = score_svd(q, k).s
        torch.testing.assert_close(spectrum, torch.linalg.svdvals(q @ k.t() * 12**-0.5)[:12])
        for rank in range(1, 13):
            error = float((low_rank_attention(q, k, v, rank) - exact).abs().max())
            assert error <= error_bound(spectrum, v, rank) + 1e-9


def test_old_directions_serve_as_long_as_the_bound_says_so(generator):
    q, k, v = segment(generator)
    first = score_svd(q, k)
    near = q + 1e-4 * normal(generator, 40, 12)
    moved = float(torch.linalg.matrix_norm((near - q) @ k.t() * 12**-0.5, 2))
    spectrum = score_svd(near, k).s
    assert float((spectrum - first.s).abs().max()) <= moved + 1e-12  # Weyl
    assert not needs_new_svd(first.s, moved, 3)
    assert needs_new_svd(first.s, 1e3, 3)
    own, reused = low_rank_attention(near, k, v, 3), low_rank_attention(near, k, v, 3, first.Vh)
    assert float((own - reused).abs().max()) < 0.01
    with pytest.raises(UsageError, match="from 1 to 12"):
        low_rank_attention(q, k, v, 13)


def test_dr_rl_attention_the_chosen_rank_falls_as_latency_weighs_more(generator):
    segments = [segment(generator, decay) for decay in (0.5, 0.9)]
    means = []
    for weight in (0.0, 0.5, 20.0):
        policy = learn_ranks(segments, (1, 4, 8, 12), latency_weight=weight, generator=generator)
        means.append(sum(policy.choose(each, 12) for each in segments) / 2)
    assert means[0] >= means[1] >= means[2]
    assert means[0] > means[2]
    with pytest.raises(UsageError, match="one segment"):
        learn_ranks([], (1,), latency_weight=0.0, generator=generator)


def seen(generator, share=0.4, m=60, n=50, rank=3):
    matrix = normal(generator, m, rank) @ normal(generator, rank, n)
    rows, columns = torch.nonzero(torch.rand(m, n, generator=generator) < share, as_tuple=True)
    return matrix, rows, columns


@pytest.mark.parametrize("tolerance", [0.05, 0.5])
def test_robust_altmin_completion_a_planted_matrix_is_completed_although_each_solve_errs(generator, tolerance):
    matrix, rows, columns = seen(generator)
    found = complete(rows, columns, matrix[rows, columns], (60, 50), 3, tolerance=tolerance)
    assert float((found.matrix - matrix).norm() / matrix.norm()) < 1e-6
    assert found.error < 1e-6


def test_robust_altmin_completion_its_work_is_linear_in_the_entries_times_the_rank(generator):
    def work(size, entries, rank):
        rows, columns = (torch.randint(size, (entries,), generator=generator) for _ in range(2))
        left, right = normal(generator, size, rank), normal(generator, size, rank)
        values = (left[rows] * right[columns]).sum(1)
        with CountedNumbers() as counted:
            complete(rows, columns, values, (size, size), rank, rounds=5)
        assert counted.largest <= entries * (rank + 5)  # what one step looks at; size^2 is more of the largest case
        return counted.touched / (entries * rank)

    one = work(400, 20_000, 8)
    for size, entries, rank in ((400, 40_000, 8), (800, 40_000, 8), (400, 20_000, 16), (2000, 80_000, 4)):
        assert 1 / 2.5 < work(size, entries, rank) / one < 2.5


def test_entries_that_do_not_determine_a_matrix_are_refused(generator):
    matrix, rows, columns = seen(generator)
    few = slice(0, 100)
    with pytest.raises(UsageError, match="unknowns; give more entries"):
        complete(rows[few], columns[few], matrix[rows[few], columns[few]], (60, 50), 3)
    with pytest.raises(UsageError, match="from 1 to 50"):
        complete(rows, columns, matrix[rows, columns], (60, 50), 51)
    with pytest.raises(UsageError, match="outside"):
        complete(rows + 60, columns, matrix[rows, columns], (60, 50), 3)
    with pytest.raises(UsageError, match="between 0 and 1"):
        complete(rows, columns, matrix[rows, columns], (60, 50), 3, tolerance=1.0)
