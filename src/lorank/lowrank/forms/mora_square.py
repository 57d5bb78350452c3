r"""MoRA: one square matrix between fixed compressions of the input and fixed expansions of the output.

    y_j = s M sum_{g = j mod n} R_g x_g,    M [k, k] trained,    k = floor(sqrt((in + out) r))

x_0, x_1, ... are the blocks of k of the input, y_0, y_1, ... are the blocks of dW x; the last block of either side is
cut, x_g padded by 0. In the ``rotation`` kind R_g turns a block by the angles g theta_h of rotary embeddings, theta_h
= 10000^(-2h/k), in planes (h, h + floor(k/2)), so that blocks stay distinct, and each block of inputs keeps an output
block of its own: n is the number of blocks of the shorter side. In the ``sharing`` kind R = 1 and n = 1: blocks are
summed and the output is repeated. The ``summed`` kind turns with n = 1, and turns the output's blocks back by R_j^T.

With n = 1 the update is a LoRA with thin factors, a frozen compression C and D M, both written out once for all layers
of a shape; else dW is put together from blocks M R_g, k^2 products of numbers each. Zero start: M = 0. Trained values:
k^2, at most LoRA's r (in + out). Rank of dW: min(k, in, out) for n = 1, up to min(in, out) in the rotation kind.

Jiang et al., MoRA: High-Rank Updating for Parameter-Efficient Fine-Tuning, 2024, arXiv:2405.12130.

*Deviations*: where in > out, the published rotation leaves out inputs beyond the first out; here their blocks are added
to those that have an output. It pads the last block by the first inputs, here it is 0. s is 1 unless alpha is given;
the paper has none.
"""

from collections.abc import Callable, Mapping, Sequence
from math import isqrt
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from lorank.catalogue import catalogued
from lorank.errors import unknown_name
from lorank.lowrank.base import BaseLinear
from lorank.lowrank.forms.basis import Basis, Shared
from lorank.lowrank.forms.dense import Dense
from lorank.lowrank.forms.form import Factors, Form, Site, form
from lorank.lowrank.product import low_rank_linear

KINDS = ("rotation", "sharing", "summed")


@form("mora-square")
@catalogued(
    "mora-square",
    area="adapters.form",
    title="MoRA: High-Rank Updating for Parameter-Efficient Fine-Tuning",
)
class MoRA(Dense):
    """A square matrix on blocks of the input.

    Args:
        site: where.
        shared: the compressions and expansions that this adapter's layers share.
        kind: ``rotation``, ``sharing`` or ``summed``.

    >>> from lorank import lowrank
    >>> form = lowrank.attach(nn.Sequential(nn.Linear(10, 8)), "mora-square", rank=2).forms["0"]
    >>> form.side, form.rank_bound()
    (6, 8)
    """

    lr = 0.0005
    earlier_options: ClassVar[Mapping[str, object]] = {"kind": "summed"}

    def __init__(self, site: Site, shared: Shared, kind: str = "rotation") -> None:
        super().__init__(site)
        if kind not in KINDS:
            raise unknown_name("kind of MoRA", kind, KINDS)
        self.side = k = isqrt((self.in_features + self.out_features) * site.rank)
        self.blocks = -(-self.out_features // k) if k else 0, -(-self.in_features // k) if k else 0
        self.classes = min(self.blocks) if kind == "rotation" else 1
        self.turned, self.turned_back = kind != "sharing", kind == "summed"
        self.M = nn.Parameter(torch.zeros(k, k, device=site.device, dtype=site.dtype))
        self.thin = self.classes == 1 and k > 0
        if self.thin:
            self.C = self._constant(shared, self._compress, "C", self.in_features, site)
            self.D = self._constant(shared, self._expand, "D", k, site, self.out_features)

    def _constant(
        self, shared: Shared, function: Callable[[Tensor], Tensor], name: str, size: int, site: Site, *more: int
    ) -> Basis:
        """Return ``function`` as a matrix, applied by x M^T, made once for all layers of a shape."""
        key = (name, size, self.side, *more, site.dtype, site.device)
        if key not in shared:
            eye = torch.eye(size, device=site.device, dtype=site.dtype)
            shared[key] = Basis(function(eye).flatten(-1).t().contiguous())
        basis = shared[key]
        assert isinstance(basis, Basis)
        return basis

    @classmethod
    def build(cls, sites: Sequence[Site], kind: str = "rotation") -> list[Self]:  # type: ignore[override]
        shared: Shared = {}
        return [cls(site, shared, kind) for site in sites]

    def forward(self, x: Tensor, base: BaseLinear) -> Tensor:
        if self.thin and base.plain:
            A, B = self.C.value, self.D.value @ self.M  # as C is frozen, C x is kept for the backward pass, not x
            return low_rank_linear(x, base.weight, base.bias, A, B, self.scaling, dropped=self.drop_inputs(x))
        many = x.numel() >= self.in_features * min(self.in_features, self.out_features)
        return super().forward(x, base) if many else Form.forward(self, x, base)

    def update(self, x: Tensor, base: BaseLinear, output: Tensor) -> Tensor:
        z = self.prepare_input(x)
        if not self.side:
            return z @ self.matrix(None).t().to(z.dtype)
        return self.scaling * self._expand(self._compress(z) @ self.M.t().to(z.dtype))

    def _compress(self, x: Tensor) -> Tensor:
        """Return the sum of each class's turned blocks: [..., k], or [..., n, k] where there are several."""
        ins, n, k = self.blocks[1], self.classes, self.side
        padded = nn.functional.pad(x, (0, ins * k - self.in_features))
        turned = self._turn(padded.reshape(*x.shape[:-1], ins, k), 1.0)
        turned = nn.functional.pad(turned, (0, 0, 0, -ins % n))
        sums = turned.reshape(*x.shape[:-1], -(-ins // n), n, k).sum(-3)
        return sums if n > 1 else sums.squeeze(-2)

    def _expand(self, y: Tensor) -> Tensor:
        """Return the output [..., out] whose blocks repeat the classes of ``y`` [..., k] or [..., n, k]."""
        outs, n, k = self.blocks[0], self.classes, self.side
        y = y if n > 1 else y.unsqueeze(-2)
        repeated = y[..., torch.arange(outs, device=y.device) % n, :]
        repeated = self._turn(repeated, -1.0) if self.turned_back else repeated
        return repeated.reshape(*repeated.shape[:-2], outs * k)[..., : self.out_features]

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

    def matrix(self, weight: Tensor | None) -> Tensor:
        if not self.side:
            return self.M.new_zeros(self.out_features, self.in_features)
        if self.thin:
            return self.scaling * (self.D.value @ self.M @ self.C.value)
        (outs, ins), k = self.blocks, self.side
        turned = self._turn(self.M.unsqueeze(1).expand(k, ins, k), -1.0)  # [:, g] is M R_g
        steps = torch.arange(outs, device=self.M.device).unsqueeze(1) - torch.arange(ins, device=self.M.device)
        meets = (steps % self.classes == 0).to(self.M.dtype).view(outs, 1, ins, 1)
        dense = (meets * turned).reshape(outs * k, ins * k)[: self.out_features, : self.in_features]
        return self.scaling * dense

    @torch.no_grad()
    def as_lora(self) -> Factors | None:
        return Factors(self.C.value, self.D.value @ self.M, self.scaling) if self.thin else None

    def parameter_count(self) -> int:
        return self.side**2

    def rank_bound(self) -> int:
        """The sum over classes of the smaller side of what is not cut or padded away; see ``matrix``."""
        k, sides = self.side, ((self.blocks[0], self.out_features), (self.blocks[1], self.in_features))
        if not k:
            return 0
        classes = range(self.classes)
        return sum(min(k, *(_most(c, self.classes, k, count, size) for count, size in sides)) for c in classes)


def _most(first: int, step: int, k: int, blocks: int, size: int) -> int:
    """Return how many of k places the blocks ``first``, ``first + step``, ... of a side fill between them."""
    return max((min(k, size - block * k) for block in range(first, blocks, step)), default=0)
