r"""LoRA: dW = s B A.

    y = x W^T + b + s (drop(x) A^T) B^T,    A [r, in] trained, B [out, r] trained, s = alpha / r

Zero start: A uniform in +-1/sqrt(in) (He's rule with slope sqrt 5), B = 0; on an embedding A = 0 and B normal, as in
the paper's code and PEFT, so that tokens which are never seen keep their rows. A start that takes dW out of W
(PiSSA) leaves constant factors A0, B0 behind, and then dW = s (B A - B0 A0): W itself is never changed.
Trained values: r (in + out). Rank of dW: min(r, in, out), r more
for every r components in A0, B0.

Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, 2021, arXiv:2106.09685.

*Deviations*: the paper draws A from a normal distribution; its code and PEFT draw it uniformly, as here.
"""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from lorank.catalogue import catalogued
from lorank.errors import UsageError
from lorank.lowrank.base import BaseLinear
from lorank.lowrank.forms.form import Factors, Site, form
from lorank.lowrank.forms.peft_form import PeftForm
from lorank.lowrank.linalg import widen
from lorank.lowrank.matrix_view import MatrixView
from lorank.lowrank.product import compute_dtype, low_rank_linear


@form("lora")
@catalogued("lora", area="adapters.form", title="LoRA: Low-Rank Adaptation of Large Language Models")
class LoRA(PeftForm):
    """The update s B A of one weight.

    >>> site = Site("layer", BaseLinear(nn.Linear(3, 2)), rank=1, alpha=1.0, scaling=1.0)
    >>> lora = LoRA(site); lora.parameter_count(), lora.delta(site.base.weight).abs().max().item()
    (5, 0.0)
    """

    lr = 0.001
    trains_A: ClassVar[bool] = True
    row_cap: float | None = None
    """eta of the rule ``allora``, which the row-wise rates never exceed; None leaves every row its gradient."""

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        A, B = self._draw(site)
        self.A = nn.Parameter(A.to(site.device, site.dtype))
        self.B = nn.Parameter(B.to(site.device, site.dtype))
        self.register_buffer("A0", None)
        self.register_buffer("B0", None)

    def _draw(self, site: Site) -> tuple[Tensor, Tensor]:
        """Return A [r, in] and B [out, r] of the zero start: one of the two is 0."""
        A, B = torch.zeros(site.rank, self.in_features), torch.zeros(self.out_features, site.rank)
        if self.trains_A and isinstance(site.base, MatrixView) and site.base.embedding:
            return A, B.normal_(generator=site.generator("B"))
        bound = self.in_features**-0.5
        return A.uniform_(-bound, bound, generator=site.generator("A")), B

    @torch.no_grad()
    def set_factors(self, A: Tensor, B: Tensor) -> None:
        """Put ``A`` [k, in] and ``B`` [out, k] in the first k <= r components and zero the rest of B."""
        k = A.shape[0]
        if k > self.rank:
            raise UsageError(f"{k} components do not fit into rank {self.rank}")
        self.A[:k].copy_(A)
        self.B.zero_()
        self.B[:, :k].copy_(B)

    @torch.no_grad()
    def anchor(self) -> None:
        """Take the present s B A out of W: from now on dW = s (B A - B0 A0), which is 0."""
        self.A0, self.B0 = self.A.detach().clone(), self.B.detach().clone()

    @property
    def frozen(self) -> tuple[Tensor, Tensor] | None:
        """(A0, B0), or None where nothing was taken out of W."""
        return None if self.A0 is None or self.B0 is None else (self.A0, self.B0)

    @torch.no_grad()
    def row_rates(self) -> Tensor | None:
        """Return 1 / sqrt(||(BA)_i|| + 1 / eta^2) [out], by which the gradient of each row of B A is multiplied."""
        if self.row_cap is None:
            return None
        with torch.autocast(self.A.device.type, enabled=False):
            square = ((self.B @ (self.A @ self.A.t())) * self.B).sum(1).clamp_min(0)
        return (square.sqrt() + self.row_cap**-2).rsqrt()

    def forward(self, x: Tensor, base: BaseLinear) -> Tensor:
        if not base.plain:
            return super().forward(x, base)
        return low_rank_linear(
            x,
            base.weight,
            base.bias,
            self.A,
            self.B,
            self.scaling,
            dropped=self.drop_inputs(x),
            frozen=self.frozen,
            row_rates=self.row_rates(),
        )

    def update(self, x: Tensor, base: BaseLinear, output: Tensor) -> Tensor:
        dtype, dropped = compute_dtype(x), self.drop_inputs(x)
        x = x.to(dtype)
        z = x if dropped is None else dropped.to(dtype)
        y = self.scaling * ((z @ self.A.t().to(dtype)) @ self.B.t().to(dtype))
        rates = self.row_rates()
        if rates is not None:
            plain = self.scaling * ((z @ self.A.detach().t().to(dtype)) @ self.B.detach().t().to(dtype))
            slow = rates.to(dtype) * self.scaling
            slow = slow * ((z.detach() @ self.A.t().to(dtype)) @ self.B.t().to(dtype))
            y = plain + slow - slow.detach()
        if self.A0 is not None and self.B0 is not None:
            y = y - self.scaling * ((x @ self.A0.t().to(dtype)) @ self.B0.t().to(dtype))
        return y

    def write_out(self, base: BaseLinear) -> Tensor:
        delta = self.scaling * (self.B @ self.A)
        rates = self.row_rates()
        if rates is not None:
            delta = delta.detach() + rates.unsqueeze(1) * (delta - delta.detach())
        return delta if self.frozen is None else delta - self.scaling * (self.frozen[1] @ self.frozen[0])

    def look_up(self, tokens: Tensor, base: BaseLinear) -> Tensor:
        if self.row_cap is not None:
            return super().look_up(tokens, base)
        rows = nn.functional.embedding(tokens, self.A.t()) @ self.B.t()
        if self.frozen is not None:
            rows = rows - nn.functional.embedding(tokens, self.frozen[0].t()) @ self.frozen[1].t()
        return self.scaling * rows

    def delta(self, weight: Tensor) -> Tensor:
        A, B, scaling = self.factors()
        A, B = widen(A, B)
        return scaling * (B @ A)

    def parameter_count(self) -> int:
        return self.rank * (self.in_features + self.out_features)

    def rank_bound(self) -> int:
        rank = self.rank if self.A0 is None else self.rank + len(self.A0)
        return min(rank, self.in_features, self.out_features)

    def factors(self) -> Factors:
        """Return A, B, s with the frozen pair, where there is one, stacked under the trained one."""
        A, B = self.A.detach(), self.B.detach()
        if self.A0 is not None and self.B0 is not None:
            A, B = torch.cat([A, self.A0]), torch.cat([B, -self.B0], dim=1)
        return Factors(A, B, self.scaling)

    def as_lora(self) -> Factors | None:
        return self.factors()

    def peft_tensors(self) -> dict[str, Tensor]:
        A, B, _ = self.factors()
        return {"lora_A.weight": A, "lora_B.weight": B}

    @torch.no_grad()
    def load_peft_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        A, B = tensors["lora_A.weight"], tensors["lora_B.weight"]
        r = self.rank
        if A.shape[0] < r or A.shape[1:] != self.A.shape[1:] or B.shape != (self.out_features, A.shape[0]):
            raise ValueError(
                f"factors of shape {tuple(A.shape)} and {tuple(B.shape)} do not fit rank {r} of a "
                f"[{self.out_features}, {self.in_features}] weight"
            )
        self.A.copy_(A[:r])
        self.B.copy_(B[:, :r])
        if A.shape[0] > r:
            self.A0, self.B0 = A[r:].to(self.A).clone(), -B[:, r:].to(self.B)
