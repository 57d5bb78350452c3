r"""Trained rank pruning: a weight is cut to its leading singular part every m steps, and trained freely in between.

    every m steps, before the forward pass:  W <- U_k S_k V_k^T,   k the least with sum_{i<=k} s_i^2 >= energy sum s_i^2
    with ``nuclear``, in the same steps:     dL/dW <- dL/dW + nuclear U_k V_k^T

U_k V_k^T is a sub-gradient of the nuclear norm of the part that is kept, so that ranks go on falling. Moments of the
optimizer are not cut: the next step leaves the subspace, which is the method. After training the last cut changes
little, as the cuts come closer together at the end: m / 2, m / 4, ..., 1 steps before it.

Xu et al., Trained Rank Pruning for Efficient Deep Neural Networks, 2018, arXiv:1812.02402, and TRP: Trained Rank
Pruning for Efficient Deep Neural Networks, 2020, arXiv:2004.14566.

*Deviations*: the published code cuts convolutions, and makes the final cut by the size of singular values; here linear
layers are cut, the final cut by the same energy. Cuts at the end come as they are here, since AdamW's steps of a whole
period would be lost in the final one.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lorank.catalogue import catalogued
from lorank.errors import UsageError
from lorank.lowrank.compression.core import Compression, compression, numerical_rank


@compression("trp")
@catalogued("trp", area="compress", title="Trained Rank Pruning for Efficient Deep Neural Networks")
class TrainedRankPruning(Compression):
    """Periodic truncation of the weights.

    Args:
        model: The model.
        layers: Its layers.
        steps: The steps of the run.
        seed: Nothing is drawn.
        energy: The share of the squared singular values that is kept, above 0 and up to 1.
        every: m, the steps from one cut to the next.
        nuclear: The weight of the nuclear norm's sub-gradient, 0 or more.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Mapping[str, nn.Linear],
        steps: int,
        seed: int,
        *,
        energy: float = 0.9,
        every: int = 20,
        nuclear: float = 0.0,
    ) -> None:
        super().__init__(model, layers, steps, seed)
        if not 0 < energy <= 1 or every < 1 or nuclear < 0:
            raise UsageError(
                f"energy={energy:g} is above 0 and at most 1, every={every} 1 or more, nuclear={nuclear:g} 0 or more"
            )
        self.energy, self.every, self.nuclear = energy, every, nuclear
        self.directions: dict[str, Tensor] = {}

    def before_step(self, step: int) -> None:
        """Cut where it is due."""
        self.directions = {}
        if is_due(step, self.steps, self.every):
            for path, layer in self.layers.items():
                self.directions[path] = truncate(layer.weight, self.energy)

    def after_backward(self) -> None:
        """Add the sub-gradient in the steps that began with a cut."""
        for path, direction in self.directions.items() if self.nuclear else ():
            grad = self.layers[path].weight.grad
            if grad is not None:
                grad.add_(direction.to(grad), alpha=self.nuclear)

    def finish(self) -> None:
        """Cut once more."""
        for layer in self.layers.values():
            truncate(layer.weight, self.energy)

    def ranks(self) -> dict[str, int]:
        """Return the ranks of the weights, rounding left out."""
        return {path: numerical_rank(layer.weight) for path, layer in self.layers.items()}


@compression("trp-nuclear")
@catalogued("trp-nuclear", area="compress", title="TRP: Trained Rank Pruning for Efficient Deep Neural Networks")
class NuclearRankPruning(TrainedRankPruning):
    """Periodic truncation with the nuclear norm's sub-gradient: `TrainedRankPruning` with ``nuclear`` above 0."""

    def __init__(
        self,
        model: nn.Module,
        layers: Mapping[str, nn.Linear],
        steps: int,
        seed: int,
        *,
        energy: float = 0.9,
        every: int = 20,
        nuclear: float = 3e-4,
    ) -> None:
        super().__init__(model, layers, steps, seed, energy=energy, every=every, nuclear=nuclear)


def is_due(step: int, steps: int, every: int) -> bool:
    """Return whether weights are cut before ``step``: every m steps, and m/2, m/4, ..., 1 steps before the end.

    Args:
        step: The step, counted from 0.
        steps: The steps of the run.
        every: m.

    >>> [step for step in range(100) if is_due(step, 100, 20)]
    [0, 20, 40, 60, 80, 90, 95, 98, 99]
    """
    left = steps - step
    return step % every == 0 or (left < every and left in {every >> halvings for halvings in range(every.bit_length())})


@torch.no_grad()
def truncate(weight: Tensor, energy: float) -> Tensor:
    """Cut ``weight`` [out, in] in place to the least rank that keeps ``energy``, and return U_k V_k^T [out, in].

    >>> w = torch.diag(torch.tensor([3.0, 1.0])); truncate(w, 0.9).abs().tolist(), w.tolist()
    ([[1.0, 0.0], [0.0, 0.0]], [[3.0, 0.0], [0.0, 0.0]])
    """
    U, s, Vh = torch.linalg.svd(weight.float(), full_matrices=False)
    kept = s.square().cumsum(0) / s.square().sum().clamp(min=1e-30)
    k = min(int((kept < energy - 1e-7).sum()) + 1, len(s))
    weight.copy_((U[:, :k] * s[:k]) @ Vh[:k])
    direction: Tensor = U[:, :k] @ Vh[:k]
    return direction
