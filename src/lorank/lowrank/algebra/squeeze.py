r"""LoRA-Squeeze: train at a high rank, then keep the best approximation of a lower one.

    s B A ~ U_k diag(sigma_k) V_k^T    B' = U_k sqrt(sigma_k),  A' = sqrt(sigma_k) V_k^T,  scale 1

on the factors: two thin QR decompositions and an SVD of size r (`lorank.lowrank.algebra.factors`). Squeezed
after training here; squeezed step by step while training runs by the form ``lora-squeeze``.

LoRA-Squeeze: Simple and Effective Post-Tuning and In-Tuning Compression of LoRA Modules.

*Deviations*: the decomposition is exact rather than randomised, which on factors costs no more. The scale is
folded into B', where the published recipe keeps alpha / r of the source.
"""

from lorank.lowrank.algebra.factors import decompose, truncate
from lorank.lowrank.algebra.sets import FactorSet
from lorank.lowrank.forms.form import Factors


def squeeze(factors: FactorSet, rank: int | None = None, energy: float | None = None) -> dict[str, Factors]:
    """Return every update at ``rank``, or at the least rank that keeps ``energy`` of its squared norm.

    Args:
        factors: the update of each layer.
        rank: from 0 up; at or above a layer's own nothing is lost there.
        energy: in (0, 1]; layers then get ranks of their own.

    >>> import torch
    >>> wide = {"layer": Factors(torch.eye(3), torch.diag(torch.tensor([3.0, 2.0, 0.0])), 1.0)}
    >>> squeeze(wide, energy=1.0)["layer"].A.shape, squeeze(wide, rank=1)["layer"].B.shape
    (torch.Size([2, 3]), torch.Size([3, 1]))
    """
    return {path: truncate(own, rank, energy) for path, own in factors.items()}


def lost_shares(factors: FactorSet, rank: int) -> dict[str, float]:
    """Return the share of each update's squared norm that ``squeeze`` at ``rank`` would lose.

    >>> import torch
    >>> lost_shares({"layer": Factors(torch.eye(2), torch.diag(torch.tensor([3.0, 1.0])), 1.0)}, 1)
    {'layer': 0.1}
    """
    shares = {}
    for path, own in factors.items():
        squares = decompose(own).s.double().square()
        whole = squares.sum().item()
        shares[path] = round(squares[rank:].sum().item() / whole, 12) if whole else 0.0
    return shares
