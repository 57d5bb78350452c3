r"""Tied-LoRA: one pair of factors for all layers of a shape, and two diagonals a layer.

    dW_l = s diag(v_l) B diag(u_l) A,    A [r, in] and B [out, r] shared, u_l [r] and v_l [out] a layer's own

Any of A, B, u, v are trained, the rest stay as drawn. Zero start: A as LoRA's, u = 1; B = 0 and v = 1 where B
is trained, else B random and v = 0 (A and B frozen: VeRA with d = 1). Frozen ones are drawn again from the
seed and not saved. Trained values: r (in + out) once for all layers, and r + out a layer, of those trained.
Rank of dW: min(r, in, out).

Renduchintala, Konuk and Kuchaiev, Tied-LoRA: Enhancing parameter efficiency of LoRA with Weight Tying, 2023,
arXiv:2311.09578.

*Deviations*: the paper ties the stacked query, key and value weights; here layers of the same shape and rank
are tied.
"""

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn

from lorank.catalogue import catalogued
from lorank.errors import UsageError
from lorank.lowrank.forms.basis import draw_uniform
from lorank.lowrank.forms.factored import Factored
from lorank.lowrank.forms.form import Site, form, seeded_generator


class TiedPair(nn.Module):
    """The factors of all layers of one shape: parameters where trained, unsaved constants where not."""

    def __init__(self, site: Site, trained: str) -> None:
        super().__init__()
        self.trained = trained
        n, m, r = site.base.in_features, site.base.out_features, site.rank
        A = draw_uniform((r, n), seeded_generator(site.seed, "tied A", n, m, r))
        B = (
            torch.zeros(m, r)
            if "B" in trained
            else draw_uniform((m, r), seeded_generator(site.seed, "tied B", n, m, r))
        )
        for name, value in (("A", A), ("B", B)):
            keep(self, name, value.to(site.device, site.dtype), name in trained)


def keep(module: nn.Module, name: str, value: Tensor, trained: bool) -> None:
    """Put ``value`` on ``module``, trained or as a constant that is not saved.

    Args:
        module: The module that receives the tensor.
        name: The attribute's name.
        value: The tensor, of any shape.
        trained: True makes it a parameter, False a buffer.
    """
    if trained:
        module.register_parameter(name, nn.Parameter(value))
    else:
        module.register_buffer(name, value, persistent=False)


@form("tied-lora")
@catalogued(
    "tied-lora",
    area="adapters.form",
    title="Tied-Lora: Enhacing parameter efficiency of LoRA with weight tying",
)
class TiedLoRA(Factored):
    """A shared pair of factors between a layer's own diagonals.

    Args:
        site: where.
        shared: the pairs by shape; the first form of a shape counts its pair.
        trained: those of the letters A, B, u, v that are trained; B or v must be.

    >>> from lorank import lowrank
    >>> model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    >>> lowrank.attach(model, "tied-lora", rank=1).num_parameters()
    18
    """

    lr = 0.001

    def __init__(self, site: Site, shared: dict[tuple[int, int, int], TiedPair], trained: str = "ABuv") -> None:
        super().__init__(site)
        if set(trained) - set("ABuv") or not set(trained) & set("Bv"):
            raise UsageError(f"trained {trained!r}: write some of the letters A, B, u, v, among them B or v")
        key = (self.in_features, self.out_features, site.rank)
        self.owns = key not in shared
        self.tied = shared.setdefault(key, TiedPair(site, trained) if self.owns else shared.get(key))
        v = torch.full((self.out_features,), 1.0 if "B" in trained else 0.0)
        for name, value in (("u", torch.ones(site.rank)), ("v", v)):
            keep(self, name, value.to(site.device, site.dtype), name in trained)

    @classmethod
    def build(cls, sites: Sequence[Site], trained: str = "ABuv") -> list[Self]:
        shared: dict[tuple[int, int, int], TiedPair] = {}
        return [cls(site, shared, trained) for site in sites]

    def pair(self) -> tuple[Tensor, Tensor]:
        return self.tied.A, self.v.unsqueeze(1) * self.tied.B * self.u

    def parameter_count(self) -> int:
        shared = {"A": self.rank * self.in_features, "B": self.rank * self.out_features} if self.owns else {}
        counts = {"u": self.rank, "v": self.out_features} | shared
        return sum(count for name, count in counts.items() if name in self.tied.trained)

    def rank_bound(self) -> int:
        return min(self.rank, self.in_features, self.out_features)
