r"""Losses under noise: perturbed scores smooth a loss, and show what the order might have been.

    l(s) = \frac{1}{M} \sum_{m=1}^{M} l_0(s + \beta z^{(m)}, y)

Noise belongs to places of the list in its own order (:func:`lorank.ranking.losses.core.lists.canonicalise`), so that a
noisy loss is as equivariant as any other. Without a generator the same noise serves every call: the loss is a pure
function, training resumes exactly, and every step compares the same perturbed orders. With a generator every call
and every list draws its own.

Paper: S. Bruch, S. Han, M. Bendersky, M. Najork, A Stochastic Treatment of Learning to Rank Scoring Functions,
WSDM 2020.
"""

import torch
from torch import Tensor

from lorank.ranking.losses.core.lists import Lists, canonicalise, check_positive, choose, clean
from lorank.ranking.losses.core.registry import Loss


def _gumbel(uniform: Tensor) -> Tensor:
    return -torch.log(-torch.log(uniform))


def _logistic(uniform: Tensor) -> Tensor:
    return torch.log(uniform) - torch.log1p(-uniform)


def _normal(uniform: Tensor) -> Tensor:
    quantile: Tensor = torch.special.ndtri(uniform)
    return quantile


NOISES = {"gumbel": _gumbel, "logistic": _logistic, "normal": _normal}
"""Standard noise of each kind from uniform numbers between 0 and 1."""


def draw(lists: Lists, samples: int, kind: str, generator: torch.Generator | None) -> Tensor:
    """Return noise [samples, batch, list] ([samples, 1, list] without a generator) for places of canonical lists.

    Args:
        lists: The canonical lists, of scores [batch, list].
        samples: The number of draws per list, 1 or more.
        kind: The name of a distribution in ``NOISES``.
        generator: The source of the draws; None draws one row from seed 0 that all lists share.

    Raises:
        UsageError: If ``kind`` is not a name in ``NOISES``.
    """
    source = torch.Generator().manual_seed(0) if generator is None else generator
    batch, size = lists.scores.shape
    shape = (size, samples, 1 if generator is None else batch)
    uniform = torch.rand(shape, generator=source, device=source.device, dtype=torch.float32)
    uniform = uniform.to(lists.scores).clamp(1e-7, 1 - 1e-7)
    return choose("noise", kind, NOISES)(uniform).permute(1, 2, 0)


def average_over_noise(
    base: Loss, *, noise: str = "gumbel", samples: int = 8, beta: float = 1.0, generator: torch.Generator | None = None
) -> Loss:
    """Return the mean of a loss over perturbed scores.

    Args:
        base: Any loss of (scores, labels, mask, weights).
        noise: ``gumbel`` (orders are then drawn from Plackett and Luce's model), ``logistic`` or ``normal``.
        samples: Perturbations M, 1 or more.
        beta: Size of the noise, above 0.
        generator: Where noise comes from; None for the same noise at every call.

    >>> from lorank.ranking.losses import loss
    >>> function = average_over_noise(loss("approxndcg", temperature=0.1), samples=4)
    >>> function(torch.tensor([[2.0, 1.0]]), torch.tensor([[1.0, 0.0]])).shape
    torch.Size([])
    """
    check_positive(samples=samples, beta=beta)
    choose("noise", noise, NOISES)

    def perturbed(scores: Tensor, labels: Tensor, mask: Tensor | None = None, weights: Tensor | None = None) -> Tensor:
        lists = canonicalise(clean(scores, labels, mask, weights))
        shaken = lists.scores + beta * draw(lists, samples, noise, generator)
        given = lists.item_weights if lists.list_weights is None else lists.list_weights
        repeated = None if given is None else given.repeat(samples, *[1] * (given.dim() - 1))
        return base(shaken.flatten(0, 1), lists.labels.repeat(samples, 1), lists.mask.repeat(samples, 1), repeated)

    return perturbed
