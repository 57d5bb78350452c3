r"""DoRA: the update of a weight's direction by a LoRA, and of its magnitude by a vector.

    V = W + s B A    y = m / ||V||_row * (x V^T) + b    dW = m / ||V||_row * V - W

m [out] trained, starting at ||W||_row; A, B, s as in LoRA; ||V||_row is a constant for the gradient (the
paper's section 4.3). The norms come from the factors alone,

    ||V_o||^2 = ||W_o||^2 + 2 s (W A^T)_o . B_o + s^2 B_o (A A^T) B_o^T

so no dense V is formed in the forward pass; in evaluation they are kept until W or a factor changes.
Trained values: r (in + out) + out. Rank of dW: min(in, out),
since m moves every row on its own; min(r, in, out) at most until m moves.

Liu et al., DoRA: Weight-Decomposed Low-Rank Adaptation, 2024, arXiv:2402.09353.

*Deviations*: the paper speaks of columns; its W is [in, out], and code normalises the rows of [out, in], as
here. With dropout only the factors see the dropped input; PEFT drops the base's input too. A magnitude of
exactly 0 gets the gradient 0.
"""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from lorank.catalogue import catalogued
from lorank.lowrank.base import BaseLinear
from lorank.lowrank.forms.form import Factors, Site, form
from lorank.lowrank.forms.lora import LoRA
from lorank.lowrank.forms.remembered import Remembered
from lorank.lowrank.linalg import widen, working_dtype
from lorank.lowrank.product import low_rank_linear


@form("dora")
@catalogued("dora", area="adapters.form", title="DoRA: Weight-Decomposed Low-Rank Adaptation")
class DoRA(LoRA):
    """A LoRA of the direction and a trained magnitude a row.

    >>> site = Site("layer", BaseLinear(nn.Linear(3, 2)), rank=1, alpha=1.0, scaling=1.0)
    >>> DoRA(site).parameter_count()
    7
    """

    lr = 0.001
    needs_weight = True
    peft_options: ClassVar[dict[str, object]] = {"use_dora": True}

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.magnitude = nn.Parameter(_row_squares(site.base.weight.detach().to(site.dtype)).sqrt())
        self._squares: Remembered[Tensor] = Remembered()
        self._norm: Remembered[Tensor] = Remembered()

    @torch.no_grad()
    def norm(self, weight: Tensor, squares: Tensor | None = None) -> Tensor:
        """Return ||W + s B A||_row [out], a constant for the gradient; never 0. ``squares`` [out] are W's rows'."""
        A, B, s = self.factors()
        with torch.autocast(weight.device.type, enabled=False):
            W, A, B = widen(weight, A, B)
            cross = ((W @ A.t()) * B).sum(1)
            square = ((B @ (A @ A.t())) * B).sum(1)
        squares = _row_squares(W) if squares is None else squares
        return (squares + 2 * s * cross + s * s * square).clamp_min(1e-24).sqrt()

    def norm_on(self, base: BaseLinear) -> Tensor:
        """Return ``norm`` of the layer's weight: in training the squares of W are kept, in evaluation all of it."""
        frozen, factors = base.tensors(), [self.A, self.B, *(self.frozen or ())]

        def norm() -> Tensor:
            weight = base.weight
            return self.norm(weight, self._squares.of(frozen, lambda: _row_squares(*widen(weight))))

        return norm() if self.training else self._norm.of([*frozen, *factors], norm)

    def forward(self, x: Tensor, base: BaseLinear) -> Tensor:
        if not base.plain:
            output = base(x)
            return output + self.update(x, base, output).to(output.dtype)
        weight = base.weight
        return low_rank_linear(
            x,
            weight,
            base.bias,
            self.A,
            self.B,
            self.scaling,
            dropped=self.drop_inputs(x),
            frozen=self.frozen,
            magnitude=self.magnitude,
            norm=self.norm_on(base),
        )

    def update(self, x: Tensor, base: BaseLinear, output: Tensor) -> Tensor:
        gain = self.magnitude / self.norm_on(base)
        plain = output if base.bias is None else output - base.bias
        return (gain - 1) * plain + gain * super().update(x, base, output)

    def write_out(self, base: BaseLinear) -> Tensor:
        gain = (self.magnitude / self.norm_on(base)).unsqueeze(1)
        return (gain - 1) * base.weight.to(gain.dtype) + gain * super().write_out(base)

    def look_up(self, tokens: Tensor, base: BaseLinear) -> Tensor:
        gain = self.magnitude / self.norm_on(base)
        rows = nn.functional.embedding(tokens, base.weight.t()).to(gain.dtype)
        return (gain - 1) * rows + gain * super().look_up(tokens, base)

    def delta(self, weight: Tensor) -> Tensor:
        gain = (self.magnitude.detach().to(working_dtype(weight)) / self.norm(weight)).unsqueeze(1)
        return (gain - 1) * weight.to(gain.dtype) + gain * super().delta(weight)

    def parameter_count(self) -> int:
        return super().parameter_count() + self.out_features

    def rank_bound(self) -> int:
        return min(self.in_features, self.out_features)

    def as_lora(self) -> Factors | None:
        return None

    def peft_tensors(self) -> dict[str, Tensor]:
        own = super().peft_tensors()
        if not self.rank:  # PEFT has no rank 0: one component that is 0
            A, B = self.A.new_zeros(1, self.in_features), self.B.new_zeros(self.out_features, 1)
            own = {"lora_A.weight": A, "lora_B.weight": B}
        return {**own, "lora_magnitude_vector": self.magnitude.detach()}

    @torch.no_grad()
    def load_peft_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        if self.rank:
            super().load_peft_tensors(tensors)
        self.magnitude.copy_(tensors["lora_magnitude_vector"].reshape(-1))


def _row_squares(weight: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(weight, dim=1)
    return norms.square()
