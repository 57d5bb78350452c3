"""LoRA-Mini: a 2x3 example worked by hand; only the inner pair is trained and saved."""

import numpy as np
import pytest
from torch import nn

from lorank import lowrank
from lorank.errors import UsageError


@pytest.mark.by_hand("lora-mini")
def test_two_by_three_by_hand(one_layer, set_tensors):
    model, form = one_layer([[0.0] * 3, [0.0] * 3], "lora-mini", rank=1, options={"width": 2})
    set_tensors(form, outer_A=[[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]], outer_B=[[1.0, 0.0], [0.0, 2.0]])
    set_tensors(form, A=[[3.0, 5.0]], B=[[1.0], [1.0]])
    # A_in A_out = (3, 5, 3); B_out B_in = (1, 2)
    assert form.delta(model["layer"].weight).tolist() == pytest.approx(np.array([[3.0, 5.0, 3.0], [6.0, 10.0, 6.0]]))


def test_lora_mini_trains_the_inner_pair_alone_and_starts_at_the_base():
    model = nn.ModuleDict({"layer": nn.Linear(768, 768)})
    adapter = lowrank.attach(model, "lora-mini", rank=8, options={"width": 36})
    lora = 8 * (768 + 768)
    assert adapter.num_parameters() == 8 * (36 + 36)
    assert lora / adapter.num_parameters() > 20
    assert sorted(adapter.state()) == ["layer.A", "layer.B"]
    assert adapter.forms["layer"].delta(model["layer"].weight).abs().max() == 0
    with pytest.raises(UsageError, match="width"):
        lowrank.attach(nn.ModuleDict({"l": nn.Linear(3, 3)}), "lora-mini", options={"width": 0})
