r"""Every form whose update is s B A with thin A [k, in] and B [out, k] made of what it trains.

A form says how its trained and frozen tensors make the pair; the product, the merge and the conversion to a
plain LoRA are the same for all. Frozen factors get no gradient: where only B depends on what is trained, the
backward pass forms neither dA nor keeps the layer's input.
"""

from abc import abstractmethod

import torch
from torch import Tensor, nn

from lorank.lowrank.base import BaseLinear
from lorank.lowrank.forms.form import Factors, Form
from lorank.lowrank.linalg import widen
from lorank.lowrank.product import low_rank_linear


class Factored(Form):
    """dW = s B A; subclasses give the pair."""

    @abstractmethod
    def pair(self) -> tuple[Tensor, Tensor]:
        """Return A [k, in] and B [out, k] with their gradients."""

    def forward(self, x: Tensor, base: BaseLinear) -> Tensor:
        if not base.plain:
            return super().forward(x, base)
        A, B = self.pair()
        return low_rank_linear(x, base.weight, base.bias, A, B, self.scaling, dropped=self.drop_inputs(x))

    def update(self, x: Tensor, base: BaseLinear, output: Tensor) -> Tensor:
        z = self.prepare_input(x)
        A, B = (factor.to(z.dtype) for factor in self.pair())
        return self.scaling * ((z @ A.t()) @ B.t())

    def write_out(self, base: BaseLinear) -> Tensor:
        A, B = self.pair()
        return self.scaling * (B @ A)

    def look_up(self, tokens: Tensor, base: BaseLinear) -> Tensor:
        A, B = self.pair()
        return self.scaling * (nn.functional.embedding(tokens, A.t()) @ B.t())

    @torch.no_grad()
    def delta(self, weight: Tensor) -> Tensor:
        A, B = widen(*self.pair())
        return self.scaling * (B @ A)

    @torch.no_grad()
    def as_lora(self) -> Factors | None:
        A, B = self.pair()
        return Factors(A.detach(), B.detach(), self.scaling)
