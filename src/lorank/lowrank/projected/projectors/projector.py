r"""The contract of every projector: G [short, long] becomes R = P^T G [rank, long], and R becomes P R.

A matrix is turned so that its shorter side comes first; P [short, rank] acts on that side. What a projector keeps
between steps are tensors in the parameter's state: P itself, the numbers of columns, or a seed alone.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

State = dict[str, Any]
"""The state of one parameter: tensors by name."""


class Projector(ABC):
    """A way to find P; the base multiplies with it."""

    def observe(self, state: State, gradient: Tensor, rank: int) -> Tensor:
        """Return the gradient that a new P is found for; a projector may keep something of it in ``state``."""
        return gradient

    @abstractmethod
    def find(self, gradient: Tensor, rank: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Return what is kept of a new P for the gradient [short, long]; draws come from ``generator``."""

    def basis(self, state: Mapping[str, Tensor], gradient: Tensor) -> Tensor:
        """Return P [short, rank] in the gradient's dtype."""
        return state["basis"].to(gradient.dtype)

    def down(self, state: Mapping[str, Tensor], gradient: Tensor) -> Tensor:
        """Return R = P^T G [rank, long]."""
        return self.basis(state, gradient).t() @ gradient

    def up(self, state: Mapping[str, Tensor], reduced: Tensor, gradient: Tensor) -> Tensor:
        """Return P R [short, long], laid out in memory as the gradient: a turned one is the view of its transpose."""
        basis = self.basis(state, gradient)
        return basis @ reduced if gradient.is_contiguous() else (reduced.t() @ basis.t()).t()


PROJECTORS: dict[str, type[Projector]] = {}
"""Every projector under its name."""
