"""Every form whose update has no thin factors: dW is written as a matrix, added to W, and multiplied once.

One product of the base's own size with W + dW costs less time than products with dW's parts where those are
together larger than W, and the memory of one [out, in] matrix does not grow with the batch.
"""

from abc import abstractmethod

import torch
from torch import Tensor

from lorank.lowrank.base import BaseLinear
from lorank.lowrank.forms.form import Form
from lorank.lowrank.product import compute_dtype


class Dense(Form):
    """dW as one differentiable matrix; subclasses write it."""

    @abstractmethod
    def matrix(self, weight: Tensor | None) -> Tensor:
        """Return dW [out, in] with its gradients; W is given where ``needs_weight`` is set."""

    def forward(self, x: Tensor, base: BaseLinear) -> Tensor:
        fits = base.plain and base.weight.dtype == compute_dtype(x) == next(self.parameters()).dtype
        if not fits or (self.training and self.dropout):
            return super().forward(x, base)
        weight = base.weight + self.matrix(base.weight if self.needs_weight else None)
        return torch.nn.functional.linear(x, weight, base.bias)

    def update(self, x: Tensor, base: BaseLinear, output: Tensor) -> Tensor:
        z = self.entering(x)
        return z @ self.matrix(base.weight if self.needs_weight else None).t().to(z.dtype)

    @torch.no_grad()
    def delta(self, weight: Tensor) -> Tensor:
        return self.matrix(weight)
