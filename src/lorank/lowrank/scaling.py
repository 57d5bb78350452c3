"""How alpha and the rank make the factor s of an update s B A."""

import math
from collections.abc import Callable

from lorank.catalogue import catalogued
from lorank.errors import unknown_name

SCALINGS: dict[str, Callable[[float, int], float]] = {}
DEFAULT_ALPHA: dict[str, Callable[[int], float]] = {}


def lora(alpha: float, rank: int) -> float:
    """Return s = alpha / r (Hu et al., 2021, arXiv:2106.09685); rank 0 gives 0.

    >>> lora(16, 8)
    2.0
    """
    return alpha / rank if rank else 0.0


@catalogued("rslora", area="adapters.optim", title="A Rank Stabilization Scaling Factor for Fine-Tuning with LoRA")
def rslora(alpha: float, rank: int) -> float:
    """Return s = alpha / sqrt(r) (Kalajdzievski, 2023, arXiv:2312.03732); rank 0 gives 0.

    With A's entries of a rank-independent scale and B grown from 0 by steps of a rank-independent size, the
    output of s B A and its gradients then have a scale that does not depend on r.

    >>> rslora(8, 4)
    4.0
    """
    return alpha / math.sqrt(rank) if rank else 0.0


@catalogued(
    "rora-scaling",
    area="adapters.optim",
    title="RoRA: Efficient Fine-Tuning of LLM with Reliability Optimization for Rank Adaptation",
)
def rora(alpha: float, rank: int) -> float:
    """Return s = alpha / sqrt(r) (Liu et al., 2025, arXiv:2501.04315), which is rsLoRA's factor; rank 0 gives 0.

    RoRA asks of the factor that the gradient's size does not depend on r, and uses it to recover pruned models.

    >>> rora(8, 4) == rslora(8, 4)
    True
    """
    return rslora(alpha, rank)


SCALINGS.update({"lora": lora, "rslora": rslora, "rora-scaling": rora})
DEFAULT_ALPHA.update({"lora": float, "rslora": lambda rank: 8.0, "rora-scaling": lambda rank: 8.0})


def scaling_rule(name: str) -> Callable[[float, int], float]:
    """Return the rule (alpha, rank) -> s called ``name``."""
    if name not in SCALINGS:
        raise unknown_name("scaling", name, SCALINGS)
    return SCALINGS[name]


def default_alpha(scaling: str, rank: int) -> float:
    """Return the alpha that stands where none is given: the rank for ``lora`` (so s = 1), 8 for ``rslora``.

    A default that grew with the rank would undo what rsLoRA's rule is for.
    """
    scaling_rule(scaling)
    return DEFAULT_ALPHA[scaling](rank)
