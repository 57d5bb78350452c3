r"""MoS: the rows of each layer's factors are put together from shards of a pool that all layers share.

    dW = s B A,    row i of A = the shards (i, 1), ..., (i, l) of A's pool, and so B's columns from B's pool

A pool holds e vectors cut into l shards each. A layer draws its r l shards of each pool from the seed, without
repetition (subset selection), for A and B apart (pair dissociation), shard by shard (vector sharding); p of its
r components can be its own (privatisation). The choices are frozen and not saved. Zero start: A's pool as
LoRA's A, B's pool 0. Trained values: e (in + out) once for all layers of a shape, p (in + out) a layer.
Rank of dW: min(r, in, out). p = r is LoRA.

Wang et al., MoS: Unleashing Parameter Efficiency of Low-Rank Adaptation with Mixture of Shards, 2024,
arXiv:2410.00938.

*Deviations*: a pool serves the layers of one shape and rank, as in the paper the layers of one kind.
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


class Pools(nn.Module):
    """The shards of A and B that the layers of one shape share: ``A`` [e l, in / l], ``B`` [e l', out / l']."""

    def __init__(self, site: Site, vectors: int, cuts: tuple[int, int]) -> None:
        super().__init__()
        n, m = site.base.in_features, site.base.out_features
        A = draw_uniform((vectors, n), seeded_generator(site.seed, "mos A", n, m, site.rank)).to(
            site.device, site.dtype
        )
        self.A = nn.Parameter(A.view(vectors * cuts[0], n // cuts[0]))
        shape = (vectors * cuts[1], m // cuts[1])
        self.B = nn.Parameter(torch.zeros(shape, device=site.device, dtype=site.dtype))


@form("mos-shards")
@catalogued(
    "mos-shards",
    area="adapters.form",
    title="MoS: Unleashing Parameter Efficiency of Low-Rank Adaptation with Mixture of Shards",
)
class MoS(Factored):
    """Factors mixed from shared shards.

    Args:
        site: where.
        shared: the pools by shape; the first form of a shape counts its pools.
        vectors: e, at least r - p; None takes r - p.
        shards: l, which must divide in and out; None takes for each side the largest of 4, 2, 1 that does.
        private: p, from 0 to r.

    >>> from lorank import lowrank
    >>> model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    >>> lowrank.attach(model, "mos-shards", rank=2).num_parameters()
    16
    """

    lr = 0.001

    def __init__(
        self,
        site: Site,
        shared: dict[tuple[int, int, int], Pools],
        vectors: int | None = None,
        shards: int | None = None,
        private: int = 0,
    ) -> None:
        super().__init__(site)
        sides = (self.in_features, self.out_features)
        self.private = min(private, site.rank)
        mixed = site.rank - self.private
        self.vectors = mixed if vectors is None else vectors
        if private < 0 or self.vectors < mixed:
            raise UsageError(f"{self.vectors} vectors and {private} private ones do not make rank {site.rank}")
        cuts = tuple(shards or next(cut for cut in (4, 2, 1) if side % cut == 0) for side in sides)
        if any(side % cut for side, cut in zip(sides, cuts, strict=True)):
            raise UsageError(f"{shards} shards do not divide in {sides[0]} and out {sides[1]} of {site.path}")
        key = (*sides, site.rank)
        self.owns = mixed > 0 and key not in shared
        if self.owns:
            shared[key] = Pools(site, self.vectors, cuts)
        self.pools = shared[key] if mixed else None
        for name, cut in zip("AB", cuts, strict=True):
            choice = torch.randperm(self.vectors * cut, generator=site.generator(f"shards {name}"))[: mixed * cut]
            self.register_buffer(f"choice_{name}", choice.to(site.device), persistent=False)
        if self.private:
            A = draw_uniform((self.private, self.in_features), site.generator("private A"))
            self.own_A = nn.Parameter(A.to(site.device, site.dtype))
            self.own_B = nn.Parameter(
                torch.zeros(self.out_features, self.private, device=site.device, dtype=site.dtype)
            )

    @classmethod
    def build(
        cls, sites: Sequence[Site], vectors: int | None = None, shards: int | None = None, private: int = 0
    ) -> list[Self]:
        """Return one form per site, in order; those of one shape and rank share their pools.

        Args:
            sites: The places of the updates.
            vectors: The number e of vectors in a pool, at least r - p; None takes r - p.
            shards: The number l of shards per vector, which divides in and out; None takes for each
                side the largest of 4, 2, 1 that does.
            private: The number p of components, from 0 to r, that are a layer's own.
        """
        shared: dict[tuple[int, int, int], Pools] = {}
        return [cls(site, shared, vectors, shards, private) for site in sites]

    def pair(self) -> tuple[Tensor, Tensor]:
        if self.pools is None:
            if not self.private:
                nothing = self.choice_A.new_zeros(0, self.in_features, dtype=torch.float32)
                return nothing, nothing.new_zeros(self.out_features, 0)
            return self.own_A, self.own_B
        mixed = self.rank - self.private
        A = self.pools.A[self.choice_A].view(mixed, self.in_features)
        B = self.pools.B[self.choice_B].view(mixed, self.out_features).t()
        if self.private:
            A, B = torch.cat([A, self.own_A]), torch.cat([B, self.own_B], dim=1)
        return A, B

    def parameter_count(self) -> int:
        return (self.private + self.vectors * self.owns) * (self.in_features + self.out_features)

    def rank_bound(self) -> int:
        return min(self.rank, self.in_features, self.out_features)
