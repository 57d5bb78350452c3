"""Packed segments give what padded lists give, for every loss."""

import numpy as np
import pytest
import torch

from lorank.errors import UsageError
from lorank.ranking.losses import LOSSES, loss, requirements_of
from lorank.ranking.losses.core.packed import grids, pack_loss

PLAIN = sorted(name for name in LOSSES if not requirements_of(LOSSES[name]))
SIZES = {"alike": [5, 5, 5], "mixed": [3, 9, 1, 4, 0, 9, 2, 30]}


def segments(sizes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    count = sum(sizes)
    scores = torch.randn(count, generator=generator, dtype=torch.float64)
    labels = torch.randint(3, (count,), generator=generator).double()
    return scores, labels, torch.tensor([0, *np.cumsum(sizes)]), torch.rand(count, generator=generator).double()


def padded(sizes, *values):
    width = max(sizes)
    mask = torch.arange(width) < torch.tensor(sizes)[:, None]
    return [torch.zeros(mask.shape, dtype=v.dtype).masked_scatter(mask, v) for v in values], mask


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("case", SIZES)
def test_values_and_gradients_are_those_of_padded_lists(name, case):
    sizes = SIZES[case]
    scores, labels, offsets, weights = segments(sizes)
    scores.requires_grad_()
    function = loss(name)
    for given in (None, weights, weights[: len(sizes)]):
        (grid, label), mask = padded(sizes, scores, labels)
        per_list = given is not None and len(given) == len(sizes)
        laid_out = given if given is None or per_list else padded(sizes, given)[0][0]
        expected = function(grid, label, mask, laid_out)
        value = pack_loss(function)(scores, labels, offsets, given)
        torch.testing.assert_close(value, expected)
        for one, other in zip(torch.autograd.grad(value, scores), torch.autograd.grad(expected, scores)):
            torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", ["bce", "mse", "rcr", "ordinal"])
def test_lists_of_equal_labels_count_where_the_loss_keeps_them(name):
    sizes = SIZES["mixed"]
    scores, labels, offsets, _ = segments(sizes)
    function = loss(name, keep_equal=True)
    (grid, label), mask = padded(sizes, scores, labels)
    torch.testing.assert_close(pack_loss(function)(scores, labels, offsets), function(grid, label, mask))


def test_lists_of_one_size_are_a_view_and_others_waste_a_quarter_at_most():
    ((_, places, _),) = grids(torch.tensor([0, 4, 8, 12]))
    assert isinstance(places, slice)
    sizes = np.random.default_rng(0).integers(0, 200, 500)
    offsets = torch.tensor(np.concatenate([[0], np.cumsum(sizes)]))
    masks = [mask for _, _, mask in grids(offsets)]
    assert sum(int(mask.sum()) for mask in masks) == sizes.sum()
    assert sum(mask.numel() for mask in masks) <= 1.25 * sizes.sum()


def test_nothing_gives_zero():
    assert pack_loss(loss("lambda"))(torch.zeros(0), torch.zeros(0), torch.tensor([0])) == 0
    assert pack_loss(loss("softmax"))(torch.zeros(2), torch.ones(2), torch.tensor([0, 0, 2])) == 0


@pytest.mark.parametrize(
    ("labels", "offsets", "weights"),
    [(2, [0, 3], None), (3, [0, 2], None), (3, [1, 3], None), (3, [0, 2, 1, 3], None), (3, [0, 3], 2)],
)
def test_what_does_not_fit_is_refused(labels, offsets, weights):
    with pytest.raises(UsageError, match="packed|offsets"):
        pack_loss(loss("mse"))(
            torch.zeros(3), torch.zeros(labels), torch.tensor(offsets), None if weights is None else torch.ones(weights)
        )
