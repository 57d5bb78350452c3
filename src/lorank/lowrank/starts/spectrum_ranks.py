r"""LaMDA++: ranks in proportion to how flat each layer's spectrum is.

    r_l ~ exp(-sum_i p_i log p_i),    p = sigma / sum(sigma)    (the effective rank of W_l)

under the budget sum_l r_l, no rank above min(in, out). The forms are left at their zero start.

Azizi, Kundu and Pedram, LaMDA, 2024, arXiv:2406.12832.

*Deviations*: [~] the paper ranks layers by their normalised spectrum's energy at a given rank and assigns ranks
from a list; here flatness is measured by the effective rank and ranks follow it in proportion.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from lorank.lowrank.forms.form import Form, Site
from lorank.lowrank.forms.lamda import LaMDA
from lorank.lowrank.starts.sharing import share_ranks
from lorank.lowrank.starts.start import Start, Statistics, start


@start("spectrum-ranks")
class SpectrumRanks(Start):
    """Gives flat spectra more rank."""

    def suits(self, form: type[Form]) -> bool:
        return issubclass(form, LaMDA)

    def ranks(self, sites: Sequence[Site], statistics: Mapping[str, Statistics]) -> dict[str, int]:
        shares = {site.path: flatness(site.base.weight) for site in sites}
        limits = {site.path: (0, min(site.base.weight.shape)) for site in sites}
        return share_ranks(shares, limits, sum(site.rank for site in sites))

    def fill(self, form: Form, site: Site, statistics: Statistics) -> None:
        pass


def flatness(weight: Tensor) -> float:
    """Return the effective rank of ``weight``: from 1 for one singular value to min(in, out) for equal ones.

    >>> round(flatness(torch.eye(4)), 6)
    4.0
    """
    sigma = torch.linalg.svdvals(weight.detach().to(torch.float64))
    p = sigma / sigma.sum().clamp_min(torch.finfo(torch.float64).tiny)
    return float(torch.special.entr(p).sum().exp())
