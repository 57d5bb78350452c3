r"""OFS-DPO: a fast module learns preferences with a slow copy of itself at its heels.

    l = DPO(s) + \alpha DPO(s - t),   DPO(s) = -\log \sigma(s_i - s_j) averaged over \psi_i > \psi_j

with s the fast module's scores \beta \log \pi_F / \pi_ref and t the slow one's, so that s - t is
\beta \log \pi_F / \pi_S: the second term rewards a wider gap between preferred and other response than the slow module
has, and does not fade as DPO's own gradient does. The slow module learns DPO alone at ``slow_rate`` times the rate.
:class:`lorank.training.hooks.ofs_dpo.FastSlow` trains it beside the run and lets the two change places where the
slow one overtakes; `lorank train --loss ofs-dpo` does all of it.

Paper: B. Qi et al., Online DPO: Online Direct Preference Optimization with Fast-Slow Chasing, 2024.

*Deviations*: reconstructed from the description. Assumed: the regulariser is DPO with the slow module as the reference,
and the slow module has overtaken where its DPO loss on the lists of a step is below the fast one's.
"""

import torch
from torch import Tensor

from lorank.errors import UsageError
from lorank.ranking.losses.core.registry import EXTRAS, register_loss
from lorank.ranking.losses.lipo import dpo

EXTRAS["slow"] = torch.zeros(1, 2)
"""Scores [batch, list] of the slow module, without a gradient."""


@register_loss(
    "ofs-dpo",
    title="Online DPO: Online Direct Preference Optimization with Fast-Slow Chasing",
    area="losses.preference",
    requires=("slow",),
)
class FastSlowDPO:
    """DPO with a reward for staying ahead of the slow module; ``lead`` says by how much the last lists were.

    Args:
        strength: alpha, 0 and up; 0 is DPO.
        slow_rate: The slow module's learning rate as a share of the fast one's, above 0 up to 1.

    >>> import math
    >>> chasing = FastSlowDPO(strength=2.0)
    >>> value = chasing(torch.tensor([[0.3, 0.0]]), torch.tensor([[1.0, 0.0]]), slow=torch.tensor([[0.1, 0.0]]))
    >>> math.isclose(value, math.log1p(math.exp(-0.3)) + 2 * math.log1p(math.exp(-0.2)), rel_tol=1e-6)
    True
    >>> chasing.lead > 0
    True
    """

    def __init__(self, *, strength: float = 0.5, slow_rate: float = 0.2) -> None:
        if strength < 0 or not 0 < slow_rate <= 1:
            raise UsageError(f"strength must be 0 or more, slow_rate above 0 up to 1; got {strength}, {slow_rate}")
        self.strength, self.slow_rate, self.lead = strength, slow_rate, 0.0

    def __call__(
        self,
        scores: Tensor,
        labels: Tensor,
        mask: Tensor | None = None,
        weights: Tensor | None = None,
        *,
        slow: Tensor,
    ) -> Tensor:
        """Return the loss, and note the slow module's DPO loss less the fast one's as ``lead``.

        Args:
            scores: beta times the fast module's log-ratio to the reference, [batch, list].
            labels: [batch, list]; of two responses the one with the higher label is preferred.
            mask: bool [batch, list], True where there is a response.
            weights: [batch] or [batch, list]; a pair has the weight of its preferred response.
            slow: t [batch, list], the slow module's scores.
        """
        if slow.shape != scores.shape:
            raise UsageError(f"slow must be {list(scores.shape)} as the scores are; got {list(slow.shape)}")
        slow, value = slow.detach(), dpo(scores, labels, mask, weights)
        self.lead = float(dpo(slow, labels, mask, weights) - value.detach())
        return value + self.strength * dpo(scores - slow, labels, mask, weights)
