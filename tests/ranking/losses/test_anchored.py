"""The anchored hinge of baidu-plm-ranking: its parts, and that scores keep their scale when all is trained again."""

import pytest
import torch

from lorank.errors import UsageError
from lorank.ranking.losses import loss
from lorank.ranking.losses.anchored import anchored_hinge
from lorank.ranking.losses.hinge import hinge


def test_without_the_anchor_it_is_the_hinge():
    scores, labels = torch.randn(4, 6), torch.randint(0, 4, (4, 6)).float()
    assert torch.equal(anchored_hinge(scores, labels, anchor=0.0, margin=0.7), hinge(scores, labels, margin=0.7))


def test_scores_at_their_places_cost_nothing_and_others_the_square_beyond_the_tolerance():
    labels = torch.tensor([[0.0, 1.0, 4.0]])
    places = 0.1 + 0.2 * labels
    assert anchored_hinge(places, labels) == 0
    assert anchored_hinge(places + 0.09, labels) == 0  # within the tolerance, in order
    moved = anchored_hinge(places + 2.0, labels, tolerance=0.25, anchor=3.0)
    assert moved.item() == pytest.approx(3.0 * (2.0**2 - 0.25))


def test_a_document_weight_counts_in_both_parts():
    scores, labels = torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0, 0.0]])
    whole = anchored_hinge(scores, labels, weights=torch.tensor([[2.0, 2.0]]))
    assert whole.item() == pytest.approx(2 * anchored_hinge(scores, labels).item())
    empty = anchored_hinge(torch.zeros(2, 0), torch.zeros(2, 0), weights=torch.zeros(2, 0))
    assert empty.item() == 0


@pytest.mark.parametrize("options", [{"margin": 0.0}, {"slope": -1.0}, {"anchor": -1.0}, {"tolerance": -0.1}])
def test_values_are_checked(options):
    with pytest.raises(UsageError):
        loss("anchored-hinge", **options)


def retrained(name, seed, rows, labels, **options):
    """Scores after training a small network whose start has a level and a spread of its own."""
    generator = torch.Generator().manual_seed(seed)
    module = torch.nn.Sequential(torch.nn.Linear(3, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0.0, 0.5, generator=generator)
        module[2].bias += seed - 1.0
        module[2].weight *= 1.0 + seed
    function, optimizer = loss(name, **options), torch.optim.Adam(module.parameters(), lr=0.05)
    for _ in range(150):
        optimizer.zero_grad()
        function(module(rows).squeeze(-1), labels).backward()
        optimizer.step()
    return module(rows).squeeze(-1).detach()


def test_scores_stay_where_they_were_when_trained_again():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(20, 8, 3, generator=generator)
    labels = (rows[..., 0] - rows[..., 1]).clamp(-2, 2).add(2).round()
    tolerance = 0.01
    anchored = [retrained("anchored-hinge", seed, rows, labels, tolerance=tolerance) for seed in (0, 2)]
    free = [retrained("hinge", seed, rows, labels, margin=0.1) for seed in (0, 2)]

    def drift(runs):
        return (runs[0] - runs[1]).abs().mean().item()

    assert drift(anchored) < 2 * tolerance**0.5  # both within sqrt(tolerance) of one place
    assert drift(free) > 5 * drift(anchored)
    assert (torch.stack(anchored) - (0.1 + 0.2 * labels)).abs().mean() < tolerance**0.5
