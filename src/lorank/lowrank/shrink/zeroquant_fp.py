r"""ZeroQuant-FP: weights on a grid of 4-bit floating-point numbers, with a low-rank part that takes the error back.

    E = W - Q(W),   E = U S V^T,   B A = U_r S_r V_r^T (LoRC),   y = x8 (Q(W) + B A)^T + b,   x8 = x rounded to FP8

The grids and their scales are those of `lorank.layers.grid_linear`. A layer holds 4 bits per weight and r (in + out)
numbers, at rank 8 unless a rank or a ratio (of bytes) is stated.

Wu et al., ZeroQuant-FP: A Leap Forward in LLMs Post-Training W4A8 Quantization Using Floating-Point Formats, 2023,
arXiv:2307.09782.

*Deviations*: weights are rounded to the nearest level; the paper's GPTQ is left out.
"""

from lorank.lowrank.shrink.core.decomposition import Decomposition
from lorank.lowrank.shrink.core.shrinker import Weight, shrinker
from lorank.lowrank.shrink.svd import svd


@shrinker(
    "zeroquant-fp",
    title="ZeroQuant-FP: A Leap Forward in LLMs Post-Training W4A8 Quantization Using Floating-Point Formats",
    grid="fp4",
    rank=8,
)
def zeroquant_fp(weight: Weight) -> Decomposition:
    """Return the singular value decomposition of the rounding error.

    Args:
        weight: The rounding error W - Q(W).
    """
    return svd(weight)
