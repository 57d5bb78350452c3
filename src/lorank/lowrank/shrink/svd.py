r"""Plain SVD: the rank-r matrix nearest to W, whatever the layer reads.

    W = U S V^T,    A = sqrt(S_r) V_r^T,   B = U_r sqrt(S_r),    |W - B A|_F^2 = sum_{i >= r} s_i^2

C. Eckart and G. Young, The approximation of one matrix by another of lower rank, Psychometrika 1936. It is what every
other method is compared with. On a grid (``grid="fp4"``) it is LoRC: the SVD of the rounding error (arXiv:2307.09782).
"""

from lorank.lowrank.linalg import top_k_svd
from lorank.lowrank.shrink.core.decomposition import Decomposition
from lorank.lowrank.shrink.core.shrinker import Weight, shrinker


@shrinker("svd", title="Truncated singular value decomposition", published=False)
def svd(weight: Weight) -> Decomposition:
    """Return the singular value decomposition of W, its values in equal parts on both factors.

    Args:
        weight: The weight.
    """
    matrix = weight.matrix
    U, s, Vh = top_k_svd(matrix, min(matrix.shape))
    root = s.sqrt()
    return Decomposition.nested(matrix, s.square(), root[:, None] * Vh, U * root)
