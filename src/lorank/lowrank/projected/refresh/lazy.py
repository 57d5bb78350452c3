r"""Lazy refreshes: a matrix whose leading direction stays is looked at half as often.

    alike at a refresh:  |p_new . p_old| >= threshold,  p the first column of P
    after ``patience`` alike refreshes in a row the gap doubles; an unlike one begins the count anew

Zhang et al., Q-GaLore: Quantized GaLore with INT4 Projection and Layer-Adaptive Low-Rank Gradients, 2024,
arXiv:2407.08296.

*Deviations*: the magnitude of the cosine, for the sign of a singular vector is arbitrary and the published code takes a
flipped sign for drift; and the count begins anew when the gap has doubled, where the published queue is not emptied, so
that the gap goes on doubling at each refresh.
"""

import torch
from torch import Tensor

from lorank.lowrank.projected.projection import Projection
from lorank.lowrank.projected.projectors.projector import State
from lorank.lowrank.projected.refresh.refresh import REFRESHES, Refresh
from lorank.lowrank.projected.registry import entry


@entry(REFRESHES, "lazy")
class Lazy(Refresh):
    """The gap doubles where the subspace stays."""

    compares = True

    def plan_next(self, state: State, options: Projection, new: Tensor | None, old: Tensor | None) -> None:
        gap = int(state["gap"]) if "gap" in state else options.gap
        alike = int(state["alike"]) if "alike" in state else 0
        if new is not None and old is not None and new.shape[1] and new.shape == old.shape:
            cosine = torch.nn.functional.cosine_similarity(new[:, 0], old[:, 0], dim=0).abs()
            alike = alike + 1 if float(cosine) >= options.threshold else 0
            if alike >= options.patience:
                gap, alike = 2 * gap, 0
        state["gap"], state["alike"], state["wait"] = torch.tensor(gap), torch.tensor(alike), torch.tensor(gap)
