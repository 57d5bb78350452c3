"""What a model was made into: ranks, sizes and errors of its layers."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from lorank.layers import GridLinear
from lorank.lowrank.shrink.core.decomposition import Decomposition
from lorank.lowrank.shrink.core.on_grid import stored_bytes
from lorank.lowrank.shrink.core.ranks import Ranks
from lorank.lowrank.shrink.core.shrinker import Shrinker
from lorank.lowrank.shrink.core.trial import shape_of


@dataclass(frozen=True)
class ShrunkLayer:
    """One layer: its ``shape`` [out, in], its ``rank`` (None stays dense), and the relative error in the metric."""

    path: str
    shape: tuple[int, int]
    rank: int | None
    error: float


@dataclass(frozen=True)
class Shrunk:
    """What a model was made into.

    Args:
        method: The method.
        ranks: The policy that chose the ranks.
        weights: The weights of the shrunk layers before and after, biases left out.
        bytes: Their bytes before and after.
        layers: Every layer.
    """

    method: str
    ranks: str
    weights: tuple[int, int]
    bytes: tuple[int, int]
    layers: tuple[ShrunkLayer, ...]

    @property
    def ratio(self) -> float:
        """The share of the weights that is kept."""
        return self.weights[1] / self.weights[0]


def report(
    method: Shrinker,
    policy: str,
    layers: Mapping[str, nn.Module],
    parts: Mapping[str, Decomposition],
    ranks: Ranks,
    kept: Mapping[str, GridLinear],
) -> Shrunk:
    """Return the report of what ``factorize`` does.

    Args:
        method: The method.
        policy: The name of the choice of ranks.
        layers: The layers as they were, by path.
        parts: Their decompositions.
        ranks: Their ranks, None for those that stay.
        kept: Those that stay on a grid.
    """
    rows, before, after, stored = [], 0, 0, 0
    width = next(iter(layers.values())).get_parameter("weight").element_size()
    for path, layer in layers.items():
        shape, rank = shape_of(layer), ranks[path]
        whole = shape[0] * shape[1]
        before += whole
        own = whole if rank is None else rank * sum(shape) + (whole if path in kept else 0)
        after += own
        stored += width * (rank or 0) * sum(shape) + stored_bytes(kept[path]) if path in kept else width * own
        total = max(float(parts[path].worth.sum()), 1e-300)
        rows.append(ShrunkLayer(path, shape, rank, 0.0 if rank is None else max(0.0, parts[path].error(rank)) / total))
    return Shrunk(method.name, policy, (before, after), (width * before, stored), tuple(rows))
