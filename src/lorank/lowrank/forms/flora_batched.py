r"""FLoRA: the weight is scaled element by element by a low-rank matrix, so that a batch can mix updates.

    dW = s W o (B A)    x dW^T = s sum_j B_j o ((A_j o x) W^T)    A [r, in] and B [out, r] trained, s = alpha / r

o is the element-wise product, A_j a row of A, B_j a column of B. Each rank costs one product with W, and W stays as
it is: with A and B of each example's own, examples of a batch use different updates and no weight is copied
(``flora_product``). Where one pair is for all, and x has more rows than W, W + dW is written as a matrix (`dense`) and
a training step costs three products instead of 2 (r + 1). Zero start: A is 1 plus LoRA's draw, B = 0. Trained values:
r (in + out). Rank of dW: min(in, out) for a generic W (0 for rank 0).

The additive way to mix is y_i += s (x_i A_i^T) B_i^T by batched products (``additive_product``). With l tokens an
example, c1 the time of a multiplication in a large product and c2 in a batched one of width r, the products cost
c1 r d^2 l against c1 d^2 l + 2 c2 d r l, so FLoRA is faster up to the rank 1 / (1 - 2 c2 / (c1 d)), see
``crossover_rank``.

Wen and Chaudhuri, Batched Low-Rank Adaptation of Foundation Models, 2023, arXiv:2312.05677.

*Deviations*: the paper's W_i = W0 o (B_i A_i) replaces the weight and starts at B_i A_i = 1; here W stays and dW
starts at 0, as for every form, and one more product, that of W itself, is paid. Its symbols are swapped (its B
meets the input); ours are LoRA's.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lorank.catalogue import catalogued
from lorank.errors import UsageError
from lorank.lowrank.base import BaseLinear
from lorank.lowrank.forms.basis import draw_uniform
from lorank.lowrank.forms.dense import Dense
from lorank.lowrank.forms.form import Form, Site, form


@form("flora-batched")
@catalogued("flora-batched", area="adapters.serve", title="Batched Low-Rank Adaptation of Foundation Models")
class FLoRA(Dense):
    """An element-wise low-rank scaling of a weight.

    >>> from lorank import lowrank
    >>> lowrank.attach(nn.Sequential(nn.Linear(3, 2)), "flora-batched", rank=1).num_parameters()
    5
    """

    lr = 0.005
    needs_weight = True

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        A = 1 + draw_uniform((site.rank, self.in_features), site.generator("A"))
        self.A = nn.Parameter(A.to(site.device, site.dtype))
        self.B = nn.Parameter(torch.zeros(self.out_features, site.rank, device=site.device, dtype=site.dtype))

    def forward(self, x: Tensor, base: BaseLinear) -> Tensor:
        many = x.numel() >= self.in_features * min(self.in_features, self.out_features)
        return super().forward(x, base) if many else Form.forward(self, x, base)

    def update(self, x: Tensor, base: BaseLinear, output: Tensor) -> Tensor:
        z = self.prepare_input(x)
        return flora_product(z, base.weight, self.A.to(z.dtype), (self.scaling * self.B).to(z.dtype))

    def matrix(self, weight: Tensor | None) -> Tensor:
        assert weight is not None
        return self.scaling * weight.to(self.A.dtype) * (self.B @ self.A)

    def parameter_count(self) -> int:
        return self.rank * (self.in_features + self.out_features)

    def rank_bound(self) -> int:
        return min(self.in_features, self.out_features) if self.rank else 0


def flora_product(x: Tensor, weight: Tensor, A: Tensor, B: Tensor) -> Tensor:
    """Return sum_j B_j o ((A_j o x) W^T), one pair for all of ``x``, or one an example.

    Args:
        x: [..., in]; where examples have their own pairs, [examples, tokens, in].
        weight: W [out, in], read as it is and never copied.
        A: [r, in], or [examples, r, in].
        B: [out, r], or [examples, out, r].

    Returns:
        [..., out].

    >>> x, W = torch.tensor([[1.0, 2.0]]), torch.eye(2)
    >>> flora_product(x, W, torch.tensor([[1.0, 10.0]]), torch.tensor([[1.0], [2.0]]))
    tensor([[ 1., 40.]])
    """
    W = weight.t().to(x.dtype)
    if A.dim() == 3:
        A, B = A.unsqueeze(1), B.unsqueeze(1)
    y = x.new_zeros(*x.shape[:-1], weight.shape[0])
    for j in range(A.shape[-2]):
        y = y + B[..., j] * ((A[..., j, :] * x) @ W)
    return y


def additive_product(x: Tensor, A: Tensor, B: Tensor) -> Tensor:
    """Return x_i A_i^T B_i^T [examples, tokens, out] of each example's own LoRA, by batched products.

    Args:
        x: [examples, tokens, in].
        A: [examples, r, in].
        B: [examples, out, r].
    """
    return torch.bmm(torch.bmm(x, A.transpose(1, 2)), B.transpose(1, 2))


def crossover_rank(width: int, cost_ratio: float) -> float:
    """Return the rank up to which FLoRA's products are faster than LoRA's batched ones: 1 / (1 - 2 c2 / (c1 d)).

    Args:
        width: d, of a square layer.
        cost_ratio: c2 / c1, how much dearer a multiplication is in a batched thin product than in a large one.

    >>> crossover_rank(1024, 256.0), crossover_rank(1024, 600.0)
    (2.0, inf)
    """
    if width < 1 or cost_ratio <= 0:
        raise UsageError(f"width {width} and cost ratio {cost_ratio} must be above 0")
    saved = 1 - 2 * cost_ratio / width
    return 1 / saved if saved > 0 else float("inf")


def crossover_table(widths: Sequence[int], cost_ratios: Sequence[float]) -> dict[tuple[int, float], float]:
    """Return ``crossover_rank`` of every width and cost ratio."""
    return {(width, ratio): crossover_rank(width, ratio) for width in widths for ratio in cost_ratios}
