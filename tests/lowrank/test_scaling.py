"""Scalings, and what rsLoRA shows: output and gradients of one scale at any rank, LoRA at rank 1, exact merge."""

import pytest
import torch
from torch import nn

from lorank import lowrank
from lorank.errors import UsageError
from lorank.lowrank.scaling import SCALINGS, default_alpha

RANKS = (1, 8, 64, 512)


def moments(scaling, rank, width=256, steps=1):
    """Return the sizes of the update's output and of x's gradient after one Adam-like step of B and A."""
    torch.manual_seed(0)
    model = nn.ModuleDict({"layer": nn.Linear(width, width, bias=False)})
    adapter = lowrank.attach(model, "lora", rank=rank, alpha=8.0, scaling=scaling)
    form = adapter.forms["layer"]
    x = torch.randn(64, width)
    signal = torch.randn(64, width)
    (model["layer"](x) * signal).sum().backward()
    with torch.no_grad():
        form.B -= 0.01 * form.B.grad.sign() * torch.rand_like(form.B)
    x.requires_grad_()
    with adapter.disabled():
        base = model["layer"](x)
    update = model["layer"](x) - base
    gradient = torch.autograd.grad((update * signal).sum(), x)[0]
    return update.detach().std(), gradient.std()


def test_rslora_keeps_output_and_gradient_at_one_scale_from_rank_1_to_512():
    sizes = [moments("rslora", rank) for rank in RANKS]
    for index in (0, 1):
        values = torch.stack([size[index] for size in sizes])
        assert values.max() / values.min() < 4
        plain = torch.stack([moments("lora", rank)[index] for rank in RANKS])
        assert plain[0] / plain[-1] > 8


def test_rslora_at_rank_1_is_lora(tower, shake):
    x = torch.ones(3, 6)
    scores = []
    for method in ("lora", "rslora"):
        model = tower()
        shake(lowrank.attach(model, method, rank=1, alpha=3.0))
        scores.append(model(x))
    assert torch.equal(*scores)


@pytest.mark.parametrize("rank", RANKS)
def test_rslora_merges_exactly(rank, tower, shake):
    model, x = tower(torch.float64), torch.ones(3, 6, dtype=torch.float64)
    adapter = lowrank.attach(model, "rslora", rank=rank)
    shake(adapter)
    before = model(x)
    adapter.merge()
    torch.testing.assert_close(model(x), before, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize(
    ("scaling", "alpha", "rank", "expected"),
    [
        ("lora", 16, 4, 4.0),
        ("rslora", 16, 4, 8.0),
        ("lora", 16, 0, 0.0),
        ("rslora", 16, 0, 0.0),
    ],
)
def test_values(scaling, alpha, rank, expected):
    assert SCALINGS[scaling](alpha, rank) == expected


def test_the_default_scale_of_lora_is_one_whatever_the_ranks(tower):
    adapter = lowrank.attach(tower(), rank=4, ranks={"wide": 2})
    assert {form.scaling for form in adapter.forms.values()} == {1.0}
    assert default_alpha("rslora", 2) == default_alpha("rslora", 200)


def test_a_given_alpha_is_for_all_ranks_as_in_peft(tower):
    adapter = lowrank.attach(tower(), rank=4, alpha=8, ranks={"wide": 2}, alphas={"narrow": 2})
    assert {path: form.scaling for path, form in adapter.forms.items()} == {
        "wide": 4.0,
        "narrow": 0.5,
        "transposed": 2.0,
        "head": 2.0,
    }


def test_unknown_scaling(tower):
    with pytest.raises(UsageError, match="did you mean 'rslora'"):
        lowrank.attach(tower(), scaling="rs-lora")
