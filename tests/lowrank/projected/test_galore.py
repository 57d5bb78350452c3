"""GaLore and its kin: rotated coordinates, the peer's own steps, bases of 4 bits, lazy refreshes, random frames."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from lorank import lowrank
from lorank.lowrank.projected import ProjectedOptimizer, Projection
from lorank.lowrank.projected.projectors.int4 import pack_int4, unpack_int4
from lorank.lowrank.projected.weights.int8 import round_to_int8
from lorank.lowrank.projected.weights.plain import round_to_bfloat16


def matrix(rows, columns, seed=0):
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def walk(optimizer, parameter, gradients):
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimizer.step()
    return parameter.detach()


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("shape", [(4, 7), (7, 4), (5, 5)])
def test_at_full_rank_it_is_adam_in_rotated_coordinates(shape, seed):
    start, gradients = matrix(*shape, seed), [matrix(*shape, 10 * seed + i) for i in range(1, 9)]
    ours = nn.Parameter(start.clone())
    optimizer = lowrank.optimizer("galore", [ours], lr=0.01, rank=min(shape), gap=100, scale=1.0)
    found = walk(optimizer, ours, gradients)
    P, turned = optimizer.state[ours]["basis"], shape[0] >= shape[1]
    torch.testing.assert_close(P.t() @ P, torch.eye(min(shape), dtype=P.dtype))

    def rotate(X):
        return P.t() @ (X.t() if turned else X)

    rotated = nn.Parameter(rotate(start))
    adam = torch.optim.AdamW([rotated], lr=0.01, weight_decay=0.0)
    expected = P @ walk(adam, rotated, [rotate(g) for g in gradients])
    torch.testing.assert_close(found, expected.t() if turned else expected)


@pytest.mark.parametrize("seed", [0, 1])
def test_gradient_descent_moves_by_the_projection_of_the_gradient(seed):
    W, G = matrix(6, 9, seed), matrix(6, 9, seed + 5)
    ours = nn.Parameter(W.clone())
    optimizer = lowrank.optimizer("galore", [ours], lr=0.3, rank=2, inner="sgd", scale=0.25)
    found = walk(optimizer, ours, [G])
    U = torch.linalg.svd(G).U[:, :2]
    torch.testing.assert_close(found, W - 0.3 * 0.25 * U @ U.t() @ G, atol=1e-6, rtol=1e-6)


def peer():
    """galore-torch's AdamW, from its file: its package imports bitsandbytes."""
    spec = importlib.util.find_spec("galore_torch")
    if spec is None or spec.origin is None:
        pytest.skip("galore-torch is not installed")
    folder, modules = Path(spec.origin).parent, {}
    package = type(sys)("galore_peer")
    package.__path__ = [str(folder)]
    sys.modules["galore_peer"] = package
    for name in ("galore_projector", "adamw"):
        own = importlib.util.spec_from_file_location(f"galore_peer.{name}", folder / f"{name}.py")
        modules[name] = importlib.util.module_from_spec(own)
        sys.modules[own.name] = modules[name]
        own.loader.exec_module(modules[name])
    return modules["adamw"].AdamW


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("shape", [(6, 9), (9, 6)])
def test_it_steps_as_galore_torch_does(shape, seed):
    AdamW = peer()
    start, gradients = matrix(*shape, seed).float(), [matrix(*shape, 20 * seed + i).float() for i in range(1, 10)]
    theirs, ours = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    group = {"params": [theirs], "rank": 3, "update_proj_gap": 100, "scale": 0.25, "proj_type": "std"}
    expected = walk(AdamW([group], lr=0.01, weight_decay=0.0, no_deprecation_warning=True, eps=0.0), theirs, gradients)
    found = walk(lowrank.optimizer("galore", [ours], lr=0.01, rank=3, gap=100, eps=0.0), ours, gradients)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)  # within a gap: at its end signs may differ


@pytest.mark.parametrize("seed", [0, 1])
def test_four_bits_err_by_half_a_step_at_most(seed):
    values = torch.linalg.qr(matrix(96, 20, seed)).Q.float()
    kept = pack_int4(values)
    assert kept["codes"].numel() == 8 * 256 // 2
    error = (unpack_int4(kept, torch.float32) - values).abs().flatten()
    steps = kept["code_step"].repeat_interleave(256)[: error.numel()]
    assert (error <= steps / 2 * (1 + 1e-4)).all()


@pytest.mark.parametrize("seed", [0, 1])
def test_rounding_at_random_has_the_mean_of_what_is_rounded(seed):
    generator = torch.Generator().manual_seed(seed)
    values = matrix(8, 64, seed).float()
    step = (values.view(-1, 256).amax(1) - values.view(-1, 256).amin(1)).max() / 255
    rounded = torch.stack([round_to_int8(values, generator) for _ in range(400)])
    assert (rounded.mean(0) - values).abs().max() < 5 * step / 2 / 400**0.5 + 1e-6  # 5 standard errors at most
    assert ((rounded - values).abs() <= step * 1.001).all()
    halves = torch.stack([round_to_bfloat16(values, generator).float() for _ in range(400)])
    spacing = values.abs() * 2**-7
    assert ((halves.mean(0) - values).abs() < 5 * spacing / 2 / 400**0.5 + 1e-6).all()


def refreshes(optimizer_name, seed, turning, steps=160, **options):
    """How often a projector is found on a stream of gradients: one stationary, or one that turns at random."""
    generator = torch.Generator().manual_seed(seed)
    parameter = nn.Parameter(torch.zeros(24, 32))
    optimizer = lowrank.optimizer(optimizer_name, [parameter], lr=1e-3, rank=4, gap=5, seed=seed, **options)
    lead = torch.randn(24, generator=generator)
    for _ in range(steps):
        lead = torch.randn(24, generator=generator) if turning else lead
        parameter.grad = torch.outer(lead, torch.randn(32, generator=generator))
        parameter.grad += 0.1 * torch.randn(24, 32, generator=generator)
        optimizer.step()
    return int(optimizer.state[parameter]["refreshes"])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_lazy_refreshes_fall_where_the_gradient_is_stationary(seed):
    assert refreshes("galore", seed, turning=False) == 32
    assert refreshes("q-galore", seed, turning=False) <= 12
    assert refreshes("q-galore", seed, turning=True) > refreshes("q-galore", seed, turning=False)


@pytest.mark.parametrize("seed", [0, 1])
def test_weights_stay_on_a_grid_of_eight_bits(seed):
    layer = nn.Linear(32, 16)
    optimizer = lowrank.optimizer("q-galore", layer.parameters(), lr=0.01, rank=4, seed=seed)
    for step in range(3):
        layer(matrix(4, 32, step).float()).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert all(len(group.unique()) <= 256 for group in layer.weight.detach().view(-1, 256))
    spread = layer.weight.detach().view(-1, 256)
    steps = (spread - spread.amin(1, keepdim=True)) / (
        (spread.amax(1, keepdim=True) - spread.amin(1, keepdim=True)) / 255
    )
    assert (steps - steps.round()).abs().max() < 1e-3


@pytest.mark.parametrize("name", ["golore", "galore"])
def test_a_random_frame_is_orthonormal_and_reads_no_gradient(name):
    bases = []
    for scale in (0, 1):
        parameter = nn.Parameter(torch.zeros(12, 20))
        optimizer = lowrank.optimizer(name, [parameter], lr=0.1, rank=3, seed=4)
        walk(optimizer, parameter, [matrix(12, 20, scale).float()])
        bases.append(optimizer.state[parameter]["basis"])
    torch.testing.assert_close(bases[0].t() @ bases[0], torch.eye(3), atol=1e-5, rtol=0)
    assert torch.equal(*bases) == (name == "golore")


def test_another_seed_draws_other_subspaces():
    found = []
    for seed in (0, 1):
        parameter = nn.Parameter(torch.zeros(12, 20))
        optimizer = ProjectedOptimizer([parameter], Projection(projector="random"), lr=0.1, rank=3, seed=seed)
        found.append(walk(optimizer, parameter, [matrix(12, 20).float()]).clone())
    assert not torch.allclose(*found)
