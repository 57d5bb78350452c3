"""Budgets with one number a layer: what they share in scoring layers and choosing the best of them."""

from collections.abc import Mapping

import torch
from torch import Tensor

from lorank.lowrank.forms.gated import Gated


def steepness(gradients: Tensor) -> Tensor:
    """Return ``gradients`` divided by their root mean square, or as they are where that is 0.

    >>> steepness(torch.tensor([3.0, -3.0]))
    tensor([ 1., -1.])
    """
    size = gradients.square().mean().sqrt()
    return gradients / size if size > 0 else gradients


def fill_best(scores: Mapping[str, float], forms: Mapping[str, Gated], total: int) -> dict[str, int]:
    """Return ranks that give the layers of highest score all their components until ``total`` is spent."""
    ranks = dict.fromkeys(scores, 0)
    for path in sorted(scores, key=lambda path: -scores[path]):
        ranks[path] = min(forms[path].components, total - sum(ranks.values()))
    return ranks


def switch_to(forms: Mapping[str, Gated], ranks: Mapping[str, int]) -> None:
    """Turn on the first components of each layer, as many as ``ranks`` says."""
    for path, form in forms.items():
        form.switch(torch.arange(form.components, device=form.mask.device) < ranks[path])


def factor_gradient(gradient: Tensor, B: Tensor) -> Tensor:
    """Return sum_o b_oi dL/db_oi [R]: the derivative by a factor on component i, where that factor is 1."""
    return (gradient * B).sum(0)
