r"""GoRA: ranks by each layer's importance, and B at the best step down the gradient in A's row space.

    importance_l = mean |W_l * G_l|    s B A = -eta G P,    B = -(eta / s) G A^T (A A^T)^+,    P onto A's rows

A is the form's own random draw; G [out, in] is the layer's mean gradient, ``statistics["gradient"]``. Ranks
follow the importance under the budget sum_l r_l, each from r / 2 (rounded down) to 4 r. eta is step sqrt(in / r).
W keeps its place: the model starts a step down the gradient.

He et al., GoRA: Gradient-driven Adaptive Low Rank Adaptation, 2025, arXiv:2502.12171.

*Deviations*: published code adds the gradient, which moves up the loss; the paper's error term and this start
subtract it.
"""

from collections.abc import Mapping, Sequence

import torch

from lorank.catalogue import catalogued
from lorank.lowrank.forms.form import Form, Site
from lorank.lowrank.forms.lora import LoRA
from lorank.lowrank.starts.sharing import share_ranks
from lorank.lowrank.starts.start import Start, Statistics, start


@start("gora")
@catalogued("gora", area="adapters.init", title="GoRA: Gradient-driven Adaptive Low Rank Adaptation")
class GoRA(Start):
    """Fills B from the gradient and gives important layers more ranks.

    Args:
        step: the size of the first step, times sqrt(in / r).
    """

    needs = frozenset({"gradient"})
    keeps_output = False

    def __init__(self, step: float = 1e-2) -> None:
        self.step = step

    def suits(self, form: type[Form]) -> bool:
        return form is LoRA

    def ranks(self, sites: Sequence[Site], statistics: Mapping[str, Statistics]) -> dict[str, int]:
        shares = {
            site.path: (site.base.weight.detach() * statistics[site.path]["gradient"]).abs().mean().item()
            for site in sites
        }
        limits = {
            site.path: (site.rank // 2, max(min(4 * site.rank, *site.base.weight.shape), site.rank // 2))
            for site in sites
        }
        return share_ranks(shares, limits, sum(site.rank for site in sites))

    @torch.no_grad()
    def fill(self, form: Form, site: Site, statistics: Statistics) -> None:
        assert isinstance(form, LoRA)
        if not site.rank or not site.scaling:
            return
        A = form.A.to(torch.float64)
        eta = self.step * (site.base.in_features / site.rank) ** 0.5
        form.B.copy_(-eta / site.scaling * statistics["gradient"].to(A) @ torch.linalg.pinv(A))
