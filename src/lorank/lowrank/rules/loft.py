r"""LoFT: steps of s B A that are AdamW's steps on W, projected to what one factor can move.

Both gradients stand for a projected full gradient, D_B A = G P_A and B D_A = P_B G, with

    D_B = (dL/dB) (A A^T)^-1 / s [out, r],    D_A = (B^T B)^-1 (dL/dA) / s [r, in]

Moments are kept in these coordinates: M_B [out, r] with M_B A the first moment, and for every row o of W the
r x r matrix V_B[o] = mean of D_B[o] D_B[o]^T, so that the second moment is v[o, i] = A_i^T V_B[o] A_i. A step of B
is then AdamW's, re-expressed:

    B <- B - eta (m^ / (sqrt v^ + eps)) A^T (A A^T)^-1 / s,    m^, v^ [out, in] bias-corrected, gone after the step

and likewise for A with M_A [r, in], V_A[i]. Steps alternate, B first; the moments of both take in every gradient,
and those of B follow when A moves, by C = A_old A^T (A A^T)^-1: M_B <- M_B C, V_B[o] <- C^T V_B[o] C. With square
invertible factors W moves as under AdamW. The rank's scale s cancels: alpha has no effect.

Tastan, Laskaridis, Takac, Nandakumar, Horvath, LoFT: Low-Rank Adaptation That Behaves Like Full Fine-Tuning,
2025, arXiv:2505.21289.

*Deviations*: Gram matrices are damped relative to their diagonal (published: 1e-6 and 1e-8). Weight decay shrinks
the factor that steps, so the update, not W. Clipping is by the norm of the projected gradients of all pairs, and
leaves what is no factor alone.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lorank.catalogue import catalogued
from lorank.lowrank.adapter import Adapter
from lorank.lowrank.linalg import damped_inverse, gram
from lorank.lowrank.rules.factor_optimizer import FactorOptimizer, Group, decay
from lorank.lowrank.rules.rule import Groups, Pair, Rates, Rule, needed_pairs, rule


def pack(square: Tensor) -> Tensor:
    """Return the upper triangles [n, r (r + 1) / 2] of symmetric ``square`` [n, r, r]."""
    rank = square.shape[1]
    rows, columns = torch.triu_indices(rank, rank, device=square.device)
    return square.flatten(1).index_select(1, rank * rows + columns)


def unpack(packed: Tensor, rank: int) -> Tensor:
    """Return the symmetric [n, r, r] of ``packed``.

    >>> unpack(torch.tensor([[1.0, 2.0, 3.0]]), 2).tolist()
    [[[1.0, 2.0], [2.0, 3.0]]]
    """
    rows, columns = torch.triu_indices(rank, rank, device=packed.device)
    place = torch.empty(rank, rank, dtype=torch.int64, device=packed.device)
    place[rows, columns] = place[columns, rows] = torch.arange(len(rows), device=packed.device)
    return packed.index_select(1, place.flatten()).view(len(packed), rank, rank)


def products(factor: Tensor, weigh: bool = False) -> Tensor:
    """Return F_k F_l for k <= l of ``factor`` [n, r]: [n, r (r + 1) / 2]; off-diagonals twice where ``weigh``."""
    rows, columns = torch.triu_indices(factor.shape[1], factor.shape[1], device=factor.device)
    paired = factor.index_select(1, rows) * factor.index_select(1, columns)
    return paired * torch.where(rows == columns, 1, 2).to(factor.dtype) if weigh else paired


class LoFTOptimizer(FactorOptimizer):
    """Alternating steps with moments that follow the factors.

    Every method sees one side as if it were B: of A, its transpose.
    """

    def __init__(self, groups: Groups, pairs: Sequence[Pair], rates: Rates, damping: float, clip: float | None) -> None:
        super().__init__(groups, pairs, rates)
        self.damping, self.clip, self._shrink = damping, clip, 1.0
        self._inverses: dict[str, tuple[Tensor, Tensor]] = {}

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:  # type: ignore[override]
        """Make one step."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        ready = self.ready_pairs()
        self._inverses = {
            path: (damped_inverse(gram(A), self.damping).to(A), damped_inverse(gram(B.t()), self.damping).to(B))
            for path, A, B, _ in ready
        }
        if self.clip is not None:
            norm = math.sqrt(sum(self._project_square(pair) for pair in ready))
            self._shrink = min(1.0, self.clip / max(norm, 1e-12))
        super().step()
        return loss

    def step_pair(self, pair: Pair, group: Group) -> None:
        A, B = pair.A, pair.B
        grad_A, grad_B = pair.gradients()
        a, b = self.state[A], self.state[B]
        if not a:
            a["step"] = torch.zeros(())
            for state, side in ((a, A.t()), (b, B)):
                state["first"] = torch.zeros_like(side, memory_format=torch.contiguous_format)
                state["second"] = side.new_zeros(len(side), side.shape[1] * (side.shape[1] + 1) // 2)
        inverse_A, inverse_B = self._inverses[pair.path]
        remember(b, grad_B @ inverse_A * (self._shrink / pair.scaling), group)
        remember(a, grad_A.t() @ inverse_B * (self._shrink / pair.scaling), group)
        step = int(a["step"])
        a["step"] += 1
        moving, other, state, inverse = (B, A.t(), b, inverse_A) if step % 2 == 0 else (A.t(), B, a, inverse_B)
        full = full_direction(state, other, step + 1, group)
        old = moving.clone()
        decay(moving, group)
        moving.sub_((full @ other) @ inverse / pair.scaling, alpha=group["lr"])
        follow(a if step % 2 == 0 else b, old, moving, self.damping)

    def _project_square(self, pair: Pair) -> float:
        """Return the squared norm of the full gradient projected to what the factor that steps can move."""
        even = int(self.state[pair.A].get("step", torch.zeros(()))) % 2 == 0
        grad_A, grad_B = pair.gradients()
        gradient = grad_B if even else grad_A.t()
        return float(((gradient @ self._inverses[pair.path][not even]) * gradient).sum()) / pair.scaling**2


def remember(state: dict[str, Tensor], coordinates: Tensor, group: Group) -> None:
    """Let ``coordinates`` D [n, r] of a gradient enter the moments."""
    state["first"].lerp_(coordinates, 1 - group["betas"][0])
    state["second"].lerp_(products(coordinates), 1 - group["betas"][1])


def full_direction(state: dict[str, Tensor], other: Tensor, step: int, group: Group) -> Tensor:
    """Return AdamW's direction [n, m] of the moments whose other factor is ``other``.

    Args:
        state: The moments: ``first`` [n, r] and ``second`` [n, r (r + 1) / 2].
        other: The other factor [m, r].
        step: The number of gradients that entered the moments, 1 or more.
        group: The parameter group, of which ``betas`` and ``eps`` are read.
    """
    beta1, beta2 = group["betas"]
    second = state["second"] @ (products(other, weigh=True) / (1 - beta2**step)).t()
    first = (state["first"] / (1 - beta1**step)) @ other.t()
    direction: Tensor = first.div_(second.clamp_min_(0).sqrt_().add_(group["eps"]))
    return direction


def follow(state: dict[str, Tensor], old: Tensor, new: Tensor, damping: float) -> None:
    """Re-express moments, in place, whose other factor has moved.

    Args:
        state: The moments: ``first`` [n, r] and ``second`` [n, r (r + 1) / 2].
        old: The other factor [m, r] before its step.
        new: The other factor [m, r] after it.
        damping: The damping of the Gram matrix relative to its mean diagonal, 0 or more.
    """
    change = (old.t() @ new) @ damped_inverse(gram(new.t()), damping).to(new)
    state["first"].copy_(state["first"] @ change)
    square = unpack(state["second"], old.shape[1])
    state["second"].copy_(pack(change.t() @ square @ change))


@rule("loft")
@catalogued("loft", area="adapters.optim", title="LoFT: Low-Rank Adaptation That Behaves Like Full Fine-Tuning")
@dataclass
class LoFT(Rule):
    """AdamW on W, projected; ``clip`` bounds the norm of all pairs' projected gradients.

    State: ``(r + r * (r + 1) // 2) * (out + width)`` values a pair.
    """

    lr = 0.0001
    damping: float = 1e-6
    clip: float | None = 1.0

    clips = False

    def optimizer(self, groups: Groups, adapter: Adapter, rates: Rates) -> torch.optim.Optimizer:
        return LoFTOptimizer(groups, needed_pairs(adapter, "loft"), rates, self.damping, self.clip)
