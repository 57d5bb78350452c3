"""edge-popup: fixed edges in pairs, of which the best half is in."""

import pytest
import torch
from torch import nn

from lorank import lowrank


@pytest.mark.by_hand("edge-popup")
def test_an_example_by_hand() -> None:
    """W [2, 3], r = 1: four edges, of which the two with the highest scores are in."""
    model = nn.Sequential(nn.Linear(3, 2))
    adapter = lowrank.attach(model, "edge-popup", rank=1, options={"size": 0.5})
    form = adapter.forms["0"]
    with torch.no_grad():
        form.A.copy_(torch.tensor([[1.0, 2.0, 3.0]]))
        form.scores.copy_(torch.tensor([[0.9, 0.1], [0.2, 0.3]]))
    assert form.mask().tolist() == [[1, 0], [0, 1]]
    torch.testing.assert_close(adapter.layers["0"].delta(), torch.tensor([[0.5, 1.0, 1.5], [-0.5, -1.0, -1.5]]))


def test_scores_of_a_pair_start_equal_and_move_apart() -> None:
    model = nn.Sequential(nn.Linear(6, 5))
    adapter = lowrank.attach(model, "edge-popup", rank=3)
    form = adapter.forms["0"]
    assert torch.equal(form.scores[:, 0::2], form.scores[:, 1::2])
    assert not adapter.layers["0"].delta().any()
    (model(torch.randn(4, 6)) - 1).square().mean().backward()
    assert torch.equal(form.scores.grad[:, 0::2], -form.scores.grad[:, 1::2])


def test_the_density_is_the_share_of_edges_that_are_in() -> None:
    for density in (0.1, 0.5, 0.9):
        adapter = lowrank.attach(nn.Sequential(nn.Linear(20, 20)), "edge-popup", rank=5, options={"density": density})
        assert adapter.forms["0"].mask().mean().item() == pytest.approx(density)


def test_training_lowers_a_loss_that_the_layer_below_cannot() -> None:
    ratios = []
    for seed in range(3):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(10, 8))
        x = torch.randn(50, 10)
        y = model(x).detach() + 0.3 * x @ torch.randn(10, 8)
        adapter = lowrank.attach(model, "edge-popup", rank=16, seed=seed, options={"size": 3.0})
        before = (model(x) - y).square().mean().item()
        optimizer = torch.optim.Adam(adapter.parameters(), lr=0.05)
        for _ in range(150):
            optimizer.zero_grad()
            (model(x) - y).square().mean().backward()
            optimizer.step()
        ratios.append((model(x) - y).square().mean().item() / before)
    assert sorted(ratios)[1] < 0.7
