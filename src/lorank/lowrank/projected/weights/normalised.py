r"""Weight normalisation: W = V diag(g / ||V_:,j||), direction and magnitude of each column step apart.

    dL/dg_j = <dL/dW_:,j, v_j>,   dL/dV = dL/dW - v diag(<dL/dW_:,j, v_j>),   v = V / ||V||_col
    g <- g - lr Adam(dL/dg),   V <- W - lr D,   W <- V diag(g / ||V||_col)

D is what the projection makes of dL/dV at V = W, so that only the moments of g are kept. dL/dV is orthogonal to V.

Huang, Shen, Zhu, Rudinac, Kanoulas, Gradient Weight-normalized Low-rank Projection for Efficient LLM Training, AAAI
2025, arXiv:2412.19616.

*Deviations*: columns of [out, in] as in the paper, where the published code takes rows; dL/dV has the projection onto
the complement of V, which the code leaves out; g is not overwritten by ||V|| before each step. A column of norm 0 has
no direction and steps plainly.
"""

import torch
from torch import Tensor

from lorank.lowrank.projected.inner.adamw import AdamW
from lorank.lowrank.projected.inner.inner import Group
from lorank.lowrank.projected.projection import Projection
from lorank.lowrank.projected.projectors.projector import State
from lorank.lowrank.projected.registry import entry
from lorank.lowrank.projected.weights.plain import WEIGHTS, PlainWeight


@entry(WEIGHTS, "normalised")
class NormalisedWeight(PlainWeight):
    """Magnitudes and directions of the columns.

    State: ``2 * columns`` values a matrix, and while a step is made ``columns`` more.
    """

    def gradient(self, state: State, weight: Tensor, gradient: Tensor) -> Tensor:
        wide = weight.to(gradient.dtype)
        norms = wide.norm(dim=0)
        unit = wide / torch.where(norms > 0, norms, 1.0)
        slope = (gradient * unit).sum(0)
        state["magnitude_slope"] = slope
        return gradient - unit * slope

    def apply(
        self,
        state: State,
        weight: Tensor,
        update: Tensor,
        group: Group,
        options: Projection,
        generator: torch.Generator | None,
    ) -> None:
        slope = state.pop("magnitude_slope")
        moments = {"step": state["age_of_magnitudes"] if "age_of_magnitudes" in state else torch.zeros(())}
        moments["step"] = moments["step"] + 1
        for name in AdamW.moments:
            if f"magnitude_{name}" in state:
                moments[name] = state[f"magnitude_{name}"]
        move = AdamW().direction(moments, slope, group, weight.dtype)
        state["age_of_magnitudes"] = moments["step"]
        state |= {f"magnitude_{name}": moments[name] for name in AdamW.moments}
        before = weight.to(update.dtype)
        norms = before.norm(dim=0)
        after = before - group["lr"] * update
        lengths = (norms - group["lr"] * move) / after.norm(dim=0).clamp_min(torch.finfo(after.dtype).tiny)
        weight.copy_(after * torch.where(norms > 0, lengths, 1.0))
