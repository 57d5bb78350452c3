"""Combining adapters: limits, hand-worked cases, and what scales and ranks do not change."""

import pytest
import torch

from lorank.errors import UsageError
from lorank.lowrank import Factors, combine, top_k_svd
from lorank.lowrank.algebra import COMBINATIONS, combine_heads, dense_update
from lorank.lowrank.algebra.combine import trim


def draw(rank, scaling, seed, out=5, width=7):
    generator = torch.Generator().manual_seed(seed)
    A = torch.randn(rank, width, generator=generator, dtype=torch.float64)
    return Factors(A, torch.randn(out, rank, generator=generator, dtype=torch.float64), scaling)


def of(matrix):
    matrix = torch.tensor(matrix, dtype=torch.float64)
    return {"layer": Factors(torch.eye(matrix.shape[1], dtype=torch.float64), matrix, 1.0)}


def test_linear_is_the_weighted_sum_whatever_ranks_and_scales():
    sets = [{"a": draw(2, 4.0, 0), "b": draw(1, 1.0, 5)}, {"a": draw(3, 0.5, 1)}]
    result = combine(sets, [0.7, -2.0])
    torch.testing.assert_close(
        dense_update(result["a"]), 0.7 * dense_update(sets[0]["a"]) - 2.0 * dense_update(sets[1]["a"])
    )
    torch.testing.assert_close(dense_update(result["b"]), 0.7 * dense_update(sets[0]["b"]))
    average = dense_update(combine(sets)["a"])
    torch.testing.assert_close(average, (dense_update(sets[0]["a"]) + dense_update(sets[1]["a"])) / 2)


def test_svd_is_the_best_approximation_of_the_sum():
    sets = [{"a": draw(2, 4.0, 0)}, {"a": draw(3, 0.5, 1)}]
    result = combine(sets, [1.0, 1.0], "svd", rank=2)["a"]
    U, s, Vh = top_k_svd(dense_update(sets[0]["a"]) + dense_update(sets[1]["a"]), 2)
    torch.testing.assert_close(dense_update(result), (U * s) @ Vh)
    assert result.A.shape[0] == 2


def test_ties_by_hand():
    # weights 1/2 and no trimming: signs of the sums + - +, so 4 alone, -2 and -6, 1 and 3 are averaged
    result = dense_update(
        combine([of([[8.0, -4.0, 2.0]]), of([[-2.0, -12.0, 6.0]])], method="ties", density=1.0)["layer"]
    )
    torch.testing.assert_close(result, torch.tensor([[8.0, -8.0, 4.0]], dtype=torch.float64))
    trimmed = combine([of([[8.0, -4.0, 2.0]]), of([[-2.0, -12.0, 6.0]])], method="ties", density=1 / 3)
    torch.testing.assert_close(dense_update(trimmed["layer"]), torch.tensor([[8.0, -12.0, 0.0]], dtype=torch.float64))


@pytest.mark.parametrize("method", COMBINATIONS)
def test_the_average_of_equal_adapters_is_that_adapter(method):
    own = {"a": draw(3, 2.0, 4)}
    result = combine([own, own, own], method=method, rank=3, density=1.0)["a"]
    torch.testing.assert_close(dense_update(result), dense_update(own["a"]))


def test_dare_keeps_the_mean_and_drops_by_its_seed():
    own = [of([[1.0, -2.0, 3.0], [4.0, 5.0, -6.0]])]
    draws = torch.stack([dense_update(combine(own, [1.0], "dare", density=0.4, seed=i)["layer"]) for i in range(1500)])
    torch.testing.assert_close(draws.mean(0), dense_update(own[0]["layer"]), atol=0.7, rtol=0)
    kept = (draws.abs() > 1e-9).double().mean((0, 1, 2))
    assert kept == pytest.approx(0.4, abs=0.03)
    torch.testing.assert_close(draws[0], dense_update(combine(own, [1.0], "dare", density=0.4, seed=0)["layer"]))


def test_heads_are_averaged_with_the_weights_over_their_sum():
    heads = [{"head": {"w": torch.tensor([value]), "n": torch.tensor(3)}} for value in (2.0, 8.0)]
    merged = combine_heads(heads, [1.0, 2.0])
    assert merged["head"]["w"].item() == pytest.approx(6.0)
    assert merged["head"]["n"].item() == 3
    with pytest.raises(UsageError, match="different modules"):
        combine_heads([heads[0], {}])


@pytest.mark.parametrize(
    ("keywords", "match"),
    [
        ({"method": "mean"}, "known: dare"),
        ({"method": "svd"}, "rank or an energy"),
        ({"weights": [1.0]}, "1 weights"),
        ({"density": 0.0}, "density"),
    ],
)
def test_wrong_use_is_told(keywords, match):
    with pytest.raises(UsageError, match=match):
        combine([{"a": draw(1, 1.0, 0)}, {"a": draw(1, 1.0, 1)}], **keywords)
    with pytest.raises(UsageError, match="one at least"):
        combine([])
    torch.testing.assert_close(trim(torch.tensor([1.0, 2.0]), 1.0), torch.tensor([1.0, 2.0]))
