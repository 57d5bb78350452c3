"""EVA: a 2x3 example worked by hand, PCA directions, ranks under the budget, and planted inputs."""

import numpy as np
import pytest
import torch
from torch import nn

from lorank import lowrank
from lorank.errors import UsageError


@pytest.mark.by_hand("eva")
def test_two_by_three_by_hand(one_layer):
    inputs = torch.tensor([[1.0, 5.0, 0.0], [1.0, -5.0, 0.0], [1.0, 0.0, 1.0], [1.0, 0.0, -1.0]])
    # centred, the inputs vary by 5 along e_2 and by 1 along e_3, and not along e_1
    W = [[1.0, 0.0, 2.0], [0.0, 1.0, 0.0]]
    _, form = one_layer(W, "eva", rank=1, statistics={"layer": {"inputs": inputs}})
    torch.testing.assert_close(form.A.detach().abs(), torch.tensor([[0.0, 1.0, 0.0]], dtype=torch.float64))
    assert form.B.abs().max() == 0


def test_a_is_pca_and_ranks_sum_to_the_budget():
    generator = torch.Generator().manual_seed(0)
    layers = {name: nn.Linear(12, 5, dtype=torch.float64) for name in ("sharp", "flat")}
    model = nn.ModuleDict(layers)
    sharp = torch.randn(60, 12, generator=generator).double() * 0.2 ** torch.arange(12)
    flat = torch.randn(60, 12, generator=generator).double() + 3
    seen = {"sharp": {"inputs": sharp}, "flat": {"inputs": flat}}
    adapter = lowrank.attach(model, "eva", rank=4, statistics=seen)
    ranks = {path: form.rank for path, form in adapter.forms.items()}
    assert sum(ranks.values()) == 8
    assert ranks["sharp"] < ranks["flat"]
    for path, form in adapter.forms.items():
        covariance = np.cov(seen[path]["inputs"].numpy(), rowvar=False)
        directions = np.linalg.eigh(covariance)[1][:, ::-1][:, : form.rank].T
        np.testing.assert_allclose(np.abs(np.sum(directions * form.A.detach().numpy(), axis=1)), 1, atol=1e-9)
        assert form.delta(model[path].base.weight).abs().max() == 0
        assert form.scaling == pytest.approx(1.0)


def planted(method):
    generator = torch.Generator().manual_seed(1)
    plane = torch.linalg.qr(torch.randn(20, 2, generator=generator).double()).Q
    x = torch.randn(50, 2, generator=generator).double() @ plane.T
    target = x @ torch.randn(20, 6, generator=generator).double()
    model = nn.ModuleDict({"layer": nn.Linear(20, 6, dtype=torch.float64)})
    nn.init.zeros_(model["layer"].weight)
    nn.init.zeros_(model["layer"].bias)
    seen = {"layer": {"inputs": x}}
    adapter = lowrank.attach(model, method, rank=2, statistics=seen)
    A = adapter.forms["layer"].A.detach().clone()
    optimizer = torch.optim.SGD(adapter.parameters(), lr=0.1)
    for _ in range(40):
        optimizer.zero_grad()
        loss = (model["layer"](x) - target).square().mean()
        loss.backward()
        optimizer.step()
    return plane, A, loss.item()


def test_on_planted_inputs_a_spans_them_and_learns_faster_than_a_random_one():
    plane, A, loss = planted("eva")
    torch.testing.assert_close(A @ plane @ plane.T, A)
    assert loss < planted("lora")[2]


def test_statistics_that_are_missing_are_named(tower):
    with pytest.raises(UsageError, match="inputs"):
        lowrank.attach(tower(), "eva", targets=["wide"])
