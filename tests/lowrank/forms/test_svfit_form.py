"""SVFit: a 2x3 example worked by hand; singular values move, singular vectors do not."""

import pytest
import torch

from lorank import lowrank


@pytest.mark.by_hand("svfit")
def test_two_by_three_by_hand(one_layer, set_tensors):
    model, form = one_layer([[0.0, 0.0, 5.0], [3.0, 0.0, 0.0]], "svfit", rank=1)
    set_tensors(form, shift=[2.0])
    # the top value 5, of row 0 and column 2, becomes 7
    W = model["layer"].base.weight
    torch.testing.assert_close(W + form.delta(W), torch.tensor([[0.0, 0.0, 7.0], [3.0, 0.0, 0.0]], dtype=torch.float64))
    model["layer"](torch.tensor([[0.0, 0.0, 2.0]], dtype=torch.float64)).sum().backward()
    torch.testing.assert_close(form.shift.grad, torch.tensor([2.0], dtype=torch.float64))  # (u . dy) (v . x)


def test_svfit_moves_r_values_and_no_vector(tower):
    model = tower(torch.float64)
    adapter = lowrank.attach(model, "svfit", rank=3, targets=["wide"])
    form, W = adapter.forms["wide"], model.wide.base.weight
    assert adapter.num_parameters() == 3
    A, B, values = form.A.clone(), form.B.clone(), torch.linalg.svdvals(W)
    optimizer = torch.optim.Adam(adapter.parameters(), lr=0.05)
    for _ in range(5):
        optimizer.zero_grad()
        model(torch.ones(2, 6, dtype=torch.float64)).square().sum().backward()
        optimizer.step()
    assert torch.equal(form.A, A)
    assert torch.equal(form.B, B)
    moved = torch.linalg.svd(W + form.delta(W), full_matrices=False)
    expected = torch.cat([values[:3] + form.shift.detach(), values[3:]]).sort(descending=True).values
    torch.testing.assert_close(moved.S, expected)
    middle = B.T @ (W + form.delta(W)) @ A.T  # diagonal in the frozen vectors
    torch.testing.assert_close(middle.detach(), torch.diag(values[:3] + form.shift.detach()))
    assert list(form.state_dict()) == ["shift"]
