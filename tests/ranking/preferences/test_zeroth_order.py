"""zo-ranksgd: its direction by the definition over pairs, its descent, and that only the order counts."""

import pytest
import torch

from lorank.catalogue import METHODS
from lorank.errors import UsageError
from lorank.ranking.preferences import ranked_descent, ranked_direction

CURVATURE = torch.tensor([1.0, 4.0, 0.5, 2.0])


def quadratic(points):
    return (CURVATURE * points.square()).sum(1)


def order_by(function):
    return lambda points: function(points).argsort(stable=True).tolist()


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("top", [1, 3, 6])
def test_the_direction_is_the_mean_over_the_pairs_told_apart(top):
    x = torch.tensor([1.0, -2.0, 0.5, 0.0])
    noise = torch.randn(6, 4, generator=seeded())
    order = order_by(quadratic)(x + 0.1 * noise)
    pairs = [noise[order[j]] - noise[order[i]] for i in range(top) for j in range(i + 1, 6)]
    direction = ranked_direction(order_by(quadratic), x, samples=6, top=top, generator=seeded())
    torch.testing.assert_close(direction, torch.stack(pairs).mean(0))


def test_zo_ranksgd_direction_has_a_positive_cosine_with_the_gradient():
    assert METHODS["zo-ranksgd"].area == "losses.preference"
    x = torch.tensor([1.0, -2.0, 0.5, 3.0])
    each = [ranked_direction(order_by(quadratic), x, top=3, generator=seeded(s)) for s in range(60)]
    assert torch.cosine_similarity(torch.stack(each).mean(0), 2 * CURVATURE * x, dim=0) > 0.9


def test_zo_ranksgd_converges_on_a_quadratic_by_rankings_alone():
    start = torch.tensor([3.0, -2.0, 4.0, 1.0])
    end = ranked_descent(order_by(quadratic), start, steps=120, spread=0.05, generator=seeded())
    assert float(quadratic(end.unsqueeze(0))) < 1e-2 * float(quadratic(start.unsqueeze(0)))


def test_zo_ranksgd_does_not_change_under_increasing_transforms():
    start = torch.tensor([3.0, -2.0, 4.0, 1.0])
    ends = [
        ranked_descent(order_by(f), start, steps=15, generator=seeded())
        for f in (
            quadratic,
            lambda points: quadratic(points).double().pow(3),
            lambda points: quadratic(points).double().log(),
        )
    ]
    assert torch.equal(ends[0], ends[1])
    assert torch.equal(ends[0], ends[2])


@pytest.mark.parametrize("options", [{"samples": 1}, {"top": 0}, {"top": 11}, {"spread": 0.0}])
def test_wrong_options_are_refused(options):
    with pytest.raises(UsageError, match="samples must be"):
        ranked_direction(order_by(quadratic), torch.zeros(4), generator=seeded(), **options)
    with pytest.raises(UsageError, match="rate"):
        ranked_descent(order_by(quadratic), torch.zeros(4), rate=0.0, generator=seeded())
