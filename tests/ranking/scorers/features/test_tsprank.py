"""tsprank: its solver against brute force, its losses against their formulas."""

import itertools
import math

import numpy as np
import pytest
import torch

from lorank.catalogue import METHODS
from lorank.ranking.scorers.features.tours import best_tour, tour_score
from lorank.ranking.scorers.features.tsprank import TourRanker, global_loss, local_loss, successor_chances


def brute_force(pairs, size, grades=None):
    """The largest sum over all permutations, of falling grades where they are given."""
    best = -math.inf
    for order in itertools.permutations(range(size)):
        if grades is None or all(grades[a] >= grades[b] for a, b in itertools.pairwise(order)):
            best = max(best, sum(float(pairs[a, b]) for a, b in itertools.pairwise(order)))
    return best


def random_pairs(batch, size, seed=0):
    return torch.randn(batch, size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("size", [2, 3, 6, 7])
def test_tsprank_solver_matches_brute_force(size):
    pairs, mask = random_pairs(4, size), torch.ones(4, size, dtype=torch.bool)
    mask[1, size - 1] = size == 2
    order, sizes = best_tour(pairs, mask), mask.sum(1)
    assert [sorted(row) for row in order.tolist()] == [list(range(size))] * 4
    for i, score in enumerate(tour_score(pairs, order, sizes).tolist()):
        assert score == pytest.approx(brute_force(pairs[i], int(sizes[i])))


def test_eight_documents_match_brute_force():
    pairs = random_pairs(1, 8, seed=3)
    order = best_tour(pairs, torch.ones(1, 8, dtype=torch.bool))
    assert float(tour_score(pairs, order, torch.tensor([8]))) == pytest.approx(brute_force(pairs[0], 8))


def best_by_sets(pairs):
    """The largest sum over all orders, by recursion over the sets of documents that came before."""
    size, table = len(pairs), pairs.numpy()
    best = np.full((1 << size, size), -np.inf)
    best[1 << np.arange(size), np.arange(size)] = 0.0
    for visited in range(1, 1 << size):
        for new in range(size):
            if not visited >> new & 1:
                reached = visited | 1 << new
                best[reached, new] = max(best[reached, new], (best[visited] + table[:, new]).max())
    return best[-1].max()


@pytest.mark.parametrize("size", [10, 11, 12])
def test_tours_of_up_to_twelve_documents_are_the_best(size):
    tables = 4 if size < 12 else 2
    pairs = random_pairs(tables, size, seed=size)
    order = best_tour(pairs, torch.ones(tables, size, dtype=torch.bool))
    scores = tour_score(pairs, order, torch.full((tables,), size)).tolist()
    assert scores == pytest.approx([best_by_sets(each) for each in pairs])


def block_moves(order):
    """Every order that moving one block of up to three documents makes."""
    for start in range(len(order)):
        for length in (1, 2, 3):
            block, rest = order[start : start + length], order[:start] + order[start + length :]
            yield from (rest[:gap] + block + rest[gap:] for gap in range(len(rest) + 1))


@pytest.mark.parametrize("graded", [False, True])
@pytest.mark.parametrize("size", [13, 22])
def test_longer_tours_cannot_be_bettered_by_moving_a_block(size, graded):
    pairs = random_pairs(2, size, seed=size)
    grades = torch.arange(size).remainder(3).expand(2, -1) if graded else None
    order = best_tour(pairs, torch.ones(2, size, dtype=torch.bool), grades)
    for i, found in enumerate(order.tolist()):
        own = float(tour_score(pairs[i : i + 1], order[i : i + 1], torch.tensor([size])))
        for moved in block_moves(found):
            if graded and any(grades[i, a] < grades[i, b] for a, b in itertools.pairwise(moved)):
                continue
            assert sum(float(pairs[i, a, b]) for a, b in itertools.pairwise(moved)) <= own + 1e-6


def test_right_tours_visit_grades_in_descending_order_and_are_the_best_that_do():
    pairs, mask = random_pairs(3, 6, seed=1), torch.ones(3, 6, dtype=torch.bool)
    grades = torch.tensor([[0, 2, 1, 0, 2, 0]]).expand(3, -1)
    order = best_tour(pairs, mask, grades)
    visited = grades.gather(1, order)
    assert (visited[:, 1:] <= visited[:, :-1]).all()
    for i, score in enumerate(tour_score(pairs, order, torch.full((3,), 6)).tolist()):
        assert score == pytest.approx(brute_force(pairs[i], 6, grades[i].tolist()))


@pytest.mark.parametrize("size", [9, 14, 40])
def test_a_planted_chain_is_recovered(size):
    chain = torch.randperm(size, generator=torch.Generator().manual_seed(0))
    pairs = torch.zeros(1, size, size)
    pairs[0, chain[:-1], chain[1:]] = 1.0
    assert best_tour(pairs, torch.ones(1, size, dtype=torch.bool))[0].tolist() == chain.tolist()


def test_long_tours_of_falling_grades_fall():
    pairs, mask = random_pairs(2, 20), torch.ones(2, 20, dtype=torch.bool)
    mask[1, 15:] = False
    grades = torch.randint(3, (2, 20), generator=torch.Generator().manual_seed(2))
    order = best_tour(pairs, mask, grades)
    visited = grades.masked_fill(~mask, -1).gather(1, order)
    assert (visited[:, 1:] <= visited[:, :-1]).all()
    assert set(order[1, 15:].tolist()) == set(range(15, 20))


def test_successors_are_the_chances_over_all_orders_that_break_ties_at_random():
    labels = [2, 1, 1, 0, 0, 0]
    counts, orders = torch.zeros(6, 6), 0
    for order in itertools.permutations(range(6)):
        if all(labels[a] >= labels[b] for a, b in itertools.pairwise(order)):
            orders += 1
            for a, b in itertools.pairwise(order):
                counts[a, b] += 1
    chances = successor_chances(torch.tensor([labels]), torch.ones(1, 6, dtype=torch.bool))[0]
    torch.testing.assert_close(chances, counts / orders)


def test_local_loss_is_cross_entropy_of_each_successor():
    pairs, labels = random_pairs(1, 4, seed=5), torch.tensor([[1.0, 3.0, 0.0, 2.0]])
    terms = []
    for i, successor in [(1, 3), (3, 0), (0, 2)]:
        others = [float(pairs[0, i, j]) for j in range(4) if j != i]
        terms.append(math.log(sum(map(math.exp, others))) - float(pairs[0, i, successor]))
    value = local_loss(pairs, labels, torch.ones(1, 4, dtype=torch.bool))
    assert float(value) == pytest.approx(sum(terms) / 3)


def test_global_loss_is_zero_once_the_right_tour_is_separated_by_its_margin():
    labels, mask = torch.tensor([[3.0, 1.0, 2.0, 0.0]]), torch.ones(1, 4, dtype=torch.bool)
    pairs = torch.zeros(1, 4, 4)
    right = [(0, 2), (2, 1), (1, 3)]
    for i, j in right:
        pairs[0, i, j] = 1.0 + 1e-6
    assert float(global_loss(pairs, labels, mask)) == 0.0
    weak = pairs * 0.5
    worst = max(
        sum(float(weak[0, a, b]) + ((a, b) not in right) for a, b in itertools.pairwise(order))
        for order in itertools.permutations(range(4))
    )
    assert float(global_loss(weak, labels, mask)) == pytest.approx((worst - 1.5) / 3, rel=1e-5)


@pytest.mark.parametrize("learning", ["local", "global"])
def test_gradients_reach_every_parameter(learning):
    generator = torch.Generator().manual_seed(0)
    module = TourRanker(3, generator, learning, 8, 2, 1, 0.0, 4)
    rows = torch.randn(2, 5, 3, generator=generator)
    labels = torch.tensor([[2, 0, 1, 0, 0], [0, 1, 0, 0, 0]])
    module.objective(rows, labels, torch.ones(2, 5, dtype=torch.bool)).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in module.parameters())
    assert module.bilinear.weight.grad.abs().sum() > 0


def test_tsprank_is_catalogued():
    assert METHODS["tsprank"].area == "models"
