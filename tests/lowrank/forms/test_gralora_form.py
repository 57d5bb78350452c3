"""GraLoRA: an example worked by hand, blocks that see their own inputs alone, and PEFT's update."""

import peft
import pytest
import torch
from torch import nn

from lorank import lowrank
from lorank.errors import UsageError


@pytest.mark.by_hand("gralora")
def test_two_by_four_by_hand(one_layer, set_tensors):
    """Two blocks need even sides, so the example has one input more."""
    model, form = one_layer([[0.0] * 4, [0.0] * 4], "gralora", rank=2, alpha=2.0)
    # block column 0 is x_0 x_1, column 1 is x_2 x_3; rank 0 of each goes to row 0, rank 1 to row 1
    set_tensors(form, A=[[[1.0, 2.0], [0.0, 1.0]], [[1.0, 0.0], [1.0, 3.0]]])
    set_tensors(form, B=[[[10.0], [100.0]], [[1000.0], [1.0]]])
    # dW[0] = 10 (1, 0 | 0, 0) + 100 (0, 0 | 1, 1); dW[1] = 1000 (2, 1 | 0, 0) + 1 (0, 0 | 0, 3)
    expected = [[10.0, 0.0, 100.0, 100.0], [2000.0, 1000.0, 0.0, 3.0]]
    assert form.delta(model["layer"].weight).tolist() == expected
    assert model["layer"](torch.eye(4).double()).T.tolist() == expected


def test_one_block_is_lora(one_layer, set_tensors):
    W = [[1.0, 0.0, 2.0], [0.0, 1.0, 0.0]]
    model, form = one_layer(W, "gralora", rank=1, alpha=3.0)
    other, lora = one_layer(W, "lora", rank=1, alpha=3.0)
    assert form.blocks == 1
    set_tensors(form, A=[1.0, 2.0, 3.0], B=[4.0, 5.0])
    set_tensors(lora, A=[1.0, 2.0, 3.0], B=[4.0, 5.0])
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)).double()
    torch.testing.assert_close(model["layer"](x), other["layer"](x))


def test_gralora_has_loras_count_k_times_its_rank_and_blocks_of_their_own(tower, shake):
    linear = nn.ModuleDict({"layer": nn.Linear(24, 16, dtype=torch.float64)})
    adapter = lowrank.attach(linear, "gralora", rank=4, options={"blocks": 4})
    shake(adapter)
    form = adapter.forms["layer"]
    assert adapter.num_parameters() == 4 * (24 + 16)
    assert torch.linalg.matrix_rank(form.delta(linear["layer"].weight)) == 16
    x = torch.randn(3, 24, generator=torch.Generator().manual_seed(0)).double()
    x[:, 6:] = 0  # the inputs of the first block column alone
    linear["layer"](x).square().sum().backward()
    assert form.A.grad[0].abs().min() > 0
    assert form.A.grad[1:].abs().max() == 0
    groups = form.B.grad.view(4, 4, 1, 4)  # block row, block column, rank, output
    assert groups[:, 0].abs().min() > 0
    assert groups[:, 1:].abs().max() == 0


@pytest.mark.parametrize("blocks", [0, 3])
def test_blocks_that_do_not_divide_are_refused(tower, blocks):
    with pytest.raises(UsageError, match="do not divide"):
        lowrank.attach(tower(), "gralora", rank=2, targets=["wide"], options={"blocks": blocks})


@pytest.mark.parametrize("blocks", [1, 2, 4])
def test_the_update_is_pefts(blocks, shake):
    torch.manual_seed(0)
    config = peft.GraloraConfig(r=4, alpha=6, gralora_k=blocks, target_modules=["layer"], init_weights=False)
    theirs = peft.get_peft_model(nn.ModuleDict({"layer": nn.Linear(8, 12)}), config).base_model.model.layer
    model = nn.ModuleDict({"layer": nn.Linear(8, 12)})
    form = lowrank.attach(model, "gralora", rank=4, alpha=6.0, options={"blocks": blocks}).forms["layer"]
    with torch.no_grad():
        form.A.copy_(theirs.gralora_A["default"])
        form.B.copy_(theirs.gralora_B["default"])
    expected = theirs.get_delta_weight("default").detach()
    torch.testing.assert_close(form.delta(model["layer"].weight), expected, atol=1e-6, rtol=1e-6)
