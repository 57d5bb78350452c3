"""What holds for every router: a zero start, one expert is the plain form, folders, states, ranks, half precision."""

import copy

import pytest
import torch
from torch import nn

from lorank import lowrank
from lorank.errors import LorankError, UsageError
from lorank.lowrank.forms.form import FORMS, ROUTED

ONE_EXPERT = {
    "flylora": {"top": 2, "nonzeros": 3},
    "mixture-of-routers": {"experts": 1, "top": 1, "routers": 1},
    "base-layers": {"experts": 1},
    "palora": {"tasks": 1},
    "mhr": {"tasks": 1, "modules": 1, "heads": 1},
    "taps": {},
    "mora-mixture": {"temperature": float("inf")},
}
every_router = pytest.mark.parametrize("name", ONE_EXPERT)
every_token_router = pytest.mark.parametrize("name", sorted(ROUTED))


def attach(model, name, **keywords):
    keywords = {"rank": 4, "alpha": 3.0, "targets": ["wide", "narrow", "transposed"], "trained": ["head"]} | keywords
    return lowrank.attach(model, name, **keywords)


def inputs(dtype=torch.float64):
    return torch.randn(4, 3, 6, generator=torch.Generator().manual_seed(0)).to(dtype)


def test_every_token_router_is_here():
    assert set(ROUTED) <= set(ONE_EXPERT)
    assert set(ONE_EXPERT) - set(ROUTED) <= set(FORMS)


@every_router
def test_a_router_with_one_expert_is_the_plain_form(name, tower, shake):
    routed, plain, x = tower(torch.float64), tower(torch.float64), inputs()
    adapter = attach(routed, name, rank=2, options=ONE_EXPERT[name])
    lora = attach(plain, "lora", rank=2)
    shake(adapter)
    with torch.no_grad():
        for path, form in lora.forms.items():
            own = adapter.forms[path]
            form.A.copy_(own.A.reshape(form.A.shape))
            form.B.copy_(own.B.reshape(form.B.shape))
        lora.trained["head"].load_state_dict(adapter.trained["head"].state_dict())
    torch.testing.assert_close(routed(x), plain(x))


@every_token_router
def test_the_output_at_the_start_is_the_bases(name, tower):
    model, x = tower(torch.float64), inputs()
    before = model(x)
    attach(model, name)
    torch.testing.assert_close(model.train()(x), before)


@every_token_router
def test_gradients_reach_the_input_and_all_that_is_trained(name, tower, shake):
    model, x = tower(torch.float64).train(), inputs().requires_grad_()
    adapter = attach(model, name)
    shake(adapter)
    (model(x).square().sum() + sum(form.penalty() or 0 for form in adapter.forms.values())).backward()
    assert x.grad.abs().sum() > 0
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in adapter.parameters())
    assert all(form.penalty() is None for form in adapter.forms.values())


@every_token_router
def test_a_saved_router_scores_the_same(name, tower, shake, tmp_path):
    model, x = tower().eval(), inputs(torch.float32)
    adapter = attach(model, name, seed=3)
    shake(adapter)
    adapter.save(tmp_path / "adapter", probe=lambda model: model(x))
    fresh = tower().eval()
    lowrank.load(fresh, tmp_path / "adapter")
    torch.testing.assert_close(fresh(x), model(x))
    assert torch.equal(copy.deepcopy(model)(x), model(x))


@every_token_router
def test_state_goes_back_in(name, tower, shake):
    one, two, x = tower().eval(), tower().eval(), inputs(torch.float32)
    adapter = attach(one, name)
    shake(adapter)
    attach(two, name).load_state(adapter.state())
    assert torch.equal(one(x), two(x))


@every_token_router
def test_it_cannot_be_merged_and_says_why(name, tower, tmp_path):
    adapter = attach(tower(), name)
    assert not adapter.mergeable
    with pytest.raises(UsageError, match="routes every token by itself"):
        adapter.merge()
    for format in ("peft", "portable"):
        with pytest.raises(LorankError):
            adapter.export(tmp_path / format, format)
    assert not adapter.merged


@every_token_router
@pytest.mark.parametrize("rank", [0, 1, 12])
def test_any_rank(name, rank, tower, shake):
    model, x = tower(torch.float64), inputs()
    before = model(x)
    adapter = attach(model, name, rank=rank, trained=[])
    torch.testing.assert_close(model(x), before)
    shake(adapter)
    model(x).sum().backward()
    assert torch.equal(model(x), before) == (rank == 0)


@every_token_router
@pytest.mark.parametrize("shape", [(6,), (1, 6), (2, 3, 2, 6)])
def test_any_shape_of_batch(name, shape, tower, shake):
    model = tower().eval()
    shake(attach(model, name))
    x = torch.randn(shape, requires_grad=True)
    model.wide(x).sum().backward()
    assert model.wide(x).shape == (*shape[:-1], 10)
    assert x.grad.shape == shape


@every_token_router
def test_half_precision(name, tower, shake):
    exact, half = tower().eval(), tower(torch.bfloat16).eval()
    for model in (exact, half):
        shake(attach(model, name))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = exact(inputs(torch.float32))
    assert cast.dtype is torch.bfloat16
    assert half(inputs(torch.bfloat16)).dtype is torch.bfloat16
    assert half(inputs(torch.bfloat16)).isfinite().all()


@every_token_router
def test_the_trained_count_is_the_formula(name, tower):
    adapter = attach(tower(), name, trained=[])
    assert adapter.num_parameters() == sum(form.parameter_count() for form in adapter.forms.values())


@every_token_router
def test_tokens_do_not_see_each_other_out_of_training(name, tower, shake):
    model = tower(torch.float64).eval()
    shake(attach(model, name))
    x = inputs().flatten(0, 1)
    torch.testing.assert_close(model(x), torch.cat([model(row.unsqueeze(0)) for row in x]))


def test_bad_options_are_refused():
    for name, options in (
        ("flylora", {"top": 9}),
        ("mixture-of-routers", {"top": 5}),
        ("base-layers", {"experts": 0}),
        ("palora", {"tasks": 0}),
        ("mhr", {"modules": 0}),
        ("taps", {"threshold": 0.0}),
        ("mora-mixture", {"top": 9}),
        ("mora-mixture", {"temperature": 0.0}),
        ("mora-mixture", {"frozen": -1}),
    ):
        with pytest.raises(UsageError):
            lowrank.attach(nn.Sequential(nn.Linear(6, 5)), name, rank=4, options=options)
