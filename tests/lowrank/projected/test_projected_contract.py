"""What holds for every projected optimizer: all combinations step, are saved, and go on bit for bit."""

import itertools

import pytest
import torch
from torch import nn

from lorank import lowrank
from lorank.lowrank.projected import (
    INNERS,
    LAYERS,
    MOMENTS,
    PRESETS,
    PROJECTORS,
    REFRESHES,
    RESIDUALS,
    WEIGHTS,
    ProjectedOptimizer,
    Projection,
)
from lorank.lowrank.projected.inner import low_bit

COMBINATIONS = [
    {"projector": projector, "inner": inner, "residual": residual}
    for projector, inner, residual in itertools.product(PROJECTORS, INNERS, RESIDUALS)
]
OTHERS = [
    *({"refresh": refresh, "moments": moments} for refresh in REFRESHES for moments in MOMENTS),
    *({"weights": weights, "layers": layers} for weights in WEIGHTS for layers in LAYERS),
    {"moments": "rotated", "inner": "adamw8bit"},
    {"moments": "rotated", "inner": "adafactor"},
    {"layers": "outliers", "in_backward": True},
    {"residual": "fira", "per": "matrix"},
]


def options_of(axes):
    moments = "reset" if axes.get("projector") == "blocks" else axes.get("moments", "kept")
    return Projection(**{"gap": 3, "interval": 4, "active": 1, **axes, "moments": moments})


def name_of(axes):
    return "-".join(str(value) for value in axes.values())


def begin(tower, options, seed=0):
    model = tower(seed)
    return model, ProjectedOptimizer(model.named_parameters(), options, lr=0.01, rank=2, weight_decay=0.1, seed=seed)


@pytest.mark.parametrize("axes", [*COMBINATIONS, *OTHERS], ids=name_of)
def test_a_run_taken_up_from_its_file_is_bit_for_bit_the_run_that_was_not_cut(
    axes, tower, go, needs, tmp_path, monkeypatch
):
    needs(axes.get("inner", "adamw"))
    monkeypatch.setattr(low_bit, "LEAST", 1)
    options = options_of(axes)
    whole, optimizer = begin(tower, options)
    before = [p.detach().clone() for p in whole.parameters()]
    go(whole, optimizer, range(10))
    assert all(torch.isfinite(p).all() for p in whole.parameters())
    moved = [not torch.equal(p, was) for p, was in zip(whole.parameters(), before, strict=True)]
    assert all(moved) or options.layers != "all"
    assert all(type(value) is torch.Tensor for state in optimizer.state.values() for value in state.values())
    for cut in (5, 8):  # in the middle of a gap, and of a round of layers
        first, ours = begin(tower, options)
        go(first, ours, range(cut))
        torch.save({"model": first.state_dict(), "optimizer": ours.state_dict()}, tmp_path / "run.pt")
        kept = torch.load(tmp_path / "run.pt", weights_only=True)
        second, theirs = begin(tower, options)
        second.load_state_dict(kept["model"])
        theirs.load_state_dict(kept["optimizer"])
        go(second, theirs, range(cut, 10))
        for name, parameter in second.named_parameters():
            assert torch.equal(parameter, dict(whole.named_parameters())[name]), name  # exact: the same operations
        assert theirs.state_bytes() == optimizer.state_bytes()


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("seed", [0, 1])
def test_every_optimizer_lowers_a_loss_by_its_name(name, seed, tower, loss_of, go, needs):
    needs(PRESETS[name].inner)
    model = tower(seed)
    lr = 0.1 if name == "supervised-dictionary-learning" else 0.02
    optimizer = lowrank.optimizer(name, model.parameters(), lr=lr, rank=2, seed=seed)
    before = sum(float(loss_of(model, step).detach()) for step in range(100, 120))
    go(model, optimizer, range(60))
    assert sum(float(loss_of(model, step).detach()) for step in range(100, 120)) < 0.8 * before


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_other_dtypes_step_and_their_moments_keep_what_the_dtype_needs(name, dtype, tower, go, needs):
    needs(PRESETS[name].inner)
    model = tower(0, dtype)
    optimizer = lowrank.optimizer(name, model.parameters(), lr=0.01, rank=2)
    go(model, optimizer, range(4), dtype)
    assert all(p.dtype is dtype and torch.isfinite(p).all() for p in model.parameters())
    kept = {torch.float16: torch.float32}.get(dtype, dtype)
    moments = [v for s in optimizer.state.values() for k, v in s.items() if k in ("exp_avg", "basis")]
    assert all(moment.dtype is kept for moment in moments)


@pytest.mark.parametrize("name", PRESETS)
def test_stepping_in_the_backward_pass_is_the_same_run_and_leaves_no_gradient(name, tower, loss_of, go, needs):
    needs(PRESETS[name].inner)
    plain, within = tower(), tower()
    go(plain, lowrank.optimizer(name, plain.named_parameters(), lr=0.01, rank=2, interval=3), range(8))
    optimizer = lowrank.optimizer(name, within.named_parameters(), lr=0.01, rank=2, interval=3, in_backward=True)
    for step in range(8):
        loss_of(within, step).backward()
        assert all(p.grad is None for p in within.parameters())
        optimizer.step()
    for one, two in zip(plain.parameters(), within.parameters(), strict=True):
        assert torch.equal(one, two)  # exact: the same operations


@pytest.mark.parametrize("name", PRESETS)
def test_convolutions_are_matrices_and_frozen_parameters_stay(name, needs):
    needs(PRESETS[name].inner)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv1d(4, 6, 3), nn.Flatten(), nn.Linear(24, 3))
    model[2].weight.requires_grad_(False)
    before = [p.detach().clone() for p in model.parameters()]
    optimizer = lowrank.optimizer(name, model.parameters(), lr=0.01, rank=2)
    model(torch.randn(5, 4, 6)).square().sum().backward()
    optimizer.step()
    moved = [not torch.equal(p, was) for p, was in zip(model.parameters(), before, strict=True)]
    assert moved[0]
    assert not moved[2]


def test_a_model_gives_its_linear_layers_and_all_else_steps_plainly(tower, go):
    model = nn.Sequential(nn.Embedding(20, 6), nn.Flatten(0, 1), tower())
    optimizer = lowrank.optimizer("galore", model, lr=0.01, rank=1)
    model(torch.arange(4)[:, None]).sum().backward()
    optimizer.step()
    projected = {optimizer.names[p] for p, state in optimizer.state.items() if "basis" in state}
    assert projected == {"2.0.weight", "2.3.weight", "2.4.weight"}
    plain = lowrank.optimizer("galore", model, lr=0.01, rank=2, exclude=["2.4"])
    assert plain.ranks[model[2][4].weight] is None


def test_groups_have_ranks_of_their_own(tower, go):
    model = tower()
    groups = [{"params": [model[0].weight], "rank": 3}, {"params": [model[3].weight], "rank": None, "lr": 0.5}]
    optimizer = lowrank.optimizer("galore", [*groups, *model[1].parameters()], lr=0.01, rank=1)
    go(model, optimizer, range(2))
    assert optimizer.state[model[0].weight]["basis"].shape == (6, 3)
    assert "basis" not in optimizer.state[model[3].weight]
    assert [group["lr"] for group in optimizer.param_groups] == [0.01, 0.01, 0.5]  # exact: copied


def test_a_layer_under_an_adapter_or_a_parametrisation_is_stepped_as_what_it_is(tower):
    model = tower()
    torch.nn.utils.parametrizations.weight_norm(model[3])
    lowrank.attach(model, rank=1, targets=["0"])
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    optimizer = lowrank.optimizer("galore", model, lr=0.01, rank=1)
    projected = {optimizer.names[p] for p, rank in optimizer.ranks.items() if rank is not None}
    assert "0.base.weight" in projected
    assert not any(name.startswith("3.") for name in projected)


def test_tied_weights_step_once(tower):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6), nn.Linear(6, 1))
    model[2].weight = model[0].weight
    optimizer = lowrank.optimizer("galore", model.parameters(), lr=0.01, rank=2)
    model(torch.ones(2, 6)).sum().backward()
    optimizer.step()
    assert float(optimizer.state[model[0].weight]["step"]) == 1.0  # exact: a count
