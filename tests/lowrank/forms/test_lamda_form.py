"""LaMDA: a 2x3 example worked by hand, and an outer factor that stops on schedule."""

import numpy as np
import pytest
import torch

from lorank import lowrank
from lorank.errors import UsageError


@pytest.mark.by_hand("lamda")
def test_two_by_three_by_hand(one_layer, set_tensors):
    model, form = one_layer([[3.0, 0.0, 0.0], [0.0, 2.0, 0.0]], "lamda", rank=1, alpha=2.0)
    assert form.A.tolist() == pytest.approx(np.array([[1.0, 0.0, 0.0]]))
    set_tensors(form, S=[[3.0]], P__0=[[1.0]], P__1=[[2.0]])
    assert form.delta(model["layer"].weight).tolist() == pytest.approx(np.array([[6.0, 0.0, 0.0], [12.0, 0.0, 0.0]]))


def test_lamda_shrinks_to_r_squared_on_schedule(tower):
    model = tower(torch.float64)
    x = torch.ones(2, 6, dtype=torch.float64)
    before = model(x)
    adapter = lowrank.attach(model, "lamda", rank=2, targets=["wide"], options={"early": 0.5, "groups": 5})
    torch.testing.assert_close(model(x), before)
    form, counts = adapter.forms["wide"], []
    optimizer = torch.optim.AdamW(adapter.parameters(), lr=0.1, weight_decay=0.1)
    for step in range(20):
        stopped = [part.detach().clone() for part in form.P if not part.requires_grad]
        optimizer.zero_grad()
        model(x).square().sum().backward()
        optimizer.step()
        assert all(torch.equal(a, b) for a, b in zip(stopped, form.P, strict=False))
        assert form.A.grad is None
        form.advance(step + 1, 20)
        counts.append(adapter.num_parameters())
        assert counts[-1] == form.parameter_count()
    assert counts[0] == 2 * (2 + 10)
    assert counts[4] == 2 * (2 + 6)
    assert counts[9:] == [2 * 2] * 11
    assert form.S.abs().min() > 0


@pytest.mark.parametrize("options", [{"early": 0}, {"groups": 0}])
def test_a_schedule_that_cannot_be_is_refused(options, tower):
    with pytest.raises(UsageError):
        lowrank.attach(tower(), "lamda", options=options)
