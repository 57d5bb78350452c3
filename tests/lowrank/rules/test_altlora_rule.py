"""AltLoRA: each half-step is a least-squares optimum, and the path of B A knows nothing of its factors."""

import pytest
import torch

from lorank.errors import UsageError
from lorank.lowrank.rules import make_rule


def draws(out=6, width=8, rank=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(*shape, generator=generator).double() for shape in ((rank, width), (out, rank), (out, width))]


def test_altlora_half_step_is_the_projection_of_the_full_gradient(given):
    A, B, G = draws()
    problem = given(A.tolist(), B.tolist(), G.tolist(), alpha=1.5)
    s = problem.form.scaling
    run = problem.step(make_rule("altlora", damping=0.0, unit="gradient"), lr=0.1, betas=(0.0, 0.0))
    best = torch.linalg.lstsq(A.t(), G.t() / s).solution.t()  # argmin_D ||s D A - G||
    torch.testing.assert_close(problem.pair[1], B - 0.1 * best, atol=1e-6, rtol=0)
    assert torch.equal(problem.pair[0], A)
    B = problem.pair[1]
    run.go(1)
    best = torch.linalg.lstsq(B, G / s).solution
    torch.testing.assert_close(problem.pair[0], A - 0.1 * best, atol=1e-6, rtol=0)
    assert torch.equal(problem.pair[1], B)


@pytest.mark.parametrize("unit", ["weight", "gradient"])
def test_the_path_of_the_product_is_the_same_whatever_the_factors(given, unit):
    A, B, G = draws()
    Q = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1)).double()).Q
    Q = Q @ torch.diag(torch.tensor([0.5, 2.0, 3.0])).double()
    one = given(A.tolist(), B.tolist(), G.tolist())
    two = given(torch.linalg.solve(Q, A).tolist(), (B @ Q).tolist(), G.tolist())
    runs = [problem.step(make_rule("altlora", damping=0.0, unit=unit), lr=0.05) for problem in (one, two)]
    for _ in range(8):
        torch.testing.assert_close(one.product, two.product, atol=1e-9, rtol=0)
        for run in runs:
            run.go(1)
    assert not torch.allclose(one.pair[0], two.pair[0])


def test_momentum_is_re_projected_when_the_other_factor_moves(given):
    """At rate 0 nothing moves and B's momentum is a plain moving average of its projected gradients."""
    A, B, G = draws()
    problem = given(A.tolist(), B.tolist(), G.tolist())
    run = problem.step(make_rule("altlora", damping=0.0), steps=5, lr=0.0)
    momentum = run.optimizer.state[problem.form.B]["momentum"]
    best = torch.linalg.lstsq(A.t(), G.t()).solution.t()
    torch.testing.assert_close(momentum, (1 - 0.9**3) * best)  # steps 0, 2 and 4 were B's


@pytest.mark.parametrize("size", [1e-4, 1.0, 1e4])
def test_a_step_in_units_of_the_weight_knows_nothing_of_the_size_of_the_gradient(given, size):
    A, B, G = draws()
    problem = given(A.tolist(), B.tolist(), (size * G).tolist())
    before = problem.product.clone()
    problem.step(make_rule("altlora", damping=0.0), lr=0.01, betas=(0.0, 0.99), eps=0.0)
    moved = (problem.product - before).square().mean().sqrt()
    torch.testing.assert_close(moved, torch.tensor(0.01).to(moved), rtol=1e-5, atol=0)


def test_an_unknown_unit_is_refused():
    with pytest.raises(UsageError, match="'weight' or 'gradient'"):
        make_rule("altlora", unit="adam")
