r"""PMSS: a trained square between columns and rows of W itself.

    dW = s C M R,    C [out, k] columns of W,  R [k, in] rows of W,  M [k, k] trained,    k = min(r, in, out)

The columns are the first k pivots of a QR decomposition of W with column pivoting, the rows those of W^T: far
from one another, and large. The choice is repeated on W wherever the adapter is loaded. Zero start: M = 0.
Trained values: k^2. Rank of dW: k where W has that rank.

Wang et al., PMSS: Pretrained Matrices Skeleton Selection for LLM Fine-tuning, 2024, arXiv:2409.16722.
"""

import torch
from scipy.linalg import qr
from torch import Tensor, nn

from lorank.catalogue import catalogued
from lorank.lowrank.forms.factored import Factored
from lorank.lowrank.forms.form import Site, form


@form("pmss")
@catalogued(
    "pmss",
    area="adapters.form",
    title="PMSS: Pretrained Matrices Skeleton Selection for LLM Fine-tuning",
)
class PMSS(Factored):
    """A trained square on W's skeleton.

    >>> from lorank import lowrank
    >>> lowrank.attach(nn.Sequential(nn.Linear(30, 20)), "pmss", rank=3).num_parameters()
    9
    """

    C: Tensor
    R: Tensor
    lr = 0.002
    usual_rank = 64

    derived = ("C", "R")

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        weight = site.base.weight.detach()
        k = min(site.rank, *weight.shape)
        columns, rows = pivots(weight, k), pivots(weight.t(), k)
        self.register_buffer("C", weight[:, columns].to(site.dtype), persistent=False)
        self.register_buffer("R", weight[rows].to(site.dtype), persistent=False)
        self.M = nn.Parameter(torch.zeros(k, k, device=site.device, dtype=site.dtype))

    def pair(self) -> tuple[Tensor, Tensor]:
        return self.R, self.C @ self.M

    def parameter_count(self) -> int:
        return self.M.numel()

    def rank_bound(self) -> int:
        return len(self.M)


def pivots(matrix: Tensor, k: int) -> Tensor:
    """Return the first k columns [k] that a pivoted QR decomposition of ``matrix`` takes, largest first.

    >>> pivots(torch.tensor([[1.0, 3.0, 3.0], [0.0, 0.1, 0.0]]), 2).tolist()
    [1, 2]
    """
    _, order = qr(matrix.cpu().to(torch.float64).numpy(), mode="r", pivoting=True)
    return torch.from_numpy(order[:k].copy()).long().to(matrix.device)
