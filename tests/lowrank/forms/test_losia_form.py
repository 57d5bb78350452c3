"""LoSiA: a 2x3 example worked by hand, the slice of the full gradient, and sub-matrices that move."""

import numpy as np
import pytest
import torch
from torch import nn

from lorank import lowrank
from lorank.errors import UsageError
from lorank.lowrank.forms.losia import subnet


def layer(rank=2, **options):
    torch.manual_seed(0)
    model = nn.ModuleDict({"layer": nn.Linear(12, 8, dtype=torch.float64)})
    adapter = lowrank.attach(model, "losia", rank=rank, options=options)
    return model, adapter, torch.randn(5, 12, dtype=torch.float64)


@pytest.mark.by_hand("losia")
def test_two_by_three_by_hand(one_layer, set_tensors):
    model, form = one_layer([[1.0, 0.0, 2.0], [0.0, 1.0, 0.0]], "losia", rank=1, options={"share": 0.7})
    assert form.rows.tolist() == [0]
    assert form.columns.tolist() == [0, 2]
    set_tensors(form, P=[[10.0, 20.0]])
    assert form.delta(model["layer"].weight).tolist() == pytest.approx(np.array([[10.0, 0.0, 20.0], [0.0, 0.0, 0.0]]))
    assert model["layer"](torch.ones(1, 3).double()).tolist() == pytest.approx(np.array([[33.0, 1.0]]))


def test_losia_moves_p_squared_of_the_entries_by_the_slice_of_the_full_gradient(shake):
    model, adapter, x = layer(share=0.5)
    form, base = adapter.forms["layer"], model["layer"].base
    assert adapter.num_parameters() == pytest.approx(0.5**2 * 12 * 8)
    model["layer"](x).square().sum().backward()
    full = nn.functional.linear(x, base.weight.clone().requires_grad_(), base.bias)
    W = base.weight.detach().clone().requires_grad_()
    nn.functional.linear(x, W, base.bias).square().sum().backward()
    assert full.shape == (5, 8)
    torch.testing.assert_close(form.P.grad, W.grad[form.rows][:, form.columns])
    shake(adapter)
    assert (form.delta(base.weight) != 0).sum() == 24


def test_the_whole_matrix_is_full_fine_tuning():
    model, adapter, x = layer(share=1.0)
    form, base = adapter.forms["layer"], model["layer"].base
    W = base.weight.detach().clone().requires_grad_()
    optimizers = torch.optim.SGD([form.P], lr=0.01), torch.optim.SGD([W], lr=0.01)
    for _ in range(3):
        for optimizer, y in zip(optimizers, (model["layer"](x), nn.functional.linear(x, W, base.bias)), strict=True):
            optimizer.zero_grad()
            y.square().sum().backward()
            optimizer.step()
    torch.testing.assert_close(base.weight + form.delta(base.weight), W.detach())


def test_merged_it_costs_nothing(shake):
    model, adapter, x = layer()
    shake(adapter)
    before = model["layer"](x)
    adapter.merge()
    torch.testing.assert_close(nn.functional.linear(x, model["layer"].base.weight, model["layer"].base.bias), before)


def test_a_sub_matrix_that_moves_keeps_what_it_learned(shake):
    model, adapter, x = layer(share=0.5, relocations=1)
    shake(adapter)
    form, W = adapter.forms["layer"], model["layer"].base.weight
    before, y = form.delta(W), model["layer"](x)
    importance = torch.zeros(8, 12, dtype=torch.float64)
    importance[4:, 6:] = 1
    form.relocate(importance)
    assert form.rows.tolist() == [4, 5, 6, 7]
    assert form.columns.tolist() == [6, 7, 8, 9, 10, 11]
    torch.testing.assert_close(form.delta(W), before)
    torch.testing.assert_close(model["layer"](x), y)
    shake(adapter)
    torch.testing.assert_close(model["layer"](x), x @ (W + form.delta(W)).T + model["layer"].base.bias)
    with pytest.raises(UsageError, match="relocations"):
        form.relocate(importance)


def test_options_outside_their_range_are_refused():
    with pytest.raises(UsageError, match="share"):
        layer(share=1.5)


def test_in_training_the_sub_matrix_moves_where_weight_times_gradient_is_large_and_a_run_taken_up_moves_alike():
    def run(upto, state=None, begin=0, steps=12):
        model, adapter, x = layer(relocations=2)
        form = adapter.forms["layer"]
        if state is not None:
            adapter.load_state(state)
        form.advance(begin, steps)
        places = []
        for step in range(begin, upto):
            x = torch.randn(5, 12, generator=torch.Generator().manual_seed(step), dtype=torch.float64)
            adapter.model["layer"](x).square().sum().backward()
            seen = form._seen
            with torch.no_grad():
                form.P -= 0.01 * form.P.grad
            form.P.grad = None
            form.advance(step + 1, steps)
            places.append((form.rows.tolist(), form.columns.tolist()))
            if seen is not None:
                assert places[-1] == tuple(part.tolist() for part in subnet(seen, *form.P.shape))
        return model, adapter, places

    model, adapter, places = run(12)
    changes = [step for step in range(1, 12) if places[step] != places[step - 1]]
    assert set(changes) in ({1, 5}, {1}, {5}), places
    assert adapter.forms["layer"].rank_bound() > min(adapter.forms["layer"].P.shape)
    half = run(5)[1].state()
    taken_up = run(12, {key: tensor.clone() for key, tensor in half.items()}, 5)[0]
    x = torch.ones(1, 12, dtype=torch.float64)
    assert torch.equal(taken_up["layer"](x), model["layer"](x))


def test_the_importance_is_the_dense_weight_times_its_gradient(shake):
    model, adapter, x = layer(relocations=1)
    form, base = adapter.forms["layer"], model["layer"].base
    shake(adapter)
    form.advance(1, 8)
    assert form.watching
    model["layer"](x).square().sum().backward()
    W = (base.weight + form.delta(base.weight)).detach().requires_grad_()
    nn.functional.linear(x, W, base.bias).square().sum().backward()
    torch.testing.assert_close(form._seen, (W * W.grad).abs().detach())
