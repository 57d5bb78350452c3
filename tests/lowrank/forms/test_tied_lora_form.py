"""Tied-LoRA: a 2x3 example worked by hand, one pair for many layers, and its limits: LoRA and VeRA."""

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from lorank import lowrank
from lorank.errors import UsageError


def three(method="tied-lora", **keywords):
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(4, 4, dtype=torch.float64) for _ in range(3)))
    return model, lowrank.attach(model, method, rank=2, **keywords)


@pytest.mark.by_hand("tied-lora")
def test_two_by_three_by_hand(one_layer, set_tensors):
    model, form = one_layer([[0.0] * 3, [0.0] * 3], "tied-lora", rank=1)
    set_tensors(form, tied__A=[1.0, 2.0, 3.0], tied__B=[1.0, -1.0], u=[2.0], v=[1.0, 3.0])
    expected = [[2.0, 4.0, 6.0], [-6.0, -12.0, -18.0]]  # v_o B_o u A
    assert form.delta(model["layer"].weight).tolist() == expected
    assert model["layer"](torch.eye(3).double()).T.tolist() == expected


def test_tied_lora_counts_and_saves_one_pair(shake, tmp_path):
    model, adapter = three()
    assert adapter.num_parameters() == 2 * (4 + 4) + 3 * (2 + 4)
    shake(adapter)
    adapter.save(tmp_path / "a")
    tensors = load_file(tmp_path / "a" / "adapter_model.safetensors")
    assert sum(key.endswith("tied.A") for key in tensors) == 1
    assert sum(key.endswith("tied.B") for key in tensors) == 1
    again, _ = three()
    for layer in list(again):
        assert isinstance(layer, lowrank.Adapted)
    fresh = nn.Sequential(*(layer.base for layer in again))
    lowrank.load(fresh, tmp_path / "a")
    x = torch.ones(2, 4, dtype=torch.float64)
    torch.testing.assert_close(fresh(x), model(x))


def test_with_diagonals_of_one_all_layers_share_a_lora(shake):
    model, adapter = three(options={"trained": "AB"})
    assert adapter.num_parameters() == 2 * (4 + 4)
    shake(adapter)
    deltas = [form.delta(model.get_submodule(path).base.weight) for path, form in adapter.forms.items()]
    assert all(torch.equal(delta, deltas[0]) for delta in deltas)
    form = adapter.forms["0"]
    torch.testing.assert_close(deltas[0], form.tied.B.detach() @ form.tied.A.detach())


def test_with_both_factors_frozen_it_trains_what_vera_trains(shake):
    model, adapter = three(options={"trained": "uv"})
    _, vera = three("vera")
    assert adapter.num_parameters() == vera.num_parameters() == 3 * (2 + 4)
    assert all(key.endswith((".u", ".v")) for key in adapter.state())
    form = adapter.forms["1"]
    assert form.tied.B.abs().min() > 0
    assert form.delta(model[1].base.weight).abs().max() == 0


@pytest.mark.parametrize("trained", ["", "Au", "ABx"])
def test_what_cannot_be_trained_is_refused(trained):
    with pytest.raises(UsageError, match="letters"):
        three(options={"trained": trained})
