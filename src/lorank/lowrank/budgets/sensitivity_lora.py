r"""Sensitivity-LoRA: ranks by the curvature of each weight, seen in one calibration pass.

    y = W x,  squared error of y:   d2L/dw_oj^2 = 2 E[x_j^2] = h_j       (the diagonal of GPTQ's 2 X X^T)
    s_j = h_j sum_o w_oj^2                                              (what column j is worth: Taylor, second order)
    global_l = sum_j s_j      local_l = sum of the ``top`` largest s_j / sum_j s_j,  width_l = exp(entropy(s / sum s))
    share_l = global_l / sum global + weight (local_l width_l) / sum (local width),  ranks ~ share, sum = total

Zhang et al., Sensitivity-LoRA: Low-Load Sensitivity-Based Fine-Tuning for Large Language Models, 2025,
arXiv:2509.09119.

*Deviations*: [~] reconstructed: how the paper weighs global against local sensitivity is not known here; both are
shares that sum to 1 over layers, and the local ones enter with ``weight`` 0.25.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from lorank.catalogue import catalogued
from lorank.lowrank.budgets.core.budget import static_budget
from lorank.lowrank.forms.form import Site
from lorank.lowrank.starts import Statistics
from lorank.lowrank.starts.sharing import share_ranks

TOP, WEIGHT = 0.1, 0.25


def hessian_diagonal(inputs: Tensor) -> Tensor:
    """Return 2 E[x_j^2] [in] of ``inputs`` [n, in]: the second derivative of E|W x - y|^2 by any w_oj.

    >>> hessian_diagonal(torch.tensor([[1.0, 0.0], [3.0, 2.0]])).tolist()
    [10.0, 4.0]
    """
    return 2 * inputs.to(torch.float64).square().mean(0)


def column_sensitivity(weight: Tensor, inputs: Tensor) -> Tensor:
    """Return s_j [in] of a weight [out, in]."""
    return hessian_diagonal(inputs) * weight.detach().to(torch.float64).square().sum(0)


@static_budget("sensitivity-lora", needs=["inputs"])
@catalogued(
    "sensitivity-lora",
    area="adapters.rank",
    title="Sensitivity-LoRA: Low-Load Sensitivity-Based Fine-Tuning for Large Language Models",
)
def sensitivity_lora(sites: Sequence[Site], statistics: Mapping[str, Statistics], total: int) -> dict[str, int]:
    """Return ranks in proportion to global and local sensitivity, none above min(in, out)."""
    columns = {site.path: column_sensitivity(site.base.weight, statistics[site.path]["inputs"]) for site in sites}
    whole = {path: float(s.sum()) for path, s in columns.items()}
    local = {path: _local(s) for path, s in columns.items()}
    sums = sum(whole.values()) or 1.0, sum(local.values()) or 1.0
    shares = {path: whole[path] / sums[0] + WEIGHT * local[path] / sums[1] for path in columns}
    return share_ranks(shares, {site.path: (0, min(site.base.weight.shape)) for site in sites}, total)


def _local(s: Tensor) -> float:
    p = s / s.sum().clamp_min(torch.finfo(s.dtype).tiny)
    top = p.topk(max(1, round(TOP * len(p)))).values.sum()
    return float(top * torch.special.entr(p).sum().exp())
