r"""BoRA: the update of a weight's direction by a LoRA, and of its magnitude by a vector a side.

    V = W + s B A    V1 = V diag(c),  c = m_in / ||V||_column    W + dW = diag(g) V1,  g = m_out / ||V1||_row

m_in [in] and m_out [out] trained, starting at the norms of W's columns and rows; A, B, s as in LoRA; both norms are
constants for the gradient, as in DoRA, and in evaluation kept while nothing they are made of changes. y = g * ((c *
x) V^T) + b, so W itself is needed; matrices of its size are made in either pass and none is kept. Trained values: (r
+ 1) (in + out). Rank of dW: min(in, out). With m_out held at ||V1||_row it is DoRA over columns.

Wang et al., BoRA: Bi-dimensional Weight-Decomposed Low-Rank Adaptation, 2024, arXiv:2412.06441.

*Deviations*: with dropout only the factors see the dropped input. A magnitude of exactly 0 gets the gradient 0.
"""

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from lorank.catalogue import catalogued
from lorank.lowrank.base import BaseLinear
from lorank.lowrank.forms.basis import draw_uniform
from lorank.lowrank.forms.form import Form, Site, form
from lorank.lowrank.forms.remembered import Remembered
from lorank.lowrank.linalg import widen
from lorank.lowrank.product import compute_dtype

TINY = 1e-24


@form("bora")
@catalogued("bora", area="adapters.form", title="BoRA: Bi-dimensional Weight-Decomposed Low-Rank Adaptation")
class BoRA(Form):
    """A LoRA of the direction, and a trained magnitude a column and a row.

    >>> from lorank import lowrank
    >>> lowrank.attach(nn.Sequential(nn.Linear(3, 2)), "bora", rank=1).num_parameters()
    10
    """

    lr = 0.001
    needs_weight = True

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.A = nn.Parameter(
            draw_uniform((site.rank, self.in_features), site.generator("A")).to(site.device, site.dtype)
        )
        self.B = nn.Parameter(torch.zeros(self.out_features, site.rank, device=site.device, dtype=site.dtype))
        squares = site.base.weight.detach().to(site.dtype).square()
        self.magnitude_in = nn.Parameter(squares.sum(0).sqrt())
        self.magnitude_out = nn.Parameter(squares.sum(1).sqrt())
        self._squares: Remembered[Tensor] = Remembered()
        self._norms: Remembered[tuple[Tensor, Tensor]] = Remembered()

    @torch.no_grad()
    def norms(self, weight: Tensor, squares: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return ||V||_column [in] and ||V diag(c)||_row [out], constants for the gradient and never 0.

        ``squares`` [in] are those of W's columns.
        """
        s = self.scaling
        with torch.autocast(weight.device.type, enabled=False):
            W, A, B, magnitude = widen(weight, self.A, self.B, self.magnitude_in)
            cross = ((W.t() @ B) * A.t()).sum(1)
            square = ((A.t() @ (B.t() @ B)) * A.t()).sum(1)
            squares = _column_squares(W) if squares is None else squares
            columns = (squares + 2 * s * cross + s * s * square).clamp_min(TINY).sqrt()
            c = magnitude / columns
            scaled, narrow = W * c, A * c
            cross = ((scaled @ narrow.t()) * B).sum(1)
            square = ((B @ (narrow @ narrow.t())) * B).sum(1)
            rows = scaled.square().sum(1) + 2 * s * cross + s * s * square
        return columns, rows.clamp_min(TINY).sqrt()

    def norms_on(self, base: BaseLinear) -> tuple[Tensor, Tensor]:
        """Return ``norms`` of the layer's weight: in training the squares of W are kept, in evaluation all of it."""
        frozen = base.tensors()

        def norms() -> tuple[Tensor, Tensor]:
            weight = base.weight
            return self.norms(weight, self._squares.of(frozen, lambda: _column_squares(*widen(weight))))

        return norms() if self.training else self._norms.of([*frozen, self.A, self.B, self.magnitude_in], norms)

    def forward(self, x: Tensor, base: BaseLinear) -> Tensor:
        columns, rows = self.norms_on(base)
        fits = base.plain and base.weight.dtype == compute_dtype(x) == self.A.dtype
        if fits and not (self.training and self.dropout):
            magnitudes, norms = (self.magnitude_in, self.magnitude_out), (columns.to(x.dtype), rows.to(x.dtype))
            return _TwoSided.apply(x, base.weight, base.bias, self.A, self.B, *magnitudes, *norms, self.scaling)
        y = self._product(x.to(compute_dtype(x)), base.weight, columns, rows)
        return y if base.bias is None else y + base.bias.to(y.dtype)

    def update(self, x: Tensor, base: BaseLinear, output: Tensor) -> Tensor:
        plain = output if base.bias is None else output - base.bias
        return self._product(x.to(compute_dtype(x)), base.weight, *self.norms_on(base)) - plain

    def _product(self, x: Tensor, weight: Tensor, columns: Tensor, rows: Tensor) -> Tensor:
        c, g = (self.magnitude_in / columns).to(x.dtype), (self.magnitude_out / rows).to(x.dtype)
        z = self.prepare_input(x)
        inner = (z * c) @ self.A.t().to(x.dtype)
        return g * ((x * c) @ weight.t().to(x.dtype) + self.scaling * (inner @ self.B.t().to(x.dtype)))

    def write_out(self, base: BaseLinear) -> Tensor:
        columns, rows = self.norms_on(base)
        c, g = self.magnitude_in / columns, (self.magnitude_out / rows).unsqueeze(1)
        W = base.weight.to(c.dtype)
        return g * ((W + self.scaling * (self.B @ self.A)) * c) - W

    @torch.no_grad()
    def delta(self, weight: Tensor) -> Tensor:
        columns, rows = self.norms(weight)
        W, A, B, m_in, m_out = widen(weight, self.A, self.B, self.magnitude_in, self.magnitude_out)
        c, g = m_in / columns, (m_out / rows).unsqueeze(1)
        return g * ((W + self.scaling * (B @ A)) * c) - W

    def parameter_count(self) -> int:
        return (self.rank + 1) * (self.in_features + self.out_features)

    def rank_bound(self) -> int:
        return min(self.in_features, self.out_features)


class _TwoSided(torch.autograd.Function):
    """y = x (diag(g) (W + s B A) diag(c))^T + b, g = m_out / rows, c = m_in / columns, W written anew in each pass.

    Kept are x and y, which other layers hold as well. Since y - b is linear in m_out and dx in m_in,

        dm_out = sum dy (y - b) / m_out    dm_in = sum x dx / m_in    (0 where the magnitude is exactly 0)
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        A: Tensor,
        B: Tensor,
        m_in: Tensor,
        m_out: Tensor,
        columns: Tensor,
        rows: Tensor,
        scaling: float,
    ) -> Tensor:
        y = nn.functional.linear(x, _whole(weight, A, B, m_in / columns, m_out / rows, scaling), bias)
        ctx.save_for_backward(x, y, weight, bias, A, B, m_in, m_out, columns, rows)
        ctx.scaling = scaling
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, y, weight, bias, A, B, m_in, m_out, columns, rows = ctx.saved_tensors
        s, c, g = ctx.scaling, m_in / columns, m_out / rows
        dx = dy @ _whole(weight, A, B, c, g, s)
        x_rows, y_rows, d = (t.reshape(-1, t.shape[-1]) for t in (x, y, dy))
        m_in_gradient = _quotient((x_rows * dx.reshape(x_rows.shape)).sum(0), m_in)
        products = (d * y_rows).sum(0)
        m_out_gradient = _quotient(products if bias is None else products - bias * d.sum(0), m_out)
        dA = ((s * g.unsqueeze(1) * B).t().contiguous() @ d.t()) @ x_rows * c
        dB = s * g.unsqueeze(1) * (((A * c) @ x_rows.t()) @ d).t()
        return dx, None, None, dA, dB, m_in_gradient, m_out_gradient, None, None, None


def _column_squares(weight: Tensor) -> Tensor:
    return weight.square().sum(0)


def _whole(weight: Tensor, A: Tensor, B: Tensor, c: Tensor, g: Tensor, scaling: float) -> Tensor:
    return torch.addmm(weight, B, A, alpha=scaling).mul_(c).mul_(g.unsqueeze(1))


def _quotient(products: Tensor, magnitude: Tensor) -> Tensor:
    return torch.where(magnitude == 0, 0.0, products / magnitude)
