r"""LIFT: the entries of W that are largest in its low-rank part are trained, the others stay.

    dW[mask] = v,    mask = the n largest |W_f|,    W_f the best approximation of W of rank f,  v [n] trained

n = min(r (in + out), in out): as many as a LoRA of rank r trains, or a share of all entries. The optimizer's
state has the size of the mask. In training the mask is chosen again from W + dW at equal intervals
(``advance``): places that stay keep their slot in v, and with it their state; what the others have learned is
put aside and stays in dW. The places are saved with the values. Zero start: v = 0. Trained values: n. Rank of
dW: what its places allow. dW is written as a matrix; the gradient of v is read off dy^T x.

Liu et al., LIFT the Veil for the Truth: Principal Weights Emerge after Rank Reduction for Reasoning-Focused
Supervised Fine-Tuning, 2025, arXiv:2506.00772.

*Deviations*: some published settings take the smallest entries of W_f; the paper takes the largest, as here.
A place that enters inherits the optimizer's state of the one whose slot it takes.
"""

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn

from lorank.catalogue import catalogued
from lorank.errors import UsageError
from lorank.lowrank.forms.dense import Dense
from lorank.lowrank.forms.form import Site, form
from lorank.lowrank.linalg import top_k_svd


def principal_places(weight: Tensor, filter_rank: int, count: int) -> Tensor:
    """Return the ``count`` flat places of the largest entries of the rank-``filter_rank`` part of ``weight``.

    >>> principal_places(torch.tensor([[5.0, 0.0], [0.0, -2.0]]), 2, 2).tolist()
    [0, 3]
    """
    U, sigma, Vh = top_k_svd(weight.to(torch.float64), filter_rank)
    return ((U * sigma) @ Vh).abs().flatten().topk(count).indices.sort().values


@form("lift-principal-weights")
@catalogued(
    "lift-principal-weights",
    area="adapters.form",
    title="LIFT the Veil for the Truth: Principal Weights Emerge after Rank Reduction for Reasoning-Focused "
    "Supervised Fine-Tuning",
)
class LIFT(Dense):
    """Trained principal entries.

    Args:
        site: where.
        share: of W's entries that are trained, in (0, 1]; None trains as many as a LoRA of rank r.
        filter_rank: f, from 1 up; None takes r. min(in, out) or more is magnitude-based sparse tuning.
        refreshes: how many times in training the mask is chosen again, from 0 up.

    >>> from lorank import lowrank
    >>> adapter = lowrank.attach(nn.Sequential(nn.Linear(20, 10)), "lift-principal-weights", options={"share": 0.05})
    >>> adapter.num_parameters()
    10
    """

    lr = 0.002
    unattended_effect = "trains the entries that it chose first"

    def __init__(
        self, site: Site, share: float | None = None, filter_rank: int | None = None, refreshes: int = 3
    ) -> None:
        super().__init__(site)
        self.scaling = 1.0
        if share is not None and not 0 < share <= 1:
            raise UsageError(f"share {share!r} is not in (0, 1]")
        if refreshes < 0 or (filter_rank is not None and filter_rank < 1):
            raise UsageError("refreshes must be from 0 up, and the filter rank from 1 up")
        size = self.in_features * self.out_features
        count = site.rank * (self.in_features + self.out_features) if share is None else round(share * size)
        count = min(count, size) if site.rank else 0
        self.filter_rank = site.rank if filter_rank is None else filter_rank
        self.refreshes, self._base = refreshes, site.base
        self.v = nn.Parameter(torch.zeros(count, device=site.device, dtype=site.dtype))
        self.register_buffer("places", principal_places(site.base.weight, self.filter_rank, count))
        self.register_buffer("left", torch.zeros(refreshes, count, dtype=torch.long, device=site.device))
        self.register_buffer("done", torch.zeros((), dtype=torch.long))
        self.register_buffer("learned", torch.zeros(refreshes, count, device=site.device, dtype=site.dtype))

    @classmethod
    def build(
        cls, sites: Sequence[Site], share: float | None = None, filter_rank: int | None = None, refreshes: int = 3
    ) -> list[Self]:
        """Return one form per site, in order.

        Args:
            sites: The places of the updates.
            share: The share of W's entries, in (0, 1], that is trained; None trains as many as a LoRA of rank r.
            filter_rank: The rank f of the approximation that chooses the entries, 1 or more; None takes r.
            refreshes: The number of times in training, 0 or more, that the mask is chosen again.
        """
        return [cls(site, share, filter_rank, refreshes) for site in sites]

    def matrix(self, weight: Tensor | None) -> Tensor:
        flat = self.v.new_zeros(self.out_features * self.in_features)
        flat = flat.scatter_add(0, self.left.flatten(), self.learned.flatten()).scatter_add(0, self.places, self.v)
        return flat.view(self.out_features, self.in_features)

    @property
    def scheduled(self) -> bool:
        return self.refreshes > 0

    def follow(self, step: int, total: int) -> None:
        due = min(int(step / max(total, 1) * (self.refreshes + 1)), self.refreshes)
        while due > int(self.done):
            self.refresh()

    @torch.no_grad()
    def refresh(self) -> Tensor:
        """Choose the places again from W + dW and return the slots [m] of v that changed theirs."""
        row, weight = int(self.done), self._base.weight
        if row >= self.refreshes:
            raise UsageError(f"the mask was chosen again {row} times; attach with more refreshes")
        best = principal_places(weight.to(self.v.dtype) + self.matrix(None), self.filter_rank, len(self.v))
        slots = (~torch.isin(self.places, best)).nonzero().flatten()
        self.left[row, slots], self.learned[row, slots] = self.places[slots], self.v[slots]
        entering = best[~torch.isin(best, self.places)]
        self.places[slots], self.v[slots] = entering, 0.0
        self.done += 1
        return slots

    def parameter_count(self) -> int:
        return len(self.v)

    def rank_bound(self) -> int:
        from scipy.sparse import csr_array
        from scipy.sparse.csgraph import structural_rank

        support = torch.zeros(self.out_features * self.in_features, dtype=torch.bool)
        support[self.places.cpu()] = True
        support[self.left[self.learned != 0].cpu()] = True
        return int(structural_rank(csr_array(support.view(self.out_features, self.in_features).numpy())))
