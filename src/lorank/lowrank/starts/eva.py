r"""EVA: A starts at the principal directions of the layer's inputs, and layers with more of them get more ranks.

    X - mean(X) = U diag(sigma) V^T    A = V_r^T,  B = 0    ratio_i = sigma_i^2 / sum_j sigma_j^2

X [n, in] are the layer's inputs at real tokens, ``statistics["inputs"]``. Ranks: the sum of all r largest
ratios over all layers get one rank each, at most rho r a layer; a layer may get none. alpha is left to the
scaling's default at the new rank, so that s stays.

Paischer et al., One Initialization to Rule them All: Fine-tuning via Explained Variance Adaptation, 2024,
arXiv:2410.07170.

*Deviations*: the published code decomposes batch by batch until the directions stand still; here all rows that
the calibration pass kept are decomposed at once. DoRA is left out: PEFT's folder has no place for the magnitude
of a layer without ranks.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from lorank.catalogue import catalogued
from lorank.lowrank.forms.form import Form, Site
from lorank.lowrank.forms.lora import LoRA
from lorank.lowrank.linalg import SVD, top_k_svd
from lorank.lowrank.starts.start import Start, Statistics, start


@start("eva")
@catalogued(
    "eva",
    area="adapters.init",
    title="One Initialization to Rule them All: Fine-tuning via Explained Variance Adaptation",
)
class EVA(Start):
    """Fills A with the inputs' principal directions.

    Args:
        rho: how many times its rank a layer may get, from 1 up; 1 leaves the ranks alone.
    """

    needs = frozenset({"inputs"})

    def __init__(self, rho: float = 2.0) -> None:
        self.rho = rho

    def suits(self, form: type[Form]) -> bool:
        return issubclass(form, LoRA) and not form.needs_weight

    def ranks(self, sites: Sequence[Site], statistics: Mapping[str, Statistics]) -> dict[str, int]:
        ratios = [
            (ratio, site.path)
            for site in sites
            for ratio in explained_variance(statistics[site.path]["inputs"])[: int(self.rho * site.rank)].tolist()
        ]
        best = sorted(ratios, key=lambda pair: -pair[0])[: sum(site.rank for site in sites)]
        return {site.path: sum(path == site.path for _, path in best) for site in sites}

    @torch.no_grad()
    def fill(self, form: Form, site: Site, statistics: Statistics) -> None:
        assert isinstance(form, LoRA)
        directions = _principal_inputs(statistics["inputs"], site.rank).Vh
        form.set_factors(directions, directions.new_zeros(site.base.out_features, len(directions)))


def explained_variance(inputs: Tensor) -> Tensor:
    """Return the share of variance that each principal direction of ``inputs`` [n, in] explains, descending.

    >>> explained_variance(torch.tensor([[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0]])).tolist()
    [0.8..., 0.2...]
    """
    squares = _principal_inputs(inputs, min(inputs.shape)).s.square()
    return squares / squares.sum().clamp_min(torch.finfo(squares.dtype).tiny)


def _principal_inputs(inputs: Tensor, k: int) -> SVD:
    inputs = inputs.to(torch.float64)
    return top_k_svd(inputs - inputs.mean(0), k)
