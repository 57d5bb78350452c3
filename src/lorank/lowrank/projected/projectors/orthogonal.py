r"""Subspaces that keep off what former tasks used: P is found for (I - H H^T) G, H [short, h] of the tasks before.

    at each refresh   B <- FD([B, G]),  singular values s' = sqrt(s^2 - s_{r+1}^2)      (Frequent Directions)
    at a task's end   H <- orth([H, U_k]),  U_k the leading directions of B that hold ``energy`` of its square

Every update lies in the span of P and is thus orthogonal to H: outputs of inputs or gradients in the span of H stay. An
empty H is GaLore.

Cheng, Wan, Wu, Hou, Zhang, Continuous Subspace Optimization for Continual Learning (CoSO), 2025, arXiv:2505.11816.

*Deviations*: H is made orthonormal anew whenever it grows (the published one drifts), and the direction that crosses
``energy`` counts.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lorank.errors import UsageError
from lorank.lowrank.linalg import top_k_svd
from lorank.lowrank.projected.projectors.projector import PROJECTORS, State
from lorank.lowrank.projected.projectors.svd import ExactSVD
from lorank.lowrank.projected.registry import entry

TASK = ("sketch", "left", "right", "factors")
"""What the state keeps of one task: the sketch, and the factors of a companion, which lie in the weight."""


@entry(PROJECTORS, "orthogonal")
class OrthogonalSVD(ExactSVD):
    """P orthogonal to the directions of former tasks.

    Kept: ``2 * short * rank`` values, and H.
    """

    def observe(self, state: State, gradient: Tensor, rank: int) -> Tensor:
        """Add the gradient to the sketch of this task, and return it without the directions of former tasks."""
        own = without_history(state, gradient)
        seen = own if "sketch" not in state else torch.cat([state["sketch"].to(own.dtype), own], 1)
        U, s, _ = top_k_svd(seen, rank + 1)
        least = s[rank] if len(s) > rank else s.new_zeros(())
        state["sketch"] = U[:, :rank] * (s[:rank].square() - least.square()).clamp_min(0).sqrt()
        return own

    def find(self, gradient: Tensor, rank: int, generator: torch.Generator) -> dict[str, Tensor]:
        U, s, _ = top_k_svd(gradient, rank)
        return {"basis": U * (s > 1e-5 * s[:1]).to(U.dtype)}

    def task(self, state: Mapping[str, Tensor]) -> Tensor | None:
        """Return what is known of this task's directions [short, any], the leading ones being kept; None of none."""
        return state.get("sketch")

    def basis(self, state: Mapping[str, Tensor], gradient: Tensor) -> Tensor:
        return without_history(state, super().basis(state, gradient))


def without_history(state: Mapping[str, Tensor], matrix: Tensor) -> Tensor:
    """Return (I - H H^T) M, taken twice so that rounding leaves nothing along H."""
    if "history" not in state:
        return matrix
    history = state["history"].to(matrix.dtype)
    for _ in range(2):
        matrix = matrix - history @ (history.t() @ matrix)
    return matrix


@torch.no_grad()
def end_task(optimizer: torch.optim.Optimizer, energy: float = 0.95) -> None:
    """Keep the leading directions of the task that ends; what follows is orthogonal to them.

    Args:
        optimizer: A projected optimizer with the projector ``orthogonal`` or ``momentum``.
        energy: The share, in (0, 1], of the square of what is known of the task that the directions hold.

    Raises:
        UsageError: Where the optimizer has another projector, or ``energy`` is out of its range.
    """
    projector = getattr(optimizer, "projector", None)
    found: list[tuple[dict[str, Any], Tensor]] = []
    if isinstance(projector, OrthogonalSVD):
        known = ((state, projector.task(state)) for state in optimizer.state.values())
        found = [(state, task) for state, task in known if task is not None]
    if not found or not 0 < energy <= 1:
        raise UsageError(
            "end_task keeps directions of an optimizer with projector 'orthogonal' or 'momentum' that made a step "
            f"(energy {energy}, in (0, 1]); make one with lowrank.optimizer('galore', ..., projector='orthogonal')"
        )
    for state, task in found:
        _keep(state, without_history(state, task), energy)


def _keep(state: dict[str, Any], task: Tensor, energy: float) -> None:
    """Let the leading directions of ``task`` [short, any] join H, that which crosses ``energy`` among them."""
    U, s, _ = top_k_svd(task, state["basis"].shape[1])
    share = s.square().cumsum(0) / s.square().sum().clamp_min(torch.finfo(s.dtype).tiny)
    chosen = U[:, : int((share < energy - 1e-6).sum()) + 1]
    joined = chosen if "history" not in state else torch.cat([state["history"].to(chosen.dtype), chosen], 1)
    state["history"] = torch.linalg.qr(joined).Q[:, : len(joined) - 1].contiguous()
    for key in [key for key in state if key.startswith(TASK)]:
        del state[key]
    state["wait"] = torch.tensor(0)
