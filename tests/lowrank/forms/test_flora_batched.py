"""flora-batched shows: a mixed batch equals a loop, no weight is copied; the additive way; crossover ranks."""

import numpy as np
import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from lorank.catalogue import METHODS
from lorank.errors import UsageError
from lorank.lowrank.forms.flora_batched import (
    additive_product,
    crossover_rank,
    crossover_table,
    flora_product,
)

EXAMPLES, TOKENS, WIDTH, OUT, RANK = 5, 3, 8, 6, 2


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    shapes = ((EXAMPLES, TOKENS, WIDTH), (OUT, WIDTH), (EXAMPLES, RANK, WIDTH), (EXAMPLES, OUT, RANK))
    return [torch.randn(shape, generator=generator) for shape in shapes]


def test_flora_batched_is_registered():
    assert METHODS["flora-batched"].area == "adapters.serve"


def test_a_batch_of_examples_of_their_own_equals_a_loop(batch):
    x, W, A, B = batch
    loop = torch.stack([x[i] @ (W * (B[i] @ A[i])).T for i in range(EXAMPLES)])
    torch.testing.assert_close(flora_product(x, W, A, B), loop, rtol=1e-5, atol=1e-5)


def test_the_additive_way_equals_a_loop(batch):
    x, _, A, B = batch
    loop = torch.stack([x[i] @ (B[i] @ A[i]).T for i in range(EXAMPLES)])
    torch.testing.assert_close(additive_product(x, A, B), loop, rtol=1e-5, atol=1e-5)


def test_no_weight_is_copied_for_an_example():
    """No allocation is as large as one weight, though there are fifty examples."""
    width, examples = 256, 50
    x, W = torch.randn(examples, 1, width), torch.randn(width, width)
    A, B = torch.randn(examples, 1, width), torch.randn(examples, width, 1)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        flora_product(x, W, A, B)
    sizes = [event.nbytes() for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    assert max(sizes) < W.numel() * 4


def test_the_crossover_is_where_the_modelled_costs_meet():
    for (width, ratio), rank in crossover_table([64, 768, 4096], [1.0, 4.0, 20.0]).items():

        def flora(r, d=width):
            return r * d * d

        def lora(r, d=width, c=ratio):
            return d * d + 2 * c * d * r

        assert flora(rank) == pytest.approx(lora(rank))
        assert flora(0.99 * rank) < lora(0.99 * rank)
        assert flora(1.01 * rank) > lora(1.01 * rank)
    assert crossover_rank(64, 32.0) == float("inf")
    with pytest.raises(UsageError, match="above 0"):
        crossover_rank(0, 1.0)


def test_a_pair_of_ones_doubles_the_weight(one_layer, set_tensors):
    model, form = one_layer([[1.0, 2.0], [3.0, 4.0]], "flora-batched", rank=1)
    set_tensors(form, A=[[1.0, 1.0]], B=[[1.0], [1.0]])
    x = torch.tensor([[1.0, -1.0]], dtype=torch.float64)
    torch.testing.assert_close(model["layer"](x), 2 * x @ torch.tensor([[1.0, 3.0], [2.0, 4.0]], dtype=torch.float64))


@pytest.mark.by_hand("flora-batched")
def test_two_by_three_by_hand(one_layer, set_tensors):
    model, form = one_layer([[1.0, 2.0, 3.0], [0.0, 1.0, -1.0]], "flora-batched", rank=1, alpha=2.0)
    set_tensors(form, A=[[1.0, 2.0, 0.0]], B=[[1.0], [10.0]])
    # B A = [[1, 2, 0], [10, 20, 0]]; dW = 2 W o B A
    assert form.delta(model["layer"].base.weight).tolist() == pytest.approx(
        np.array([[2.0, 8.0, 0.0], [0.0, 40.0, 0.0]])
    )
    x = torch.ones(1, 3, dtype=torch.float64)
    assert model["layer"](x).tolist() == pytest.approx(np.array([[16.0, 40.0]]))
    assert model["layer"](x.expand(4, 3)).tolist() == pytest.approx(np.array([[16.0, 40.0]] * 4))  # as one matrix
