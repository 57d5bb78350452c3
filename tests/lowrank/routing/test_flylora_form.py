"""FlyLoRA: nearly orthogonal projections, gradients for k columns a token, balance, and sums that interfere less."""

import numpy as np
import pytest
import torch
from torch import nn

from lorank import lowrank


def fly(rank=8, width=64, out=6, seed=0, model=None, **options):
    model = model or nn.ModuleDict({"layer": nn.Linear(width, out, bias=False)})
    adapter = lowrank.attach(model, "flylora", rank=rank, seed=seed, options=options)
    return model["layer"], adapter, adapter.forms["layer"]


def test_flylora_projections_of_two_tasks_are_nearly_orthogonal():
    one, two = (fly(width=512, seed=seed)[2].A for seed in (0, 1))
    rows = [A / A.norm(dim=1, keepdim=True) for A in (one, two)]
    assert (rows[0] @ rows[1].t()).abs().max() < 0.25
    assert (one != 0).sum(1).tolist() == [128] * 8
    assert abs(one[one != 0].std() * 8 - 1) < 0.1  # N(0, 1 / r^2)


def test_a_token_gives_a_gradient_to_its_k_columns_only():
    layer, _, form = fly(top=3)
    for seed in range(5):
        x = torch.randn(64, generator=torch.Generator().manual_seed(seed))
        (gradient,) = torch.autograd.grad(layer(x).sum(), form.B)
        chosen = (x @ form.A.t()).abs().topk(3).indices.sort().values
        assert gradient.abs().sum(0).nonzero().squeeze(1).tolist() == chosen.tolist()


def test_with_all_ranks_it_is_a_lora_of_which_only_b_is_trained():
    layer, adapter, form = fly(top=8)
    with torch.no_grad():
        form.B.normal_()
    x = torch.randn(4, 64)
    torch.testing.assert_close(layer(x), layer.base(x) + x @ form.dense_update().t())
    assert [name for name, _ in adapter.named_parameters()] == ["layer.B"]


def test_the_bias_draws_the_load_together():
    torch.manual_seed(0)
    layer, _, form = fly(rank=8, top=2, balance=0.05)
    layer.train()
    x = torch.randn(4000, 64) + 3 * form.A[0] / form.A[0].norm()  # every token likes rank 0

    def load():
        form.chosen.zero_()
        layer(x)
        return form.chosen / len(x)

    before = load()
    assert before[0] > 0.95
    for step in range(60):
        load()
        form.advance(step + 1, 60)
    after = load()
    assert after.std() < 0.5 * before.std()
    assert form.bias[0] < 0


def test_out_of_training_nothing_is_counted():
    layer, _, form = fly(top=2)
    layer.eval()(torch.randn(5, 64))
    assert form.chosen.sum() == 0
    form.advance(1, 2)
    assert form.bias.abs().sum() == 0


def test_the_sum_of_two_tasks_interferes_less_than_that_of_two_loras():
    """Two tasks on inputs with a common strong direction, trained apart: the overlap of their updates, and the loss
    of the first task under the sum."""
    overlap = {}
    for method in ("lora", "flylora"):
        deltas = []
        for task in (0, 1):
            torch.manual_seed(0)
            model = nn.ModuleDict({"layer": nn.Linear(64, 6, bias=False)})
            common = torch.randn(64) / 8
            torch.manual_seed(10 + task)
            x = torch.randn(300, 1) * common * 4 + 0.5 * torch.randn(300, 64)
            target = torch.randn(6, 64) / 8
            options = {"top": 2} if method == "flylora" else {}
            adapter = lowrank.attach(model, method, rank=8, seed=task, options=options)
            optimizer = torch.optim.Adam(adapter.parameters(), lr=0.01)
            for _ in range(150):
                optimizer.zero_grad()
                (model["layer"](x) - x @ target.t() - x @ torch.ones(64, 6) / 8).square().mean().backward()
                optimizer.step()
            form = adapter.forms["layer"]
            deltas.append((form.dense_update() if method == "flylora" else form.delta(None)).detach())
        one, two = deltas
        overlap[method] = float((one @ two.t()).norm() / (one.norm() * two.norm()))
    assert overlap["flylora"] < 0.7 * overlap["lora"]


@pytest.mark.by_hand("flylora")
def test_two_by_three_by_hand(one_layer, set_tensors):
    model, form = one_layer([[0.0] * 3, [0.0] * 3], "flylora", rank=2, options={"top": 1})
    set_tensors(form, A=[[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]], B=[[1.0, 10.0], [2.0, 20.0]])
    x = torch.tensor([[3.0, 1.0, 5.0]], dtype=torch.float64)
    assert model["layer"](x).tolist() == pytest.approx(np.array([[3.0, 6.0]]))  # A x = (3, 2): rank 0
    set_tensors(form, bias=[0.0, 2.0])
    assert model["layer"](x).tolist() == pytest.approx(
        np.array([[20.0, 40.0]])
    )  # A x + d = (3, 4): rank 1, whose share is still 2
