"""MoS: a 2x3 example worked by hand, one pool whatever the number of layers, and LoRA as its limit."""

import numpy as np
import pytest
import torch
from torch import nn

from lorank import lowrank
from lorank.errors import UsageError


def stack(layers, **options):
    model = nn.Sequential(*(nn.Linear(8, 8, dtype=torch.float64) for _ in range(layers)))
    return model, lowrank.attach(model, "mos-shards", rank=4, options=options)


@pytest.mark.by_hand("mos-shards")
def test_two_by_three_by_hand(one_layer, set_tensors):
    model, form = one_layer([[0.0] * 3, [0.0] * 3], "mos-shards", rank=1, options={"vectors": 2, "shards": 1})
    set_tensors(form, pools__A=[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], pools__B=[[1.0, 0.0], [0.0, 1.0]])
    set_tensors(form, choice_A=[1], choice_B=[0])
    assert form.delta(model["layer"].base.weight).tolist() == pytest.approx(
        np.array([[4.0, 5.0, 6.0], [0.0, 0.0, 0.0]])
    )
    model["layer"](torch.ones(1, 3, dtype=torch.float64)).sum().backward()
    torch.testing.assert_close(form.pools.A.grad, torch.tensor([[0.0] * 3, [1.0] * 3], dtype=torch.float64))
    assert form.pools.B.grad.tolist() == pytest.approx(np.array([[15.0, 15.0], [0.0, 0.0]]))


def test_a_vector_is_put_together_from_its_shards(one_layer, set_tensors):
    _, form = one_layer([[0.0] * 4] * 2, "mos-shards", rank=1, options={"vectors": 2, "shards": 2})
    set_tensors(form, pools__A=[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]], choice_A=[3, 0])
    assert form.pair()[0].tolist() == pytest.approx(np.array([[7.0, 8.0, 1.0, 2.0]]))


@pytest.mark.parametrize("layers", [1, 2, 7])
def test_mos_shards_trains_its_pools_whatever_the_number_of_layers(layers, shake):
    model, adapter = stack(layers, vectors=6)
    assert adapter.num_parameters() == 6 * (8 + 8)
    before = {path: form.choice_A.clone() for path, form in adapter.forms.items()}
    model(torch.ones(3, 8, dtype=torch.float64)).sum().backward()
    shake(adapter)
    for path, form in adapter.forms.items():
        assert torch.equal(form.choice_A, before[path])
        assert len(set(form.choice_A.tolist())) == len(form.choice_A) == 4 * 4
        assert not form.choice_A.equal(form.choice_B)
        delta = form.delta(model.get_submodule(path).base.weight)
        assert torch.linalg.matrix_rank(delta) == 4
    assert len(adapter.state()) == 2  # the pools, and no choice


def test_all_private_is_lora(shake):
    model, adapter = stack(2, private=4)
    lora_model = nn.Sequential(*(nn.Linear(8, 8, dtype=torch.float64) for _ in range(2)))
    lora_model.load_state_dict({key.replace("base.", ""): v for key, v in model.state_dict().items() if "base" in key})
    lora = lowrank.attach(lora_model, "lora", rank=4)
    assert adapter.num_parameters() == lora.num_parameters()
    with torch.no_grad():
        for path, form in adapter.forms.items():
            form.own_B.normal_(generator=torch.Generator().manual_seed(0))
            lora.forms[path].set_factors(form.own_A, form.own_B)
    x = torch.ones(2, 8, dtype=torch.float64)
    torch.testing.assert_close(model(x), lora_model(x))


@pytest.mark.parametrize("options", [{"vectors": 3}, {"shards": 3}, {"private": -1}])
def test_pools_that_do_not_fit_are_refused(options):
    with pytest.raises(UsageError):
        stack(1, **options)
