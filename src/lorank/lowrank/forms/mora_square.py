r"""MoRA: one square matrix between a fixed compression of the input and a fixed expansion of the output.

    dW x = s D M C x,    M [k, k] trained,    k = floor(sqrt((in + out) r))

C sums the input over blocks of k (the last one padded by 0), and D repeats k values along the output. In the
``rotation`` kind the g-th block is first turned by the angles g theta_h of rotary embeddings, theta_h =
10000^(-2h/k), in planes (h, h + floor(k/2)), so that blocks stay distinct; in the ``sharing`` kind it is not.
C and D are written out once for all layers of a shape, which makes the update a LoRA with thin factors C, frozen,
and D M. Zero start: M = 0. Trained values: k^2, at most LoRA's r (in + out). Rank of dW: min(k, in, out).

Jiang et al., MoRA: High-Rank Updating for Parameter-Efficient Fine-Tuning, 2024, arXiv:2405.12130.

*Deviations*: the published rotation gives each block of inputs its own block of outputs; here all turned
blocks are summed, and the outputs' blocks are turned back. s is 1 unless alpha is given; the paper has none.
"""

from collections.abc import Callable, Sequence
from math import isqrt
from typing import Self

import torch
from torch import Tensor, nn

from lorank.catalogue import catalogued
from lorank.errors import unknown_name
from lorank.lowrank.forms.basis import Basis, Shared
from lorank.lowrank.forms.factored import Factored
from lorank.lowrank.forms.form import Site, form

KINDS = ("rotation", "sharing")


@form("mora-square")
@catalogued(
    "mora-square",
    area="adapters.form",
    title="MoRA: High-Rank Updating for Parameter-Efficient Fine-Tuning",
)
class MoRA(Factored):
    """A square matrix on a compressed input.

    Args:
        site: where.
        shared: the compressions and expansions that this adapter's layers share.
        kind: ``rotation`` or ``sharing``.

    >>> from lorank import lowrank
    >>> form = lowrank.attach(nn.Sequential(nn.Linear(10, 8)), "mora-square", rank=2).forms["0"]
    >>> form.side, form.rank_bound()
    (6, 6)
    """

    def __init__(self, site: Site, shared: Shared, kind: str = "rotation") -> None:
        super().__init__(site)
        if kind not in KINDS:
            raise unknown_name("kind of MoRA", kind, KINDS)
        self.turned = kind == "rotation"
        self.side = isqrt((self.in_features + self.out_features) * site.rank)
        self.M = nn.Parameter(torch.zeros(self.side, self.side, device=site.device, dtype=site.dtype))
        self.C = self._constant(shared, self._compress, "C", self.in_features, site)
        self.D = self._constant(shared, self._expand, "D", self.side, site, self.out_features)

    def _constant(
        self, shared: Shared, function: Callable[[Tensor], Tensor], name: str, size: int, site: Site, *more: int
    ) -> Basis:
        """Return ``function`` as a matrix, applied by x M^T, made once for all layers of a shape."""
        key = (name, size, self.side, *more, site.dtype, site.device)
        if key not in shared:
            eye = torch.eye(size, device=site.device, dtype=site.dtype)
            shared[key] = Basis(function(eye).t().contiguous())
        basis = shared[key]
        assert isinstance(basis, Basis)
        return basis

    @classmethod
    def build(cls, sites: Sequence[Site], kind: str = "rotation") -> list[Self]:
        shared: Shared = {}
        return [cls(site, shared, kind) for site in sites]

    def pair(self) -> tuple[Tensor, Tensor]:
        return self.C.value, self.D.value @ self.M  # as C is frozen, C x is kept for the backward pass, not x

    def _compress(self, x: Tensor) -> Tensor:
        if not self.side:
            return x[..., :0]
        blocks = -(-self.in_features // self.side)
        padded = nn.functional.pad(x, (0, blocks * self.side - self.in_features))
        return self._turn(padded.reshape(*x.shape[:-1], blocks, self.side), 1.0).sum(-2)

    def _expand(self, y: Tensor) -> Tensor:
        if not self.side:
            return y.new_zeros(*y.shape[:-1], self.out_features)
        blocks = -(-self.out_features // self.side)
        repeated = self._turn(y.unsqueeze(-2).expand(*y.shape[:-1], blocks, self.side), -1.0)
        return repeated.reshape(*y.shape[:-1], blocks * self.side)[..., : self.out_features]

    def _turn(self, blocks: Tensor, sign: float) -> Tensor:
        """Turn block g of [..., blocks, k] by g theta; an odd last value stays."""
        half = self.side // 2
        if not self.turned or blocks.shape[-2] == 1 or not half:
            return blocks
        theta = 10000.0 ** (-2 * torch.arange(half, device=blocks.device, dtype=torch.float64) / self.side)
        angle = sign * torch.arange(blocks.shape[-2], device=blocks.device).unsqueeze(1) * theta
        cos, sin = angle.cos().to(blocks.dtype), angle.sin().to(blocks.dtype)
        a, b, rest = blocks.split([half, half, self.side - 2 * half], dim=-1)
        return torch.cat([a * cos - b * sin, a * sin + b * cos, rest], dim=-1)

    def parameter_count(self) -> int:
        return self.side**2

    def rank_bound(self) -> int:
        return min(self.side, self.in_features, self.out_features)
