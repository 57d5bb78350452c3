r"""WeLore: one threshold on the normalised singular values of all layers gives each its rank.

    r_l = #{i: s_i / s_1 >= theta},    theta bisected until all layers together have the asked-for share of the weights

Layers of low rank are cut deep, layers of flat spectra stay dense, as a product would be larger there. The factors can
be trained on and what stays dense is frozen, as published: only low-rank components learn well.

Jaiswal et al., From GaLore to WeLore: How Low-Rank Weights Non-uniformly Emerge from Low-Rank Gradients, 2024,
arXiv:2407.11239.

*Deviations*: the published code normalises s by its range, which makes the threshold depend on the smallest value,
takes theta from tables for two models, and counts ranks in place of weights. Here a layer whose rank would be at its
break-even or above stays dense.
"""

from lorank.lowrank.shrink.core.decomposition import Decomposition
from lorank.lowrank.shrink.core.shrinker import Weight, shrinker
from lorank.lowrank.shrink.svd import svd


@shrinker(
    "welore",
    title="From GaLore to WeLore: How Low-Rank Weights Non-uniformly Emerge from Low-Rank Gradients",
    ranks="threshold",
)
def welore(weight: Weight) -> Decomposition:
    """Return the singular value decomposition of W; the ranks make the method.

    Args:
        weight: The weight.
    """
    return svd(weight)
