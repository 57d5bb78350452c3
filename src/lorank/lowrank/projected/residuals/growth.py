r"""The norm-growth limiter of Fira and APOLLO: ||S_t|| is at most ``limit`` times ||S_{t-1}||.

The first step is not limited, nor is one after a step of norm 0.
"""

import torch
from torch import Tensor

from lorank.lowrank.projected.projectors.projector import State


def limit_growth(state: State, update: Tensor, limit: float) -> Tensor:
    """Return ``update``, shortened to ``limit`` times the norm that it had before; that norm is kept in ``state``.

    >>> state = {}
    >>> [round(float(limit_growth(state, torch.tensor([x]), 1.5)), 2) for x in (1.0, 9.0, 2.0)]
    [1.0, 1.5, 2.0]
    """
    norm = update.norm()
    if "rest_norm" in state:
        before = state["rest_norm"][0].to(norm)
        most = torch.where(before > 0, limit * before, norm)
        kept = torch.minimum(norm, most)
        update = update * (kept / norm.clamp_min(torch.finfo(norm.dtype).tiny))
        norm = kept
    state["rest_norm"] = norm.reshape(1)
    return update


def growth_factors(direction: Tensor, reduced: Tensor, per: str) -> Tensor:
    """Return by how much the inner rule scaled each column of R, or all of it: ||N_:,j|| / (||R_:,j|| + 1e-8)."""
    along = None if per == "matrix" else 0
    stepped, given = torch.linalg.vector_norm(direction, dim=along), torch.linalg.vector_norm(reduced, dim=along)
    factors: Tensor = stepped / (given + 1e-8)
    return factors
