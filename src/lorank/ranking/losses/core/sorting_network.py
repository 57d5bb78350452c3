r"""Sorting networks that one can differentiate: every comparison swaps a little.

A network is a sequence of layers of comparators (u, l): after the layer, wire u should hold the larger value. With
x_u, x_l the values and p = f(steepness (x_l - x_u)) the chance of a swap, a comparator leaves

    x_u' = (1 - p) x_u + p x_l,   x_l' = p x_u + (1 - p) x_l,   f(z) = 1/2 + arctan(z) / \pi

Each layer is a doubly stochastic matrix, and so is their product P, the soft permutation (row: place, column: wire),
which goes to the hard one as the steepness grows.

Paper: F. Petersen, C. Borgelt, H. Kuehne, O. Deussen, Differentiable Sorting Networks for Scalable Sorting and Ranking
Supervision, ICML 2021; Monotonic Differentiable Sorting Networks, ICLR 2022 (the Cauchy f, which is monotonic).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor


@dataclass(frozen=True)
class Layer:
    """Comparators (upper, lower), and the smallest list that has them: shorter lists skip the layer."""

    upper: tuple[int, ...]
    lower: tuple[int, ...]
    smallest: int


@lru_cache(maxsize=64)
def odd_even(size: int) -> tuple[Layer, ...]:
    """Return the odd-even transposition network of ``size`` wires: ``size`` layers of neighbours.

    >>> [(layer.upper, layer.lower) for layer in odd_even(3)]
    [((0,), (1,)), ((1,), (2,)), ((0,), (1,))]
    """
    return tuple(
        Layer(tuple(range(depth % 2, size - 1, 2)), tuple(range(depth % 2 + 1, size, 2)), depth + 1)
        for depth in range(size)
    )


@lru_cache(maxsize=64)
def bitonic(size: int) -> tuple[Layer, ...]:
    """Return the bitonic network on the next power of two: m (m + 1) / 2 layers for 2^m wires.

    >>> len(bitonic(4)), len(bitonic(1000))
    (3, 55)
    """
    wires, layers = 1 << max(0, size - 1).bit_length(), []
    for stage in (2**m for m in range(1, wires.bit_length())):
        step = stage // 2
        while step:
            pairs = [(i, i | step) if not i & stage else (i | step, i) for i in range(wires) if not i & step]
            upper, lower = zip(*pairs)
            layers.append(Layer(upper, lower, stage // 2 + 1))
            step //= 2
    return tuple(layers)


NETWORKS: dict[str, Callable[[int], tuple[Layer, ...]]] = {"odd-even": odd_even, "bitonic": bitonic}


def swap_chances(
    values: Tensor, mask: Tensor, layers: tuple[Layer, ...], steepness: float
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Send values through the network.

    Args:
        values: [batch, wires].
        mask: bool [batch, wires]; empty wires lose every comparison outright.
        layers: The network; lists shorter than a layer's ``smallest`` pass it unchanged.
        steepness: Above 0.

    Returns:
        For every layer the upper wires, the lower wires, and the chances [batch, comparators] that they swapped.
    """
    sizes, chances = mask.sum(1, keepdim=True), []
    for layer in layers:
        upper = torch.tensor(layer.upper, device=values.device, dtype=torch.long)
        lower = torch.tensor(layer.lower, device=values.device, dtype=torch.long)
        above, below = values[:, upper], values[:, lower]
        full_above, full_below = mask[:, upper], mask[:, lower]
        chance = torch.atan2(torch.ones_like(above), steepness * (above - below)) / math.pi
        chance = torch.where(full_above & full_below, chance, (full_below & ~full_above).to(chance))
        active = sizes >= layer.smallest
        chance = torch.where(active, chance, 0.0)
        values = values.index_copy(1, upper, torch.lerp(above, below, chance))
        values = values.index_copy(1, lower, torch.lerp(below, above, chance))
        mask = mask.index_copy(1, upper, full_above | (full_below & active))
        mask = mask.index_copy(1, lower, full_below & (full_above | ~active))
        chances.append((upper, lower, chance))
    return chances


def send_back(columns: Tensor, chances: list[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """Return P^T columns, [batch, wires, n]: what each wire has at the places that ``columns`` mark."""
    for upper, lower, chance in reversed(chances):
        above, below = columns[:, upper], columns[:, lower]
        weight = chance.unsqueeze(2)
        columns = columns.index_copy(1, upper, torch.lerp(above, below, weight))
        columns = columns.index_copy(1, lower, torch.lerp(below, above, weight))
    return columns
