"""beer: the Bellman bound by hand, no penalty where it holds, and a rank between collapse and maximum on a chain."""

import math
from statistics import median

import pytest
import torch
from torch.nn import functional as F

from lorank.errors import UsageError
from lorank.lowrank.spectra.rankme import rankme
from lorank.ranking.losses import loss
from lorank.ranking.policies.bellman import bellman_bound, bellman_penalty

SCORES = torch.tensor([[0.5, 2.0, -1.0, 9.0]], dtype=torch.float64)
LABELS = torch.tensor([[2.0, 0.0, 1.0, 3.0]], dtype=torch.float64)
MASK = torch.tensor([[True, True, True, False]])
READ = torch.tensor([[[1.0, 2.0], [2.0, 1.0], [0.0, 3.0], [7.0, 7.0]]], dtype=torch.float64)
HEAD = torch.tensor([0.6, 0.8], dtype=torch.float64)


def bound(one, two, reward, head, discount):
    a, b, w = math.hypot(*one), math.hypot(*two), math.hypot(*head)
    return (a**2 + (discount * b) ** 2 - (reward / w) ** 2) / (2 * discount * a * b)


def test_the_penalty_is_that_of_the_equation_along_the_likeliest_order():
    order = [1, 0, 2]  # by score; the last place is masked
    gains = [2**y - 1 for y in (0.0, 2.0, 1.0)]
    best = 3 / math.log2(2) + 1 / math.log2(3)
    rewards = [gain / math.log2(1 + place) / best for place, gain in enumerate(gains, 1)]
    rows = READ[0].tolist()
    each = []
    for place in range(2):
        one, two = rows[order[place]], rows[order[place + 1]]
        cosine = sum(x * y for x, y in zip(one, two)) / math.hypot(*one) / math.hypot(*two)
        each.append(max(0.0, cosine - max(-1.0, min(1.0, bound(one, two, rewards[place], HEAD.tolist(), 0.5)))))
    given = {"noise_seed": torch.tensor(3), "representations": READ, "head": HEAD}
    with_penalty = loss("beer", strength=2.0, discount=0.5)(SCORES, LABELS, MASK, **given)
    without = loss("pg-rank")(SCORES, LABELS, MASK, noise_seed=torch.tensor(3))
    assert float(with_penalty - without) == pytest.approx(2.0 * sum(each) / 2)
    torch.testing.assert_close(loss("beer", strength=0.0)(SCORES, LABELS, MASK, **given), without)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_where_bellmans_equation_holds_so_does_the_bound_and_the_penalty_is_zero(seed):
    generator = torch.Generator().manual_seed(seed)
    now, following = torch.randn(2, 500, 5, generator=generator, dtype=torch.float64)
    head = torch.randn(5, generator=generator, dtype=torch.float64)
    rewards = now @ head - 0.9 * following @ head
    assert float(bellman_penalty(now, following, rewards, head, 0.9).max()) < 1e-9
    broken = bellman_penalty(now, following, 5 * rewards, head, 0.9)
    assert float(broken.max()) > 0.1


def test_the_bound_is_exact_where_the_difference_is_along_the_head():
    head = torch.tensor([3.0, 4.0], dtype=torch.float64)
    following = torch.tensor([[1.0, -2.0]], dtype=torch.float64)
    now = 0.9 * following + 2.0 * head / head.norm()  # Cauchy and Schwarz's inequality is an equality here
    rewards = now @ head - 0.9 * following @ head
    found = bellman_bound(now.norm(dim=1), following.norm(dim=1), rewards, head, 0.9)
    torch.testing.assert_close(found, F.cosine_similarity(now, following, dim=1))


def test_the_penalty_turns_what_is_too_alike_apart_and_moves_neither_bound_nor_head():
    now = torch.tensor([[1.0, 0.1]], requires_grad=True)
    head = torch.tensor([1.0, 0.0], requires_grad=True)
    following = torch.tensor([[1.0, -0.1]])
    bellman_penalty(now, following, torch.tensor([1.0]), head, 1.0).sum().backward()
    assert head.grad is None
    assert float(now.grad[0, 1]) < 0  # descent turns it further from the other
    assert float((now.grad * now.detach()).sum().abs()) < 1e-6  # an angle does not change with length


def test_heads_and_representations_of_length_zero_give_finite_gradients():
    read = torch.zeros(1, 3, 4, requires_grad=True)
    given = {"noise_seed": torch.tensor(0), "representations": read, "head": torch.zeros(4)}
    value = loss("beer")(torch.zeros(1, 3), torch.tensor([[1.0, 0.0, 2.0]]), **given)
    value.backward()
    assert torch.isfinite(value)
    assert float(read.grad.abs().sum()) < 1e-6
    alike = torch.ones(1, 3, 4)
    value = loss("beer", strength=1.0)(
        torch.zeros(1, 3), torch.tensor([[2.0, 0.0, 0.0]]), **(given | {"representations": alike})
    )
    assert torch.isfinite(value)


def chain_rank(seed, regulariser, states=12, dimensions=6, discount=0.9):
    """The effective rank of a chain's representations before and after temporal differences with a regulariser."""
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(1, dimensions, generator=generator)
    read = (start + 0.05 * torch.randn(states, dimensions, generator=generator)).requires_grad_()
    head = torch.randn(dimensions, generator=generator).div(math.sqrt(dimensions)).requires_grad_()
    rewards = 2 * torch.rand(states, generator=generator) - 1
    first = rankme(read.detach())
    optimizer = torch.optim.Adam([read, head], lr=0.03)
    for _ in range(200):
        following = torch.cat([read[1:], torch.zeros(1, dimensions)])
        error = read @ head - (rewards + discount * following @ head).detach()
        value = error.square().mean() + regulariser(read, rewards, head, discount)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    return first, rankme(read.detach())


def by_bound(read, rewards, head, discount):
    return 3.0 * bellman_penalty(read[:-1], read[1:], rewards[:-1], head, discount).mean()


def apart(read, rewards, head, discount):
    directions = F.normalize(read, dim=1)
    return 3.0 * (directions @ directions.T - torch.eye(len(read))).square().mean()


def test_on_a_chain_the_rank_of_representations_stays_between_collapse_and_maximum():
    seeds = range(5)
    collapsed = median(chain_rank(seed, by_bound)[0] for seed in seeds)
    plain = median(chain_rank(seed, lambda *given: 0.0)[1] for seed in seeds)
    kept = median(chain_rank(seed, by_bound)[1] for seed in seeds)
    most = median(chain_rank(seed, apart)[1] for seed in seeds)
    assert collapsed + 0.5 < kept < most - 0.5
    assert kept > plain


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strength": -1.0}, "strength must be 0 or above"),
        ({"discount": 0.0}, "discount must be above 0 and at most 1"),
        ({"reward": "ndgc"}, "did you mean 'ndcg'"),
        ({"samples": 0}, "samples must be above 0"),
    ],
)
def test_wrong_options_are_refused_at_once(options, message):
    with pytest.raises(UsageError, match=message):
        loss("beer", **options)


def test_representations_of_another_shape_are_refused():
    with pytest.raises(UsageError, match=r"representations must be \[batch, list, dim\]"):
        loss("beer")(SCORES, LABELS, MASK, noise_seed=torch.tensor(0), representations=READ[:, :2], head=HEAD)
