r"""Atomic feature mimicking: principal directions of what a layer gives out, for tables of vectors as for products.

    linear     y = W x + b                    B = U_r, A = U_r^T W, the mean folded into b       (as `lord`)
    table      row t with weight f_t          (E - m) = sum over looked-up rows,  Cov_f = U L U^T,  row t ~ U_r a_t + m

f_t counts how often row t is looked up in the calibration texts (plus one, so that rows never seen are kept too):
an SVD without these weights spends its ranks on rows that nobody reads. m is the weighted mean row.

Yu et al., Unified Low-rank Compression Framework for Click-through Rate Prediction, 2024, arXiv:2405.18146.

*Deviations*: the layers are not trained on afterwards.
"""

import torch

from lorank.lowrank.shrink.core.decomposition import Decomposition, keep_directions
from lorank.lowrank.shrink.core.shrinker import Weight, shrinker
from lorank.lowrank.shrink.lord import lord


@shrinker(
    "ctr-lowrank-afm",
    title="Unified Low-rank Compression Framework for Click-through Rate Prediction",
    calibrated=True,
    tables=True,
)
def atomic_feature_mimicking(weight: Weight, smoothing: float = 1.0) -> Decomposition:
    """Return the directions of the outputs, or of a table's rows, by their variance in the calibration texts.

    Args:
        weight: The weight, with the moments of its inputs.
        smoothing: The lookups that every row has from the start, above 0.
    """
    if not weight.table:
        return lord(weight)
    assert weight.moments is not None
    assert weight.moments.frequencies is not None
    share = weight.moments.frequencies + smoothing
    share = share / share.sum()
    mean = weight.matrix @ share
    centred = weight.matrix - mean[:, None]
    values, vectors = torch.linalg.eigh(centred * share @ centred.t())
    return keep_directions(weight.matrix, vectors.flip(1), values.flip(0).clamp_min(0.0), share)
