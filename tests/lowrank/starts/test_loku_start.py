"""loku: Fisher-weighted factors, and what unlearning with them does to a planted classifier."""

import pytest
import torch
from torch import nn

from lorank import lowrank
from lorank.lowrank import top_k_svd
from lorank.lowrank.starts.loku import row_weights
from lorank.ranking.losses.inverted_hinge import inverted_hinge


def statistics(out, width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        "fisher_forget": torch.rand(out, width, generator=generator, dtype=torch.float64),
        "fisher_retain": torch.rand(out, width, generator=generator, dtype=torch.float64),
    }


def test_loku_factors_are_the_best_approximation_under_the_row_weights(one_layer):
    weight = torch.randn(5, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    seen = statistics(5, 4)
    model, form = one_layer(weight.tolist(), "lora", start="loku", rank=2, alpha=6.0, statistics={"layer": seen})
    d = row_weights(seen["fisher_forget"], seen["fisher_retain"]).unsqueeze(1)
    torch.testing.assert_close(
        d.squeeze(1), (seen["fisher_forget"].sum(1) / seen["fisher_retain"].sum(1)).sqrt(), atol=0, rtol=1e-12
    )
    U, s, Vh = top_k_svd(d * weight, 2)
    product = form.scaling * form.B.detach() @ form.A.detach()
    torch.testing.assert_close(d * product, (U * s) @ Vh)
    x = torch.randn(3, 4, dtype=torch.float64)
    torch.testing.assert_close(model["layer"](x), x @ weight.T)


def test_loku_with_equal_information_is_pissa(one_layer):
    weight = torch.randn(5, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    equal = {"layer": {key: torch.ones(5, 4) for key in ("fisher_forget", "fisher_retain")}}
    _, ours = one_layer(weight.tolist(), "lora", start="loku", rank=2, statistics=equal)
    _, theirs = one_layer(weight.tolist(), "pissa", rank=2)
    torch.testing.assert_close(ours.B @ ours.A, theirs.B @ theirs.A)


def fisher(model, x, y):
    """Mean squared gradient of the log-likelihood, one example at a time."""
    total = torch.zeros_like(model[2].weight)
    for i in range(len(x)):
        grad = torch.autograd.grad(nn.functional.cross_entropy(model(x[i : i + 1]), y[i : i + 1]), model[2].weight)[0]
        total += grad.square() / len(x)
    return total


def unlearn(model, x, y, retain, objective, statistics, steps):
    """Return accuracy on what is forgotten and on what is retained, after steps of the ``objective``."""
    adapter = lowrank.attach(model, "lora", start="loku", rank=4, targets=["2"], statistics={"2": statistics})
    optimizer = torch.optim.Adam(adapter.parameters(), lr=5e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        objective(model(x), y).backward()
        optimizer.step()
    accuracy = [(model(a).argmax(1) == b).double().mean().item() for a, b in ((x, y), retain)]
    adapter.detach()
    return accuracy


def test_loku_forgets_to_chance_and_retains_more_than_gradient_ascent():
    classes, width = 6, 12
    torch.manual_seed(0)
    centres = 2.5 * nn.functional.normalize(torch.randn(classes, width), dim=1)
    y = torch.arange(classes).repeat(40)
    x = centres[y] + 0.6 * torch.randn(len(y), width)
    model = nn.Sequential(nn.Linear(width, 24), nn.Tanh(), nn.Linear(24, classes))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    assert (model(x).argmax(1) == y).double().mean() > 0.95
    forgotten = y < 2
    ask, keep = (x[forgotten], y[forgotten]), (x[~forgotten], y[~forgotten])
    seen = {"fisher_forget": fisher(model, *ask), "fisher_retain": fisher(model, *keep)}

    def hinge(scores, labels):
        return inverted_hinge(scores, nn.functional.one_hot(labels, classes).float())

    def ascent(scores, labels):
        return -nn.functional.cross_entropy(scores, labels)

    ours = unlearn(model, *ask, keep, hinge, seen, 40)
    theirs = unlearn(model, *ask, keep, ascent, seen, 40)
    assert ours[0] <= 1 / classes
    assert theirs[0] <= 1 / classes
    assert ours[1] > theirs[1] + 0.1


@pytest.mark.by_hand("loku")
def test_two_by_three_by_hand(one_layer):
    # row 0 matters three times as much for what is forgotten (d = 3, 1): of D W = diag(6, 5) the 6 is kept
    seen = {
        "fisher_forget": torch.tensor([[9.0, 0.0, 0.0], [0.0, 1.0, 0.0]]),
        "fisher_retain": torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]),
    }
    model, form = one_layer([[2.0, 0.0, 0.0], [0.0, 5.0, 0.0]], "loku", rank=1, statistics={"layer": seen})
    torch.testing.assert_close(
        (form.B @ form.A).detach(), torch.tensor([[2.0, 0.0, 0.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    )
    assert form.delta(model["layer"].weight).abs().max() < 1e-12
