"""The singular vectors of a frozen weight, for forms that work in its own basis."""

import torch

from lorank.lowrank.forms.form import Site
from lorank.lowrank.linalg import SVD, top_k_svd


def principal_triplets(site: Site, k: int) -> SVD:
    """Return the k largest singular triplets of the site's weight W [out, in], in the dtype of updates.

    They are computed in float64 whatever W is stored in: forms do not save them but compute them again when
    they are loaded, and rounding must not turn the vectors of close singular values into one another.
    """
    svd = top_k_svd(site.base.weight.to(torch.float64), k)
    return SVD(*(part.to(site.dtype) for part in svd))
