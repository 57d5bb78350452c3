"""LoRA-Pro: the equivalent gradient is the nearest that factors can make, whatever X; X solves its equation."""

from typing import ClassVar

import pytest
import torch
from hypothesis import given as for_any
from hypothesis import settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from lorank import lowrank
from lorank.errors import UsageError
from lorank.lowrank.linalg import gram, solve_sylvester
from lorank.lowrank.rules import make_rule
from lorank.lowrank.rules.lora_pro import closest_moves


def draws(out, width, rank, seed):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(*shape, generator=generator).double() for shape in ((rank, width), (out, rank), (out, width))]


@settings(max_examples=15, deadline=None)
@for_any(out=st.integers(3, 9), width=st.integers(3, 9), rank=st.integers(1, 3), seed=st.integers(0, 99))
def test_lora_pro_equivalent_gradient_is_the_nearest_to_the_full_one(out, width, rank, seed):
    (A, B, G), s = draws(out, width, rank, seed), 0.5
    gA, gB = closest_moves(s * B.t() @ G, s * G @ A.t(), A, B, s)
    equivalent = s * (B @ gA + gB @ A)
    onto_B, onto_A = B @ torch.linalg.pinv(B), torch.linalg.pinv(A) @ A
    beside = (torch.eye(out) - onto_B).double() @ G @ (torch.eye(width) - onto_A).double()
    torch.testing.assert_close(equivalent, G - beside, atol=1e-6, rtol=1e-6)
    by_A = torch.einsum("ok,ij->oikj", B, torch.eye(width).double()).reshape(out * width, -1)
    by_B = torch.einsum("op,ki->oipk", torch.eye(out).double(), A).reshape(out * width, -1)
    design = s * torch.cat([by_A, by_B], dim=1)  # of vec(s (B gA + gB A)) in gA and gB
    best = torch.linalg.lstsq(design, G.flatten(), driver="gelsd").solution
    torch.testing.assert_close((G - equivalent).norm(), (G.flatten() - design @ best).norm(), atol=1e-6, rtol=1e-6)


def test_the_equivalent_gradient_does_not_depend_on_x():
    (A, B, G), s = draws(6, 8, 3, 0), 2.0
    gA, gB = closest_moves(s * B.t() @ G, s * G @ A.t(), A, B, s)
    X = torch.randn(3, 3, generator=torch.Generator().manual_seed(1)).double()
    torch.testing.assert_close(B @ (gA + X @ A) + (gB - B @ X) @ A, B @ gA + gB @ A)


def test_x_solves_the_sylvester_equation_and_keeps_the_moves_nearest_to_the_plain_gradients():
    (A, B, G), s = draws(6, 8, 3, 0), 0.7
    plain_A, plain_B = s * B.t() @ G, s * G @ A.t()
    inverse = torch.linalg.inv(B.t() @ B)
    constant = -inverse @ plain_A @ A.t() / s**2
    X = solve_sylvester(gram(B.t()), gram(A), constant)
    residual = B.t() @ B @ X + X @ A @ A.t() - constant
    assert residual.abs().max() < 1e-6
    gA, gB = closest_moves(plain_A, plain_B, A, B, s)
    torch.testing.assert_close(gA, inverse @ plain_A / s**2 + X @ A)

    def distance(change):
        return (gA + change @ A - plain_A).square().sum() + (gB - B @ change - plain_B).square().sum()

    change = torch.zeros(3, 3).double().requires_grad_()
    slope = torch.autograd.grad(distance(change), change)[0]
    torch.testing.assert_close(slope, torch.zeros(3, 3).double(), atol=1e-9, rtol=0)  # of a convex quadratic: the least


def test_at_b_0_the_first_step_is_b_s_alone(given):
    A, _, G = draws(4, 5, 2, 0)
    for moments in ("full", "factored"):
        problem = given(A.tolist(), [[0.0, 0.0]] * 4, G.tolist())
        problem.step(make_rule("lora-pro", moments=moments))
        assert torch.equal(problem.pair[0], A)
        assert problem.pair[1].abs().min() > 0


def test_alpha_has_no_effect_on_the_full_variant(given):
    A, B, G = draws(4, 5, 2, 3)
    products = []
    for alpha in (2.0, 8.0):
        problem = given(A.tolist(), (B / (alpha / 2)).tolist(), G.tolist(), alpha=alpha)
        problem.step(make_rule("lora-pro", damping=1e-9), steps=1, lr=1e-4)
        products.append((problem.product - B @ A) / 1e-4)
    torch.testing.assert_close(*products, atol=5e-3, rtol=0)
    assert products[0].abs().max() > 0.5


def test_no_matrix_of_out_by_out_is_formed():
    class Shapes(TorchDispatchMode):
        seen: ClassVar[set] = set()

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            for tensor in result if isinstance(result, (tuple, list)) else [result]:
                if isinstance(tensor, torch.Tensor):
                    self.seen.add(tuple(tensor.shape))
            return result

    A, B, G = draws(40, 7, 2, 0)
    with Shapes() as shapes:
        closest_moves(B.t() @ G, G @ A.t(), A, B, 1.0)
    assert max(torch.Size(shape).numel() for shape in shapes.seen) == 2 * 40


def test_moments_of_no_kind(tower):
    with pytest.raises(UsageError, match="did you mean 'full'"):
        lowrank.optimizer("lora-pro", lowrank.attach(tower(), rank=1), lr=0.1, moments="ful")
