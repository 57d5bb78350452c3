r"""A linear layer whose weight lies on a grid of floating-point numbers, with the product of two factors added.

    y = x (s g)^T + B (A x) + b,     g on the grid, one scale s = s_row 2^-k per group of weights of a row

    FP4 (E2M1)   0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives
    FP8 (E4M3)   up to 448; the inputs x of a row are rounded to it with one scale of their own where asked for

Let s* = max|w| / 6 be a group's exact scale. M1 rounds it up to a power of two, s = 2^ceil(log2 s*) (s_row = 1). M2
takes s_row = max s* of the row as it is and s = s_row 2^-floor(log2(s_row / s*)), so that the scales of a row differ by
powers of two, that is by shifts. Nothing is cut off.

Wu et al., ZeroQuant-FP: A Leap Forward in LLMs Post-Training W4A8 Quantization Using Floating-Point Formats, 2023,
arXiv:2307.09782.

*Deviations*: M2 rounds the exponent down, where the paper's formula rounds it up, which would cut the largest weights
off. The codes of FP4 are stored two a byte, exponents in int8; the products run in float32, so
that such a layer is smaller, not faster, on a CPU.
"""

from typing import NamedTuple, Self

import torch
from torch import Tensor, nn

from lorank.errors import UsageError, unknown_name


class Grid(NamedTuple):
    """The non-negative ``levels`` of a grid, rising from 0, and the ``bits`` of a number."""

    levels: tuple[float, ...]
    bits: int

    @property
    def values(self) -> Tensor:
        """The levels as a tensor."""
        return torch.tensor(self.levels)


def _fp8_levels() -> tuple[float, ...]:
    codes = torch.arange(127, dtype=torch.uint8).view(torch.float8_e4m3fn).float()
    return tuple(codes.tolist())


GRIDS = {"fp4": Grid((0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0), 4), "fp8": Grid(_fp8_levels(), 8)}
"""Every grid of weights by name."""


def nearest_levels(x: Tensor, grid: str) -> Tensor:
    """Return the code of the level nearest to |x|, int64 of the shape of ``x``; the largest beyond the grid."""
    levels = GRIDS[grid].values.to(x.device, x.dtype)
    return torch.bucketize(x.abs(), (levels[1:] + levels[:-1]) / 2)


def round_to_grid(x: Tensor, grid: str) -> Tensor:
    """Return ``x`` with each value at its nearest level.

    >>> round_to_grid(torch.tensor([0.2, -2.6, 9.0]), "fp4").tolist()
    [0.0, -3.0, 6.0]
    """
    if grid not in GRIDS:
        raise unknown_name("grid", grid, GRIDS)
    levels: Tensor = GRIDS[grid].values.to(x.device, x.dtype)
    return levels[nearest_levels(x, grid)] * x.sign()


class Scales(NamedTuple):
    """``row`` [out] and the ``exponents`` int8 [out, groups]: the scale of a group is row 2^exponent."""

    row: Tensor
    exponents: Tensor


def choose_scales(weight: Tensor, grid: str, group: int, method: str = "m2") -> Scales:
    """Return the scales of a weight as M1 or M2 choose them.

    Args:
        weight: W [out, in].
        grid: ``fp4`` or ``fp8``.
        group: The number of neighbouring weights of a row that share a scale, 1 or more.
        method: ``m1`` or ``m2``.

    >>> choose_scales(torch.tensor([[18.0, 3.0, 0.7, 0.1]]), "fp4", 2)
    Scales(row=tensor([3.]), exponents=tensor([[ 0, -4]], dtype=torch.int8))
    """
    if method not in ("m1", "m2"):
        raise unknown_name("rule of scales", method, ["m1", "m2"])
    exact = _grouped(weight, group).abs().amax(-1) / GRIDS[grid].levels[-1]
    exact = exact.clamp_min(2.0**-100)
    if method == "m1":
        return Scales(torch.ones(len(exact)), torch.ceil(torch.log2(exact)).clamp(-100, 100).to(torch.int8))
    row = exact.amax(-1)
    return Scales(row, -torch.floor(torch.log2(row[:, None] / exact)).clamp(0, 100).to(torch.int8))


def _grouped(weight: Tensor, group: int) -> Tensor:
    padded: Tensor = nn.functional.pad(weight, (0, -weight.shape[1] % group))
    return padded.reshape(len(weight), -1, group)


class GridLinear(nn.Module):
    """A linear layer on a grid with a low-rank part beside it.

    Args:
        in_features: The width of the input.
        out_features: The width of the output.
        rank: The rank of the part that is added, from 0 up; 0 adds none.
        bias: Whether the layer has a bias.
        grid: ``fp4`` or ``fp8``.
        group: The number of weights of a row that share a scale.
        round_inputs: Whether the inputs are rounded to FP8, row by row.
    """

    codes: Tensor
    row: Tensor
    exponents: Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        rank: int,
        bias: bool = True,
        grid: str = "fp4",
        group: int = 256,
        round_inputs: bool = False,
    ) -> None:
        super().__init__()
        if grid not in GRIDS:
            raise unknown_name("grid", grid, GRIDS)
        if group < 1 or not 0 <= rank <= min(in_features, out_features):
            raise UsageError(
                f"rank {rank} of a layer [{out_features}, {in_features}] in groups of {group}: write a rank from 0 to "
                f"{min(in_features, out_features)} and a group from 1 up"
            )
        self.in_features, self.out_features, self.rank = in_features, out_features, rank
        self.grid, self.group, self.round_inputs = grid, group, round_inputs
        per_byte = 8 // GRIDS[grid].bits
        columns = -(-in_features // per_byte)
        self.register_buffer("codes", torch.zeros(out_features, columns, dtype=torch.uint8))
        self.register_buffer("row", torch.ones(out_features))
        self.register_buffer("exponents", torch.zeros(out_features, -(-in_features // group), dtype=torch.int8))
        self.first = nn.Linear(in_features, rank, bias=False) if rank else None
        self.second = nn.Linear(rank, out_features, bias=False) if rank else None
        self.bias = nn.Parameter(torch.zeros(out_features)) if bias else None

    @classmethod
    def of(
        cls, weight: Tensor, bias: Tensor | None, grid: str, group: int, method: str = "m2", round_inputs: bool = False
    ) -> Self:
        """Return ``weight`` [out, in] on a grid, without a low-rank part; see ``choose_scales`` for ``method``."""
        layer = cls(weight.shape[1], weight.shape[0], 0, bias is not None, grid, group, round_inputs)
        layer.row, layer.exponents = choose_scales(weight.float(), grid, group, method)
        scaled = weight.float() / layer.scales()
        codes = nearest_levels(scaled, grid).to(torch.uint8) | ((scaled < 0).to(torch.uint8) << GRIDS[grid].bits - 1)
        if GRIDS[grid].bits == 4:
            codes = nn.functional.pad(codes, (0, codes.shape[1] % 2))
            codes = codes[:, 0::2] << 4 | codes[:, 1::2]
        layer.codes = codes
        if bias is not None:
            layer.bias = nn.Parameter(bias.detach().float().clone())
        return layer

    def with_factors(self, first: Tensor, second: Tensor, bias: Tensor | None) -> "GridLinear":
        """Return a layer with the same grid weight, the factors [r, in] and [out, r], and ``bias`` [out]."""
        rank = first.shape[0]
        settings = self.grid, self.group, self.round_inputs
        made = GridLinear(self.in_features, self.out_features, rank, bias is not None, *settings)
        made.codes, made.row, made.exponents = self.codes, self.row, self.exponents
        if made.first is not None and made.second is not None:
            made.first.weight, made.second.weight = nn.Parameter(first), nn.Parameter(second)
        made.bias = None if bias is None else nn.Parameter(bias.detach().clone())
        return made

    def scales(self) -> Tensor:
        """Return the scale of each weight [out, in]."""
        groups = self.row[:, None] * torch.exp2(self.exponents.float())
        return groups.repeat_interleave(self.group, 1)[:, : self.in_features]

    def grid_weight(self) -> Tensor:
        """Return s g [out, in], float32."""
        bits = GRIDS[self.grid].bits
        codes = self.codes
        if bits == 4:
            codes = torch.stack([codes >> 4, codes & 15], -1).flatten(1)[:, : self.in_features]
        half = 1 << bits - 1
        levels = GRIDS[self.grid].values.to(codes.device)[(codes & (half - 1)).long()]
        signed = torch.where(codes >= half, -levels, levels)
        return signed * self.scales()

    @property
    def weight(self) -> Tensor:
        """s g + B A [out, in], computed on every access."""
        if self.first is None or self.second is None:
            return self.grid_weight()
        return self.grid_weight() + self.second.weight @ self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        """Return y [..., out] for ``x`` [..., in]."""
        if self.round_inputs:
            x = round_rows(x)
        y = nn.functional.linear(
            x, self.grid_weight().to(x.dtype), None if self.bias is None else self.bias.to(x.dtype)
        )
        return y if self.first is None or self.second is None else y + self.second(self.first(x))

    def extra_repr(self) -> str:
        """Return the shape, the grid and the rank."""
        return f"in_features={self.in_features}, out_features={self.out_features}, {self.grid}, rank={self.rank}"


def round_rows(x: Tensor) -> Tensor:
    """Return ``x`` [..., in] with each row rounded to FP8 (E4M3), scaled to its largest value.

    >>> round_rows(torch.tensor([[448.0, 1.0, 0.3]])).tolist()
    [[448.0, 1.0, 0.3125]]
    """
    scale = (x.detach().abs().amax(-1, keepdim=True) / 448.0).clamp_min(torch.finfo(torch.float32).tiny)
    return (x / scale).to(torch.float8_e4m3fn).to(x.dtype) * scale
