"""C3A: a 2x3 example worked by hand, the explicit circulant matrix, and PEFT's update."""

import numpy as np
import peft
import pytest
import torch
from scipy.linalg import circulant
from torch import nn

from lorank import lowrank
from lorank.errors import UsageError


@pytest.mark.by_hand("c3a")
def test_two_by_three_by_hand(one_layer, set_tensors):
    # blocks of side 1: the update is w itself, times s / in
    model, form = one_layer([[0.0] * 3, [0.0] * 3], "c3a", rank=2)
    set_tensors(form, kernel=[[3.0, 6.0, 9.0], [0.0, -3.0, 3.0]])
    assert form.delta(model["layer"].base.weight).tolist() == pytest.approx(
        np.array([[1.0, 2.0, 3.0], [0.0, -1.0, 1.0]])
    )
    y = model["layer"](torch.tensor([[1.0, 1.0, 1.0]], dtype=torch.float64))
    torch.testing.assert_close(y, torch.tensor([[6.0, 0.0]], dtype=torch.float64))


def test_c3a_is_the_explicit_circulant_matrix(shake):
    model = nn.ModuleDict({"layer": nn.Linear(12, 8, bias=False, dtype=torch.float64)})
    adapter = lowrank.attach(model, "c3a", rank=2, options={"block": 4})
    shake(adapter)
    form = adapter.forms["layer"]
    assert adapter.num_parameters() == 12 * 8 // 4
    rows = [torch.cat([torch.from_numpy(circulant(w)) for w in row], dim=1) for row in form.kernel.detach().numpy()]
    expected = torch.cat(rows) / 12
    torch.testing.assert_close(form.delta(model["layer"].base.weight), expected)
    x = torch.randn(3, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model["layer"](x), x @ (model["layer"].base.weight + expected).T, atol=1e-5, rtol=1e-5)
    assert torch.linalg.matrix_rank(expected) == 8


def test_the_block_gives_no_more_values_than_lora_where_it_can():
    for inner, outer, rank in [(384, 384, 8), (384, 1536, 8), (12, 8, 2)]:
        form = lowrank.attach(nn.ModuleDict({"l": nn.Linear(inner, outer)}), "c3a", rank=rank).forms["l"]
        assert form.parameter_count() <= rank * (inner + outer)
    with pytest.raises(UsageError, match="block 5"):
        lowrank.attach(nn.ModuleDict({"l": nn.Linear(12, 8)}), "c3a", options={"block": 5})


def test_the_update_is_pefts_with_kernels_read_backwards():
    torch.manual_seed(0)
    config = peft.C3AConfig(block_size=4, target_modules=["layer"], init_weights="gaussian")
    theirs = peft.get_peft_model(nn.ModuleDict({"layer": nn.Linear(12, 8)}), config).base_model.model.layer
    model = nn.ModuleDict({"layer": nn.Linear(12, 8)})
    model["layer"].load_state_dict(theirs.base_layer.state_dict())
    form = lowrank.attach(model, "c3a", options={"block": 4}).forms["layer"]
    with torch.no_grad():
        form.kernel.copy_(theirs.c3a_kernel["default"][:, :, -torch.arange(4) % 4])
    expected = theirs.get_delta_weight("default").detach()
    torch.testing.assert_close(form.delta(model["layer"].base.weight), expected, atol=1e-6, rtol=1e-6)
    x = torch.randn(5, 12)
    torch.testing.assert_close(model["layer"](x), theirs(x), atol=1e-6, rtol=1e-6)
