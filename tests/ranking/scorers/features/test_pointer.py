"""order-matters-set2seq: the encoder forgets the order, the decoder learns to sort, orders are searched for."""

import itertools

import numpy as np
import torch

from lorank.catalogue import METHODS
from lorank.ranking.scorers.features import FeatureLists, FeatureRanker
from lorank.ranking.scorers.features.pointer import Pointer


def made(**options):
    return Pointer(3, torch.Generator().manual_seed(0), **{"width": 8, "steps": 3, "places": 6, "orders": 0, **options})


def test_order_matters_set2seq_encoder_does_not_depend_on_the_order_of_documents():
    module, rows = made(), torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(1))
    order, mask = torch.randperm(6), torch.ones(2, 6, dtype=torch.bool)
    torch.testing.assert_close(module.encode(rows[:, order], mask)[1], module.encode(rows, mask)[1], atol=1e-6, rtol=0)
    wider = torch.nn.functional.pad(rows, (0, 0, 0, 2), value=9.0), torch.nn.functional.pad(mask, (0, 2))
    torch.testing.assert_close(module.encode(*wider)[1], module.encode(rows, mask)[1], atol=1e-6, rtol=0)


def test_the_chances_of_all_orders_add_up_to_one():
    module, rows = made(), torch.randn(1, 4, 3, generator=torch.Generator().manual_seed(1))
    orders = torch.tensor(list(itertools.permutations(range(4))))
    mask = torch.ones(len(orders), 4, dtype=torch.bool)
    chance = module.log_likelihood(rows.expand(len(orders), -1, -1), mask, orders).exp()
    torch.testing.assert_close(chance.sum(), torch.tensor(1.0))


def test_the_searched_loss_is_at_most_that_of_any_order_tried():
    """With distinct labels there is one right order; with ties the loss is that of the likeliest one tried."""
    module, rows = made(), torch.randn(1, 4, 3, generator=torch.Generator().manual_seed(2))
    mask, labels = torch.ones(1, 4, dtype=torch.bool), torch.tensor([[1.0, 3.0, 0.0, 2.0]])
    only = module.log_likelihood(rows, mask, torch.tensor([[1, 3, 0, 2]]))
    torch.testing.assert_close(module.objective(rows, labels, mask), -only[0] / 4)
    tied = torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    every = [
        module.log_likelihood(rows, mask, torch.tensor([[0, *rest]])) for rest in itertools.permutations((1, 2, 3))
    ]
    likeliest = -torch.cat(every).max() / 4
    thorough = made(orders=60)
    torch.manual_seed(0)
    value = thorough.objective(rows, tied, mask)
    torch.testing.assert_close(value, likeliest)
    assert all(value <= -one / 4 + 1e-6 for one in every)


def test_it_learns_to_sort_five_to_seven_numbers():
    rng = np.random.default_rng(0)
    sizes = rng.integers(5, 8, 500)
    rows = rng.uniform(size=(sizes.sum(), 1)).astype(np.float32)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    labels = np.concatenate([rows[a:b, 0].argsort().argsort() for a, b in itertools.pairwise(offsets)])
    lists = FeatureLists(rows, labels, offsets)
    ranker = FeatureRanker(model="pointer", transform="standardise", width=32, steps=1, places=7, orders=0)
    ranker.fit(lists.take(range(400)), epochs=30, lr=0.01)
    test = lists.take(range(400, 500))
    scores = ranker.score_lists(test)
    right = [np.corrcoef(scores[a:b], test.labels[a:b])[0, 1] for a, b in itertools.pairwise(test.offsets)]
    assert np.mean(right) > 0.95


def test_order_matters_set2seq_is_catalogued():
    assert METHODS["order-matters-set2seq"].area == "models"
