r"""EDoRA: a magnitude a row, and a direction moved by a small matrix in W's principal subspaces.

    V = W + s B R A    y = m / ||V||_row * (x V^T) + b    A = V_r^T [r, in],  B = U_r diag(sigma_r) [out, r]

A and B are W's top singular triplets, frozen and not saved; R [r, r] and m [out] are trained, starting at 0 and
||W||_row. Since W A^T = B, the norms come without W: ||V_o||^2 = ||W_o||^2 + 2 s B_o . (B R)_o + s^2 ||(B R)_o||^2;
they are constants for the gradient. Trained values: r^2 + out, r at most min(in, out). Rank of dW: min(in, out).

Nasiri and Garraghan, EDoRA: Efficient Weight-Decomposed Low-Rank Adaptation via Singular Value Decomposition,
2025, arXiv:2501.12067.

*Deviations*: the published code draws R from a narrow normal distribution; here R = 0. The paper's columns are
the rows of W [out, in], as in DoRA.
"""

import torch
from torch import Tensor, nn

from lorank.catalogue import catalogued
from lorank.lowrank.base import BaseLinear
from lorank.lowrank.forms.form import Form, Site, form
from lorank.lowrank.forms.remembered import Remembered
from lorank.lowrank.forms.spectral import principal_triplets
from lorank.lowrank.linalg import widen
from lorank.lowrank.product import low_rank_linear


@form("edora")
@catalogued(
    "edora",
    area="adapters.form",
    title="EDoRA: Efficient Weight-Decomposed Low-Rank Adaptation via Singular Value Decomposition",
)
class EDoRA(Form):
    """A trained magnitude a row on a LoRA-XS.

    >>> from lorank import lowrank
    >>> lowrank.attach(nn.Sequential(nn.Linear(3, 4)), "edora", rank=2).num_parameters()
    8
    """

    lr = 0.001
    usual_rank = 64

    derived = ("A", "B", "row_squares")

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        U, sigma, Vh = principal_triplets(site, site.rank)
        self.register_buffer("A", Vh, persistent=False)
        self.register_buffer("B", U * sigma, persistent=False)
        squares = site.base.weight.detach().to(site.dtype).square().sum(1)
        self.register_buffer("row_squares", squares, persistent=False)
        k = len(sigma)
        self.R = nn.Parameter(torch.zeros(k, k, device=site.device, dtype=site.dtype))
        self.magnitude = nn.Parameter(squares.sqrt())
        self._norm: Remembered[Tensor] = Remembered()

    @torch.no_grad()
    def norm(self) -> Tensor:
        """Return ||V||_row [out], a constant for the gradient and never 0; in evaluation until a factor changes."""

        def norm() -> Tensor:
            with torch.autocast(self.B.device.type, enabled=False):
                B, R, squares = widen(self.B, self.R, self.row_squares)
                moved = self.scaling * (B @ R)
            return (squares + (2 * B * moved + moved * moved).sum(1)).clamp_min(1e-24).sqrt()

        return norm() if self.training else self._norm.of([self.B, self.R, self.row_squares], norm)

    def forward(self, x: Tensor, base: BaseLinear) -> Tensor:
        if not base.plain:
            return super().forward(x, base)
        return low_rank_linear(
            x,
            base.weight,
            base.bias,
            self.A,
            self.B @ self.R,
            self.scaling,
            dropped=self.drop_inputs(x),
            magnitude=self.magnitude,
            norm=self.norm(),
        )

    def update(self, x: Tensor, base: BaseLinear, output: Tensor) -> Tensor:
        z = self.prepare_input(x)
        gain = (self.magnitude / self.norm()).to(z.dtype)
        plain = output if base.bias is None else output - base.bias
        moved = (z @ self.A.t().to(z.dtype)) @ (self.B @ self.R).t().to(z.dtype)
        return (gain - 1) * plain + gain * self.scaling * moved

    def write_out(self, base: BaseLinear) -> Tensor:
        gain = (self.magnitude / self.norm()).unsqueeze(1)
        moved = self.scaling * ((self.B @ self.R) @ self.A)
        return (gain - 1) * base.weight.to(gain.dtype) + gain * moved

    @torch.no_grad()
    def delta(self, weight: Tensor) -> Tensor:
        A, B, R, magnitude = widen(self.A, self.B, self.R, self.magnitude)
        gain = (magnitude / self.norm()).unsqueeze(1)
        return (gain - 1) * weight.to(gain.dtype) + gain * self.scaling * (B @ R @ A)

    def parameter_count(self) -> int:
        return len(self.R) ** 2 + self.out_features

    def rank_bound(self) -> int:
        return min(self.in_features, self.out_features)
