r"""A linear layer whose weight is a product: y = B (A x) + b, with A [r, in] and B [out, r].

It holds r (in + out) weights and takes as many products per row, where a dense layer has in out. It is smaller and
faster below the break-even rank r < in out / (in + out).
"""

from typing import Self

import torch
from torch import Tensor, nn

from lorank.errors import UsageError


def break_even(out_features: int, in_features: int) -> int:
    """Return the highest rank at which a product of two factors has fewer weights than the matrix [out, in].

    >>> break_even(384, 384), break_even(1536, 384), break_even(1, 8)
    (191, 307, 0)
    """
    return (out_features * in_features - 1) // (out_features + in_features)


class FactoredLinear(nn.Module):
    """y = ``second`` (``first`` (x)): two linear layers, of which the second has the bias.

    Args:
        in_features: The width of the input.
        out_features: The width of the output.
        rank: The width between the two, from 1 to min(in, out).
        bias: Whether the second layer has a bias.

    Raises:
        UsageError: For a rank out of its range.

    >>> layer = FactoredLinear(6, 4, rank=2); layer(torch.zeros(3, 6)).shape, layer.weight.shape
    (torch.Size([3, 4]), torch.Size([4, 6]))
    >>> sum(parameter.numel() for parameter in layer.parameters()) == 2 * (6 + 4) + 4
    True
    """

    def __init__(self, in_features: int, out_features: int, rank: int, bias: bool = True) -> None:
        super().__init__()
        if not 1 <= rank <= min(in_features, out_features):
            raise UsageError(
                f"rank {rank} of a layer [{out_features}, {in_features}] is out of its range; write an integer from 1 "
                f"to {min(in_features, out_features)}"
            )
        self.in_features, self.out_features, self.rank = in_features, out_features, rank
        self.first = nn.Linear(in_features, rank, bias=False)
        self.second = nn.Linear(rank, out_features, bias=bias)

    @classmethod
    def of(cls, first: Tensor, second: Tensor, bias: Tensor | None) -> Self:
        """Return the layer with ``first`` [r, in], ``second`` [out, r] and ``bias`` [out] as its weights."""
        with torch.device("meta"):
            layer = cls(first.shape[1], second.shape[0], first.shape[0], bias is not None)
        layer.first.weight = nn.Parameter(first.contiguous())
        layer.second.weight = nn.Parameter(second.contiguous())
        if bias is not None:
            layer.second.bias = nn.Parameter(bias.contiguous())
        return layer

    def forward(self, x: Tensor) -> Tensor:
        """Return y [..., out] for ``x`` [..., in]."""
        return self.second(self.first(x))  # type: ignore[no-any-return]

    @property
    def weight(self) -> Tensor:
        """The product B A [out, in], computed on every access."""
        return self.second.weight @ self.first.weight

    @property
    def bias(self) -> Tensor | None:
        """The bias [out], or None."""
        return self.second.bias

    def extra_repr(self) -> str:
        """Return the shape and the rank."""
        return f"in_features={self.in_features}, out_features={self.out_features}, rank={self.rank}"
