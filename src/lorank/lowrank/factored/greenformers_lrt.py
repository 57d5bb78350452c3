r"""Low-Rank Transformer: every linear layer is two thin ones, trained so from nothing or split from a trained weight.

    W = B A,    A [r, in], B [out, r];    2 r (out + in) operations for a row in place of 2 out in

Two thin products are fewer operations only below the break-even rank out in / (out + in), and are measured faster below
about half of it.

Cahyawijaya, Greenformers: Improving Computation and Memory Efficiency in Transformer Models via Low-Rank Approximation,
2021, arXiv:2108.10808.

*Deviations*: the published code decomposes by a randomised SVD that is neither seeded nor oversampled; ours is exact.
Its solvers by (semi-)non-negative factors are left out. A rank that is given as a number may exceed the break-even
rank, up to min(out, in), where W is reproduced exactly.
"""

from lorank.catalogue import catalogued
from lorank.lowrank.factored.core.layer import Pair, factored


@factored("greenformers-lrt")
@catalogued(
    "greenformers-lrt",
    area="compress",
    title="Greenformers: Improving Computation and Memory Efficiency in Transformer Models via Low-Rank Approximation",
)
class LowRankTransformerLayer(Pair):
    """Two thin layers in place of one; plain B A training where it starts at random.

    >>> LowRankTransformerLayer.count(100, 50, 8), LowRankTransformerLayer.flops(100, 50, 8)
    (1200, 2400)
    """

    starts = ("svd", "random")
