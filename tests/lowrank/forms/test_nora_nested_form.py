"""NoRA: a 2x3 example worked by hand, its count, and LoRA-XS at full inner rank."""

import pytest
import torch

from lorank import lowrank
from lorank.errors import UsageError


@pytest.mark.by_hand("nora-nested")
def test_two_by_three_by_hand(one_layer, set_tensors):
    # the outer pair of diag(3, 2) is A = I, B = diag(3, 2)
    model, form = one_layer([[3.0, 0.0, 0.0], [0.0, 2.0, 0.0]], "nora-nested", rank=2, options={"inner": 1})
    set_tensors(form, A=[[1.0, 2.0]], B=[[1.0], [10.0]])
    W = model["layer"].weight
    torch.testing.assert_close(form.delta(W), torch.tensor([[3.0, 6.0, 0.0], [20.0, 40.0, 0.0]], dtype=torch.float64))


def test_nora_nested_counts_the_inner_pair(tower):
    model, x = tower(torch.float64), torch.ones(2, 6, dtype=torch.float64)
    before = model(x)
    adapter = lowrank.attach(model, "nora-nested", rank=4, targets=["wide"], options={"inner": 2})
    assert adapter.num_parameters() == 2 * 4 * 2
    torch.testing.assert_close(model(x), before)
    with pytest.raises(UsageError, match="inner"):
        lowrank.attach(tower(), "nora-nested", options={"inner": 0})


def test_a_full_inner_rank_is_lora_xs(tower, shake, set_tensors):
    models = tower(torch.float64), tower(torch.float64)
    nested = lowrank.attach(models[0], "nora-nested", rank=3, targets=["wide"], options={"inner": 3})
    xs = lowrank.attach(models[1], "lora-xs", rank=3, targets=["wide"])
    shake(nested)
    form = nested.forms["wide"]
    set_tensors(xs.forms["wide"], R=(form.B @ form.A).detach())
    x = torch.ones(2, 6, dtype=torch.float64)
    torch.testing.assert_close(models[0](x), models[1](x))
