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


def test_rora_scaling_is_rsloras_factor_bit_for_bit(tower, shake):
    x, scores = torch.ones(3, 6), []
    for method in ("rslora", "rora-scaling"):
        model = tower()
        shake(lowrank.attach(model, method, rank=3))
        scores.append(model(x))
    assert torch.equal(*scores)
    assert all(SCALINGS["rora-scaling"](a, r) == SCALINGS["rslora"](a, r) for a in (0.5, 16.0) for r in range(200))


def test_roras_gradient_does_not_depend_on_the_rank():
    """At B = 0, per entry of B: ||dL/dB|| over sqrt(out r) times s is that of s = alpha / sqrt r times sqrt r."""
    norms = []
    for rank in RANKS:
        torch.manual_seed(0)
        model = nn.ModuleDict({"layer": nn.Linear(256, 256, bias=False)})
        form = lowrank.attach(model, "rora-scaling", rank=rank).forms["layer"]
        (model["layer"](torch.randn(64, 256)) * torch.randn(64, 256)).sum().backward()
        norms.append(form.B.grad.norm())
    assert max(norms) / min(norms) < 1.5


def test_recovery_of_a_pruned_model_improves_with_the_rank_under_rora():
    """Half of the weights, the smallest, are set to 0; after as many Adam steps more rank has recovered more."""
    left = []
    for rank in (1, 4, 16):
        torch.manual_seed(0)
        model = nn.ModuleDict({"layer": nn.Linear(32, 24, bias=False)})
        whole = model["layer"].weight.detach().clone()
        with torch.no_grad():
            model["layer"].weight[whole.abs() < whole.abs().median()] = 0
        adapter = lowrank.attach(model, "rora-scaling", rank=rank)
        optimizer, x = torch.optim.Adam(adapter.parameters(), lr=2e-3), torch.randn(200, 32)
        for _ in range(150):
            optimizer.zero_grad()
            loss = (model["layer"](x) - x @ whole.t()).square().mean()
            loss.backward()
            optimizer.step()
        left.append(loss.item())
    assert left[1] < 0.9 * left[0]
    assert left[2] < 0.7 * left[1]


def test_peft_reads_rora_scaling_as_its_rslora(tower, shake, tmp_path):
    import json

    adapter = lowrank.attach(tower(), "rora-scaling", rank=2, targets=["wide"])
    shake(adapter)
    adapter.save(tmp_path / "adapter")
    assert json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())["use_rslora"] is True


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
    assert all(form.scaling == pytest.approx(1.0) for form in adapter.forms.values())
    assert default_alpha("rslora", 2) == default_alpha("rslora", 200)


def test_a_given_alpha_is_for_all_ranks_as_in_peft(tower):
    adapter = lowrank.attach(tower(), rank=4, alpha=8, ranks={"wide": 2}, alphas={"narrow": 2})
    assert {path: form.scaling for path, form in adapter.forms.items()} == pytest.approx(
        {
            "wide": 4.0,
            "narrow": 0.5,
            "transposed": 2.0,
            "head": 2.0,
        }
    )


def test_unknown_scaling(tower):
    with pytest.raises(UsageError, match="did you mean 'rslora'"):
        lowrank.attach(tower(), scaling="rs-lora")
