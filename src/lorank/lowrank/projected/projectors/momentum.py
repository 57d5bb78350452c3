r"""A subspace that keeps off the directions of former tasks' Adam moments: P is found for (I - H H^T) G.

    at a task's end   H <- orth([H, U_k]),  U_k the leading directions of P M that hold ``energy`` of its square

M [rank, long] is Adam's first moment in the subspace P [short, rank], which costs no gradients of former tasks. An
empty H is GaLore.

Wang et al., Continual Gradient Low-Rank Projection Fine-Tuning for LLMs (GORP), 2025, arXiv:2507.02503.

*Deviations* [~]: no code was released. What is kept of a task is read from its last moments alone.
"""

from collections.abc import Mapping

from torch import Tensor

from lorank.lowrank.projected.projectors.orthogonal import OrthogonalSVD, without_history
from lorank.lowrank.projected.projectors.projector import PROJECTORS, State
from lorank.lowrank.projected.registry import entry


@entry(PROJECTORS, "momentum")
class MomentumSVD(OrthogonalSVD):
    """P orthogonal to the directions of former tasks' moments.

    Kept: ``short * rank`` values, and H.
    """

    def observe(self, state: State, gradient: Tensor, rank: int) -> Tensor:
        return without_history(state, gradient)

    def task(self, state: Mapping[str, Tensor]) -> Tensor | None:
        moment = state.get("exp_avg")
        if moment is None or "basis" not in state or moment.shape[0] != state["basis"].shape[1]:
            return None
        return self.basis(state, moment) @ moment
