r"""LORD: a layer keeps the principal directions of its outputs, and what it drops stays at its mean.

    Cov(y) = V L V^T for y = W x + b,    B = V_r,   A = V_r^T W,   b' = V_r V_r^T b + (I - V_r V_r^T) E[y]

The mean squared error of the output on the calibration texts is the sum of the dropped eigenvalues, exactly. Adapters
attach to both factors, which are plain linear layers.

Kaushal et al., LORD: Low Rank Decomposition Of Monolingual Code LLMs For One-Shot Compression, 2023, arXiv:2309.14021.

*Deviations*: ranks follow from the ratio; they are not rounded to multiples of 128.
"""

from lorank.lowrank.shrink.core.decomposition import Decomposition
from lorank.lowrank.shrink.core.shrinker import Weight, shrinker
from lorank.lowrank.shrink.eora import by_output_energy


@shrinker(
    "lord",
    title="LORD: Low Rank Decomposition Of Monolingual Code LLMs For One-Shot Compression",
    calibrated=True,
)
def lord(weight: Weight) -> Decomposition:
    """Return the directions of the outputs by their variance on the calibration inputs.

    Args:
        weight: The weight, with the moments of its inputs.
    """
    assert weight.moments is not None
    return by_output_energy(weight.matrix, weight.moments.covariance, weight.moments.mean)
