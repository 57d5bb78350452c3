r"""LOST: the leading singular part of a weight as factors, and the columns where the rest is largest as they are.

    y = B (A x) + W_S x_S,     B A = U_r diag(s_r) V_r^T of the weight that is replaced,
                               S the c columns in which W - B A has the largest norm, W_S [out, c] = (W - B A)[:, S]

S is chosen once. With ``gamma`` the two parts are traded off: y = gamma B A x + (1 - gamma) W_S x_S.

Li et al., LOST: Low-rank and Sparse Pre-training for Large Language Models, 2025.

*Deviations*: no public code was seen; that columns are chosen by the norm of the residual is reconstructed. ``gamma``
None, the default, adds both parts whole, so that a layer starts nearest to the weight that it replaces.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lorank.catalogue import catalogued
from lorank.errors import UsageError
from lorank.lowrank.factored.core.layer import Pair, factored
from lorank.lowrank.linalg import working_dtype


@factored("lost")
@catalogued("lost", area="pretrain.lowrank", title="LOST: Low-rank and Sparse Pre-training for Large Language Models")
class LOST(Pair):
    """Low rank plus whole columns.

    Args:
        layer: The layer that is replaced.
        rank: The rank of B A.
        start: "svd": the replaced weight decides, be it trained or new.
        generator: Nothing is drawn.
        channels: The share of columns that are kept whole, above 0 and up to 1; at least one column is.
        gamma: The weight of B A, with 1 - gamma that of the columns; None adds both whole.

    >>> layer = LOST(nn.Linear(100, 50), 4, start="svd", generator=torch.Generator(), channels=0.1)
    >>> sum(part.numel() for part in (layer.A, layer.B, layer.columns)) == LOST.count(50, 100, 4, channels=0.1)
    True
    """

    starts = ("svd",)

    def __init__(
        self,
        layer: nn.Linear,
        rank: int,
        *,
        start: str,
        generator: torch.Generator,
        channels: float = 0.03,
        gamma: float | None = None,
    ) -> None:
        super().__init__(layer, rank, start=start, generator=generator)
        if not 0 < channels <= 1:
            raise UsageError(f"channels={channels:g}: the share of columns is above 0 and at most 1")
        if gamma is not None and not 0 <= gamma <= 1:
            raise UsageError(f"gamma={gamma:g}: the weight of the low-rank part is from 0 to 1")
        weight = layer.weight.detach()
        wide = working_dtype(weight)
        rest = weight.to(wide) - self.B.detach().to(wide) @ self.A.detach().to(wide)
        best = rest.norm(dim=0).topk(column_count(self.in_features, channels)).indices.sort().values
        self.low, self.sparse = (1.0, 1.0) if gamma is None else (gamma, 1 - gamma)
        self.channels: Tensor
        self.register_buffer("channels", best)
        self.columns = nn.Parameter(rest[:, best].to(weight).contiguous())

    def dense(self) -> Tensor:
        """Return B A with the kept columns added in their places."""
        return (self.low * (self.B @ self.A)).index_add(1, self.channels, self.sparse * self.columns)

    def forward(self, x: Tensor) -> Tensor:
        """Return B (A x) + W_S x_S + b."""
        thin = F.linear(F.linear(x, self.A), self.B)
        return self._with_bias(self.low * thin + self.sparse * F.linear(x[..., self.channels], self.columns))

    def _with_bias(self, y: Tensor) -> Tensor:
        return y if self.bias is None else y + self.bias.to(y.dtype)

    @classmethod
    def count(cls, out: int, width: int, rank: int, *, channels: float = 0.03, **options: Any) -> int:
        """Return r (out + in) + out c, with c the number of columns."""
        return rank * (out + width) + out * column_count(width, channels)

    @classmethod
    def flops(cls, out: int, width: int, rank: int, *, channels: float = 0.03, **options: Any) -> int:
        """Return 2 r (out + in) + 2 out c."""
        return 2 * cls.count(out, width, rank, channels=channels)


def column_count(width: int, channels: float) -> int:
    """Return how many of ``width`` columns are kept."""
    return max(1, round(channels * width))
