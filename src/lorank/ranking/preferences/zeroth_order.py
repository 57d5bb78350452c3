r"""Descent by rankings alone: an oracle orders perturbed points, and the order is a direction.

    g = \frac{1}{|E|} \sum_{(i, j) \in E} (\xi_j - \xi_i),   E: pairs that the order tells apart, x + \mu \xi_i before
    x + \mu \xi_j;    x \leftarrow x - \eta g

The order of m points with the k best distinguished has the pairs of the k among themselves and of each with all others.
Only the order is used, so any increasing transform of the objective gives the same steps.

Paper: Z. Tang, D. Rybin, T.-H. Chang, Zeroth-Order Optimization Meets Human Feedback: Provable Learning via Ranking
Oracles, ICLR 2024.

*Deviations*: the line search asks the oracle to rank x and points at rates falling by ``shrink``, and takes the best.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lorank.catalogue import catalogued
from lorank.errors import UsageError

Oracle = Callable[[Tensor], Sequence[int]]
"""From points [m, d] to their positions, best (lowest) first; at least the k best that are asked for."""


def ranked_direction(
    oracle: Oracle,
    x: Tensor,
    *,
    samples: int = 10,
    top: int | None = None,
    spread: float = 0.1,
    generator: torch.Generator,
) -> Tensor:
    """Return the direction g [d] in which the objective grows.

    Args:
        oracle: Orders points.
        x: Where to stand, [d].
        samples: m, points that are ordered, 2 or more.
        top: k, how many of the best the oracle tells apart; None for all.
        spread: mu above 0.
        generator: Where the perturbations come from.

    >>> ascending = lambda points: points.square().sum(1).argsort().tolist()
    >>> x = torch.tensor([3.0, 0.0])
    >>> bool(ranked_direction(ascending, x, samples=50, generator=torch.Generator().manual_seed(0))[0] > 0)
    True
    """
    top = samples if top is None else top
    if samples < 2 or not 1 <= top <= samples or not spread > 0:
        raise UsageError(
            f"samples must be 2 or more, top from 1 to samples, spread above 0; got {samples}, {top}, {spread}"
        )
    noise = torch.randn(samples, len(x), generator=generator, dtype=x.dtype)
    best = list(oracle(x + spread * noise))[:top]
    rest = [i for i in range(samples) if i not in set(best)]
    order = noise[[*best, *rest]]
    # a point at place p <= k is better than the m - p after it and worse than the p - 1 before; others lose to k
    place = torch.arange(samples, dtype=x.dtype)
    sign = torch.where(place < top, 2 * place - (samples - 1), torch.full_like(place, float(top)))
    pairs = top * (top - 1) / 2 + top * (samples - top)
    return sign @ order / pairs


@catalogued(
    "zo-ranksgd",
    area="losses.preference",
    title="Zeroth-Order Optimization Meets Human Feedback: Provable Learning via Ranking Oracles",
    reach="Python alone: it asks the caller's own function to rank points",
)
def ranked_descent(
    oracle: Oracle,
    x: Tensor,
    *,
    steps: int = 100,
    rate: float = 1.0,
    shrink: float = 0.5,
    tries: int = 6,
    samples: int = 10,
    top: int | None = None,
    spread: float = 0.1,
    generator: torch.Generator,
) -> Tensor:
    """Return where ``steps`` of descent lead from ``x`` [d], each with a line search by ranking.

    Args:
        oracle: Orders points.
        x: The start, [d].
        steps: How many.
        rate: eta, the largest rate tried, above 0.
        shrink: Factor between the rates tried, in (0, 1).
        tries: How many rates are tried.
        samples: m.
        top: k.
        spread: mu.
        generator: Where the perturbations come from.
    """
    if not rate > 0 or not 0 < shrink < 1 or tries < 1:
        raise UsageError(f"rate must be above 0, shrink in (0, 1), tries 1 or more; got {rate}, {shrink}, {tries}")
    rates = rate * shrink ** torch.arange(tries, dtype=x.dtype)
    for _ in range(steps):
        direction = ranked_direction(oracle, x, samples=samples, top=top, spread=spread, generator=generator)
        candidates = torch.cat([x.unsqueeze(0), x - rates.unsqueeze(1) * direction])
        x = candidates[next(iter(oracle(candidates)))]
    return x
