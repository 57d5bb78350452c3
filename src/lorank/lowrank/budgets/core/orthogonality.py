"""The penalty that keeps components apart: ||A A^T - I||^2 + ||B^T B - I||^2."""

from collections.abc import Iterable

import torch
from torch import Tensor

from lorank.lowrank.forms.gated import Gated


def orthogonality(forms: Iterable[Gated]) -> Tensor:
    """Return the mean over layers of ||A A^T - I||_F^2 + ||B^T B - I||_F^2, over all components.

    Layers of one shape are taken together.
    """
    groups: dict[tuple[int, ...], list[Tensor]] = {}
    layers = 0
    for form in forms:
        layers += 1
        for factor in (form.A, form.B.t()):
            groups.setdefault(tuple(factor.shape), []).append(factor)
    total = [_distance(torch.stack(group)) for group in groups.values()]
    return torch.stack(total).sum() / max(1, layers)


def _distance(factors: Tensor) -> Tensor:
    gram = factors @ factors.transpose(1, 2)
    return (gram - torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)).square().sum()
