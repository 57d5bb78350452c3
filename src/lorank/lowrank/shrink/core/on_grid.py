"""Weights that stay on a grid of few bits while factors take their rounding error back."""

from collections.abc import Mapping

from torch import nn

from lorank.errors import UsageError
from lorank.layers import GridLinear
from lorank.lowrank.base import BaseLinear


def put_on_grid(layers: Mapping[str, nn.Module], grid: str, method: str) -> dict[str, GridLinear]:
    """Return each layer on ``grid``, without factors.

    Args:
        layers: Linear layers by path.
        grid: ``fp4`` or ``fp8``.
        method: The shrinking method, whose name says whether inputs are rounded.
    """
    made = {}
    for path, layer in layers.items():
        if isinstance(layer, nn.Embedding):
            raise UsageError(
                f"layer {path} is a table of vectors, which no grid holds; take another method or exclude it"
            )
        base = BaseLinear(layer)
        made[path] = GridLinear.of(
            base.weight.detach(), base.bias, grid, group=256, round_inputs=method == "zeroquant-fp"
        )
    return made


def grid_rank(layer: GridLinear, ratio: float, path: str) -> int:
    """Return the rank at which a layer on a grid has at most ``ratio`` of the bytes of float32."""
    room = 4 * ratio * layer.out_features * layer.in_features - stored_bytes(layer)
    rank = int(room // (4 * (layer.in_features + layer.out_features)))
    if rank < 1:
        least = (stored_bytes(layer) + 4 * (layer.in_features + layer.out_features)) / (
            4 * layer.out_features * layer.in_features
        )
        raise UsageError(f"ratio {ratio} is below one rank for layer {path} on its grid; write {least:.3f} or more")
    return min(rank, layer.in_features, layer.out_features)


def stored_bytes(layer: GridLinear) -> int:
    """Return the bytes of a grid weight: codes and scales."""
    return sum(part.numel() * part.element_size() for part in (layer.codes, layer.row, layer.exponents))
