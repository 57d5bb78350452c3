r"""Intruder dimensions: leading directions of a tuned weight that the weight before tuning did not have.

    count(eps) = #{ j <= k :  max_i |u_j . u0_i| < eps },    u_j, u0_i left singular vectors of W and of W0

The count depends on k and on the threshold, so it is a curve over eps. Many intruders go with forgetting.

Shuttleworth, Andreas, Torralba, Sharma, LoRA vs Full Fine-tuning: An Illusion of Equivalence, 2024, arXiv:2410.21228.

*Deviations*: both weights are read in one precision; the published code reads the base in half precision.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from lorank.catalogue import catalogued
from lorank.errors import UsageError

THRESHOLDS = tuple(round(0.1 * i, 1) for i in range(1, 10))


@torch.no_grad()
def closest_cosines(base: Tensor, tuned: Tensor, k: int = 10) -> Tensor:
    """Return max_i |u_j . u0_i| [min(k, out, in)] of the leading left singular vectors of ``tuned``.

    Args:
        base: W0 [out, in].
        tuned: W [out, in].
        k: How many vectors of W are looked at, 1 or more.
    """
    if base.shape != tuned.shape or base.dim() != 2 or k < 1:
        raise UsageError(
            f"two weights of one shape and k of 1 or more, not {tuple(base.shape)}, {tuple(tuned.shape)}, {k}"
        )
    before = torch.linalg.svd(base.float(), full_matrices=False).U
    after = torch.linalg.svd(tuned.float(), full_matrices=False).U[:, :k]
    closest: Tensor = (before.t() @ after).abs().amax(0).clamp(max=1.0)
    return closest


@catalogued(
    "intruder-dimensions",
    area="diagnose",
    title="LoRA vs Full Fine-tuning: An Illusion of Equivalence",
    reach="`lorank inspect RUN --intruders`; it reads a tuned model and trains nothing, so it has no recipe",
)
def intruder_dimensions(base: Tensor, tuned: Tensor, *, k: int = 10, eps: float = 0.5) -> int:
    """Return how many of the ``k`` leading directions of ``tuned`` are new.

    Args:
        base: W0 [out, in].
        tuned: W [out, in].
        k: How many vectors of W are looked at.
        eps: The cosine, from 0 to 1, below which a direction counts as new.

    >>> spike = torch.zeros(3, 3); spike[2, 2] = 9.0
    >>> intruder_dimensions(torch.diag(torch.tensor([3.0, 2.0, 1.0])), torch.diag(torch.tensor([3.0, 2.0, 1.0])))
    0
    """
    return int((closest_cosines(base, tuned, k) < eps).sum())


def intruder_curve(cosines: Iterable[Tensor], thresholds: Sequence[float] = THRESHOLDS) -> list[tuple[float, int]]:
    """Return (eps, number of intruders in all weights) for each threshold.

    Args:
        cosines: What ``closest_cosines`` returned of each weight.
        thresholds: The thresholds.

    >>> intruder_curve([torch.tensor([0.95, 0.3]), torch.tensor([0.6])], [0.2, 0.5, 0.9])
    [(0.2, 0), (0.5, 1), (0.9, 2)]
    """
    found = list(cosines)
    return [(eps, sum(int((each < eps).sum()) for each in found)) for eps in thresholds]
