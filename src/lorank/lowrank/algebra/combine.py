r"""Several adapters of one base made into one: linear, by SVD, TIES, DARE.

    linear    dW = sum_i w_i dW_i                                       exact on the factors; the ranks add up
    svd       the best approximation of that sum at a chosen rank       on the factors
    ties      trim each w_i dW_i to its largest entries, elect the sign of their sum entry by entry, and take n
              times the mean of the entries of that sign: equal updates with weights 1 / n stay what they are
    dare      drop each entry of dW_i with probability 1 - density, divide the others by density, sum with w_i

TIES and DARE speak of single entries, so dW is written out, one layer at a time, and cut off by SVD after.
Scales are part of dW_i: adapters of different alpha or rank combine as what they do to W. A layer that an
adapter lacks counts as 0 there.

Yadav et al., TIES-Merging: Resolving Interference When Merging Models, 2023, arXiv:2306.01708. Yu et al.,
Language Models are Super Mario: Absorbing Abilities from Homologous Models as a Free Lunch, 2023,
arXiv:2311.03099.

*Deviations*: PEFT trims and drops in A and B apart, which is not the papers' task vector.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lorank.errors import UsageError, unknown_name
from lorank.lowrank.algebra.factors import cut, dense_update, total, truncate
from lorank.lowrank.algebra.sets import FactorSet, Heads
from lorank.lowrank.forms.form import Factors, seeded_generator
from lorank.lowrank.linalg import top_k_svd

Combination = Callable[[Sequence[Factors], Sequence[float], float, torch.Generator], Factors | Tensor]

COMBINATIONS: dict[str, Combination] = {}
"""Every way of combining by name: (updates of one layer, weights, density, generator) -> factors or dW."""


def combination(name: str) -> Callable[[Combination], Combination]:
    """Decorate a function to register it as a way of combining."""

    def enter(function: Combination) -> Combination:
        COMBINATIONS[name] = function
        return function

    return enter


def combine(
    sets: Sequence[FactorSet],
    weights: Sequence[float] | None = None,
    method: str = "linear",
    *,
    rank: int | None = None,
    energy: float | None = None,
    density: float = 0.5,
    seed: int = 0,
) -> dict[str, Factors]:
    """Return one set of updates made of several.

    Args:
        sets: the updates of each adapter, by layer.
        weights: w_i of each adapter; None takes 1 / n each, the average.
        method: ``linear``, ``svd``, ``ties`` or ``dare``.
        rank: the highest rank of the result; ``svd`` needs it or ``energy``. None keeps what the method gives.
        energy: the share of the squared norm to keep, in (0, 1].
        density: the share of entries that ``ties`` and ``dare`` keep, in (0, 1].
        seed: of the entries that ``dare`` drops.

    >>> one = {"layer": Factors(torch.ones(1, 2), torch.ones(2, 1), 1.0)}
    >>> dense_update(combine([one, one], [1.0, 2.0])["layer"])[0].tolist()
    [3.0, 3.0]
    """
    if not sets:
        raise UsageError("there is no adapter to combine; give one at least")
    if method not in COMBINATIONS:
        raise unknown_name("way of combining adapters", method, COMBINATIONS)
    if not 0 < density <= 1:
        raise UsageError(f"density {density!r} is not in (0, 1]")
    if method == "svd" and rank is None and energy is None:
        raise UsageError("combining by SVD needs a rank or an energy at which to cut off")
    weights = weights_of(sets, weights)
    combined = {}
    for path in dict.fromkeys(path for own in sets for path in own):
        present = [(own[path], weight) for own, weight in zip(sets, weights, strict=True) if path in own]
        terms, shares = [term for term, _ in present], [weight for _, weight in present]
        result = COMBINATIONS[method](terms, shares, density, seeded_generator(seed, "combine", path))
        if isinstance(result, Tensor):
            most = sum(term.A.shape[0] for term in terms) if rank is None else rank
            combined[path] = cut(top_k_svd(result, most), most, energy)
        else:
            combined[path] = result if rank is None and energy is None else truncate(result, rank, energy)
    return combined


def weights_of(sets: Sequence[object], weights: Sequence[float] | None) -> list[float]:
    """Return one weight for each of ``sets``: the given ones, or equal shares."""
    if weights is None:
        return [1 / len(sets)] * len(sets)
    if len(weights) != len(sets):
        raise UsageError(f"{len(weights)} weights do not fit {len(sets)} adapters; give one each")
    return [float(weight) for weight in weights]


def combine_heads(heads: Sequence[Heads], weights: Sequence[float] | None = None) -> dict[str, dict[str, Tensor]]:
    """Return the average of modules trained whole, weighted by ``weights`` over their sum.

    >>> one, two = ({"head": {"bias": torch.tensor([value])}} for value in (1.0, 4.0))
    >>> combine_heads([one, two], [2.0, 1.0])["head"]["bias"].item()
    2.0
    """
    shares = weights_of(heads, weights)
    names = {frozenset(head) for head in heads}
    if len(names) > 1 or not sum(shares):
        raise UsageError("the adapters train different modules whole, or their weights add up to 0")
    first = heads[0]
    return {
        path: {
            key: _average([head[path][key] for head in heads], [share / sum(shares) for share in shares])
            for key in tensors
        }
        for path, tensors in first.items()
    }


def _average(tensors: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    if not tensors[0].is_floating_point():
        return tensors[0]
    total = sum((share * tensor for share, tensor in zip(shares, tensors, strict=True)), torch.zeros(()))
    return total.to(tensors[0].dtype)


@combination("linear")
def linear(terms: Sequence[Factors], weights: Sequence[float], density: float, generator: torch.Generator) -> Factors:
    """Return sum_i w_i dW_i.

    Args:
        terms: The updates dW_i of one layer.
        weights: The weight w_i of each update.
        density: It is not used.
        generator: It is not used.
    """
    return total(terms, weights)


combination("svd")(linear)


@combination("ties")
def ties(terms: Sequence[Factors], weights: Sequence[float], density: float, generator: torch.Generator) -> Tensor:
    """Return the disjoint mean of the trimmed updates, dense [out, in].

    Args:
        terms: The updates dW_i of one layer.
        weights: The weight w_i of each update.
        density: The share of entries of each update, in (0, 1], that is kept.
        generator: It is not used.
    """
    trimmed = torch.stack(
        [trim(weight * dense_update(term), density) for term, weight in zip(terms, weights, strict=True)]
    )
    sign = trimmed.sum(0).sign()
    agreeing = torch.where(trimmed.sign() == sign, trimmed, 0.0)
    mean = agreeing.sum(0) / (agreeing != 0).sum(0).clamp_min(1)
    return len(terms) * mean


@combination("dare")
def dare(terms: Sequence[Factors], weights: Sequence[float], density: float, generator: torch.Generator) -> Tensor:
    """Return the weighted sum of randomly thinned updates, dense [out, in].

    Args:
        terms: The updates dW_i of one layer.
        weights: The weight w_i of each update.
        density: The probability, in (0, 1], with which an entry is kept.
        generator: The source of the draws.
    """
    result = torch.zeros_like(dense_update(terms[0]))
    for term, weight in zip(terms, weights, strict=True):
        delta = dense_update(term)
        kept = torch.rand(delta.shape, generator=generator).to(delta.device) < density
        result += weight / density * delta * kept
    return result


def trim(delta: Tensor, density: float) -> Tensor:
    """Return ``delta`` with only its ``density`` largest entries by magnitude.

    >>> trim(torch.tensor([[3.0, -1.0], [0.5, -4.0]]), 0.5).tolist()
    [[3.0, 0.0], [0.0, -4.0]]
    """
    count = max(round(density * delta.numel()), 1)
    if count >= delta.numel():
        return delta
    flat = delta.flatten()
    kept = flat.abs().topk(count).indices
    return torch.zeros_like(flat).index_copy(0, kept, flat[kept]).view_as(delta)
