r"""StochasticRank: an unbiased gradient of expected nDCG under noise on the scores.

    L(s) = - E_z nDCG(s + \sigma z),   z standard normal

For every noise drawn, the noise of document j itself is integrated out: with the others fixed at
x_i = s_i + \sigma z_i, j passing x_i swaps neighbours, so

    dL/ds_j = - E \sum_i (G_j - G_i) (1/D(p_{ij}) - 1/D(p_{ij} + 1)) \phi((x_i - s_j) / \sigma) / \sigma

with G = gain / idealDCG@k, p_ij the place of i among the documents other than j, and \phi the normal density. The loss
itself is a step function of a noise drawn, which is why this is a gradient and not a loss of the registry; boosting
and ``scores.backward(gradient)`` take it as it is.

Paper: A. Ustimenko, L. Prokhorenkova, StochasticRank: Global Optimization of Scale-Free Discrete Functions, ICML 2020.

*Deviations*: the paper's further steps for boosting (removal of the scale's direction, Langevin noise) are left to
the booster.
"""

import math

import torch
from torch import Tensor

from lorank.ranking.losses.core.lists import Lists, canonicalise, check_positive, clean, discounts, normalized_gains
from lorank.ranking.losses.core.noise import draw
from lorank.ranking.losses.core.pairs import pair_blocks


def stochastic_rank_gradient(
    scores: Tensor,
    labels: Tensor,
    mask: Tensor | None = None,
    weights: Tensor | None = None,
    *,
    sigma: float = 1.0,
    samples: int = 10,
    k: int | None = None,
    gain: str = "exponential",
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return the gradient of minus the expected nDCG, averaged over lists that carry signal, by the scores.

    Args:
        scores: [batch, list].
        labels: Grades [batch, list], 0 and up.
        mask: bool [batch, list], True where there is a document.
        weights: [batch] or [batch, list]; a document's weight multiplies its gradient.
        sigma: Size of the noise, above 0.
        samples: Noises averaged, 1 or more.
        k: Of nDCG@k; 1 or more.
        gain: ``exponential`` (2^y - 1) or ``linear``.
        generator: Where noise comes from; None for the same noise at every call.

    Returns:
        [batch, list], 0 where masked.

    >>> gradient = stochastic_rank_gradient(torch.zeros(1, 3), torch.tensor([[0.0, 2.0, 1.0]]))
    >>> bool(gradient[0, 1] < 0 < gradient[0, 0])
    True
    """
    check_positive(sigma=sigma, samples=samples, k=k)
    scores = scores.detach().requires_grad_()
    with torch.enable_grad():
        lists = canonicalise(clean(scores, labels, mask, weights))
    gains = normalized_gains(lists, gain, k)
    with torch.no_grad():
        total = torch.zeros_like(lists.scores)
        for noise in draw(lists, samples, "normal", generator):
            total += _of_one_noise(lists, lists.scores + sigma * noise, gains, sigma, k)
        total = lists.weigh(total / samples) * lists.signal.unsqueeze(1) / lists.signal.sum().clamp(min=1)
        if lists.list_weights is not None:
            total *= lists.list_weights.unsqueeze(1)
    (gradient,) = torch.autograd.grad(lists.scores, scores, total)
    return gradient


def _of_one_noise(lists: Lists, shaken: Tensor, gains: Tensor, sigma: float, k: int | None) -> Tensor:
    shaken = lists.fill(shaken, -torch.inf)
    place = shaken.argsort(dim=1, descending=True, stable=True).argsort(dim=1).to(gains.dtype) + 1
    gradient = torch.zeros_like(gains)
    for block, rows in pair_blocks(gains):
        own, others = (slice(None), rows, None), (slice(None), None)
        p = place[block][others] - (place[block][own] < place[block][others]).to(gains.dtype)
        change = (gains[block][own] - gains[block][others]) * (discounts(p, k) - discounts(p + 1, k))
        density = torch.exp(-((shaken[block][others] - lists.scores[block][own]) / sigma).square() / 2)
        swaps = (place[block][own] != place[block][others]) & lists.mask[block][others]
        gradient[block, rows] = -torch.where(swaps, change * density, 0.0).sum(2) / (sigma * math.sqrt(2 * math.pi))
    return gradient
