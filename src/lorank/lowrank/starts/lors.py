r"""LoRS's start: A in the principal directions of the gradient that the mask lets through, B at 0.

    G * M ~ U diag(sigma) V^T,  M = [W != 0]    A = V[:, :r]^T / sqrt 3,  B = 0

G [out, in] is the layer's mean gradient, ``statistics["gradient"]``. The first step of B is then along the best
approximation of the masked step of a full fine-tuning that r ranks allow, at the size that A's random draw gives it:
its rows have about length 1 / sqrt 3. W keeps its zeros and its place. Components beyond min(in, out) keep the form's
A.

Hu et al., LoRS: Efficient Low-Rank Adaptation for Sparse Large Language Model, 2025, arXiv:2501.08582.

*Deviations*: [~] the paper starts its adapters from gradients; that A takes the directions at the length of the random
draw, and B is 0, is our reading, chosen so that the output does not move.
"""

import torch

from lorank.lowrank.forms.form import Form, Site
from lorank.lowrank.forms.lors import LoRS
from lorank.lowrank.linalg import top_k_svd
from lorank.lowrank.starts.start import Start, Statistics, start


@start("lors")
class MaskedGradient(Start):
    """Fills A with the masked gradient's first r directions."""

    needs = frozenset({"gradient"})

    def suits(self, form: type[Form]) -> bool:
        return issubclass(form, LoRS)

    @torch.no_grad()
    def fill(self, form: Form, site: Site, statistics: Statistics) -> None:
        assert isinstance(form, LoRS)
        gradient = statistics["gradient"].to(site.base.weight.device, torch.float64)
        directions = top_k_svd(gradient * (site.base.weight != 0), site.rank).Vh
        form.A[: len(directions)] = (directions / 3**0.5).to(form.A.dtype)
