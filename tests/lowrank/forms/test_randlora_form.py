"""RandLoRA: a 2x3 example worked by hand, full rank after a step, bases from the seed, and PEFT's update."""

import peft
import pytest
import torch
from torch import nn

from lorank import lowrank


@pytest.mark.by_hand("randlora")
def test_two_by_three_by_hand(one_layer, set_tensors):
    model, form = one_layer([[0.0] * 3, [0.0] * 3], "randlora", rank=1)
    # in > out, so dW is the transpose of sum_i B_i lambda_i A gamma_i [3, 2]; n = 2 bases of rank 1
    set_tensors(form, A__value=[[1.0, 2.0]], B__value=[[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    set_tensors(form, lambdas=[[2.0], [3.0]], gamma=[[1.0, 0.0], [1.0, 1.0]])
    # i=0: column (1, 0, 1) times 2 (1, 0); i=1: column (0, 1, 1) times 3 (1, 2)
    expected = [[2.0, 3.0, 5.0], [0.0, 6.0, 6.0]]
    assert form.delta(model["layer"].weight).tolist() == expected
    assert model["layer"](torch.eye(3).double()).T.tolist() == expected


@pytest.mark.parametrize(("sides", "rank"), [((7, 12), 3), ((12, 7), 3), ((8, 8), 1)])
def test_randlora_is_of_full_rank_after_one_random_step(sides, rank, shake):
    model = nn.ModuleDict({"layer": nn.Linear(*sides, dtype=torch.float64)})
    adapter = lowrank.attach(model, "randlora", rank=rank)
    form = adapter.forms["layer"]
    k, n = min(sides), -(-min(sides) // rank)
    assert adapter.num_parameters() == n * (rank + k)
    shake(adapter)
    assert torch.linalg.matrix_rank(form.delta(model["layer"].weight)) == k


def test_bases_come_back_bit_equal_from_the_seed_and_are_shared():
    def bases(seed):
        layers = {name: nn.Linear(5, 8) for name in ("one", "two")}
        adapter = lowrank.attach(nn.ModuleDict(layers), "randlora", rank=2, seed=seed)
        one, two = adapter.forms.values()
        assert one.A is two.A
        assert not any("A" in key or "B" in key for key in adapter.state())
        return one.A.value, one.B.value

    again = bases(1)
    assert all(torch.equal(one, two) for one, two in zip(bases(1), again, strict=True))
    assert not torch.equal(bases(2)[0], again[0])


@pytest.mark.parametrize("sides", [(6, 9), (9, 6)])
def test_the_update_is_pefts(sides):
    torch.manual_seed(0)
    config = peft.RandLoraConfig(r=4, randlora_alpha=6, target_modules=["layer"])
    theirs = peft.get_peft_model(nn.ModuleDict({"layer": nn.Linear(*sides)}), config).base_model.model.layer
    model = nn.ModuleDict({"layer": nn.Linear(*sides)})
    form = lowrank.attach(model, "randlora", rank=4, alpha=6.0).forms["layer"]
    n, r = form.lambdas.shape
    with torch.no_grad():
        theirs.randlora_lambda["default"].normal_()
        theirs.randlora_gamma["default"].normal_()
        form.lambdas.copy_(theirs.randlora_lambda["default"].T)
        form.gamma.copy_(theirs.randlora_gamma["default"])
        form.A.value.copy_(theirs.randlora_A["default"].squeeze(1))
        # PEFT flattens A's rows rank first and B's columns base first
        columns = theirs.randlora_B["default"].flatten(1)
        form.B.value.copy_(columns.view(-1, r, n).transpose(1, 2))
    expected = theirs.get_delta_weight("default").detach()
    torch.testing.assert_close(form.delta(model["layer"].weight), expected, atol=1e-6, rtol=1e-5)
