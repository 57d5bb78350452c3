r"""The contract of inner rules: from a gradient R [rank, long] in the subspace, or any gradient, to a direction N.

The weight then moves by -lr N. Moments are kept in the parameter's dtype, those of float16 in float32, whose squares
would be 0; all is computed in float32 (float64 stays).
"""

from typing import Any

import torch
from torch import Tensor

from lorank.lowrank.projected.projectors.projector import State

Group = dict[str, Any]
"""A parameter group: ``lr``, ``betas``, ``eps``, ``weight_decay``, ``rank``."""


class Inner:
    """Gradient descent, N = R, and the base of all other rules."""

    moments: tuple[str, ...] = ()
    """The names of the moments of the subspace, the squares last."""

    def prepare(self, state: State, gradient: Tensor, group: Group) -> Tensor:
        """Return what is projected in the gradient's place; a matrix's state may hold a few values for each side."""
        return gradient

    def direction(self, state: State, reduced: Tensor, group: Group, dtype: torch.dtype) -> Tensor:
        """Return N of ``reduced``; ``dtype`` is that of moments that begin."""
        return reduced

    def reset(self, state: State) -> None:
        """Forget the moments and their age."""
        state["step"] = torch.zeros(())
        for key in [key for key in state if key.startswith(self.moments)] if self.moments else []:
            del state[key]

    def rotate(self, state: State, change: Tensor) -> None:
        """Move the moments into a basis of which ``change`` [rank, rank] is new^T old."""

    def read(self, state: State, name: str, like: Tensor, dtype: torch.dtype) -> Tensor:
        """Return a moment of the shape of ``like``, in its dtype; one that is not there, or of another shape, is 0."""
        if name not in state or state[name].shape != like.shape:
            state[name] = torch.zeros_like(like, dtype=dtype)
        stored: Tensor = state[name]
        return stored.to(like.dtype)

    def write(self, state: State, name: str, value: Tensor) -> None:
        """Keep a moment that ``read`` returned and that was changed in place."""
        if state[name] is not value:
            state[name].copy_(value)


INNERS: dict[str, type[Inner]] = {"sgd": Inner}
"""Every inner rule under its name."""


def storage_dtype(parameter: Tensor) -> torch.dtype:
    """Return the dtype in which moments and bases of ``parameter`` are kept.

    >>> [str(storage_dtype(torch.zeros(1, dtype=kind))) for kind in (torch.float16, torch.bfloat16)]
    ['torch.float32', 'torch.bfloat16']
    """
    return torch.float32 if parameter.dtype is torch.float16 else parameter.dtype
