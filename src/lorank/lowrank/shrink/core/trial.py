"""The layers of a model with their decompositions: from them models of any ranks are built, and put back."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lorank.layers import FactoredEmbedding, FactoredLinear, GridLinear
from lorank.lowrank.base import BaseLinear
from lorank.lowrank.module_tree import replace_modules
from lorank.lowrank.shrink.core.decomposition import Decomposition
from lorank.lowrank.shrink.core.ranks import RankProblem

OrderLoss = Callable[[nn.Module], float]
"""How much of the order a model loses against the one that is shrunk, 0 or more; 0 for that one itself."""


def shape_of(layer: nn.Module) -> tuple[int, int]:
    """Return [out, in]; of a table [dim, rows]."""
    if isinstance(layer, nn.Embedding):
        return layer.embedding_dim, layer.num_embeddings
    base = BaseLinear(layer)
    return base.out_features, base.in_features


def matrix_of(layer: nn.Module) -> Tensor:
    """Return W [out, in] in float64; of a table its transpose."""
    weight = layer.get_parameter("weight").t() if isinstance(layer, nn.Embedding) else BaseLinear(layer).weight
    return weight.detach().double()


@dataclass(frozen=True)
class Trial:
    """Layers and their decompositions, from which models of any ranks are built."""

    model: nn.Module
    layers: Mapping[str, nn.Module]
    parts: Mapping[str, Decomposition]
    kept: Mapping[str, GridLinear]
    order_loss: OrderLoss | None

    def build(self, ranks: Mapping[str, int | None]) -> dict[str, nn.Module]:
        """Return the new layers of ``ranks``; where a rank is None the layer stays, and is left out."""
        return {path: self._layer(path, rank) for path, rank in ranks.items() if rank is not None}

    def _layer(self, path: str, rank: int) -> nn.Module:
        old: Any = self.layers[path]
        factors = self.parts[path].factors(rank)
        weight = old.get_parameter("weight")
        first, second = (part.to(weight.dtype).contiguous() for part in (factors.first, factors.second))
        if isinstance(old, nn.Embedding):
            shift = torch.zeros(len(second)) if factors.shift is None else factors.shift
            return FactoredEmbedding.of(first.t(), second, shift.to(weight), old.padding_idx).train(old.training)
        bias = None if old.bias is None else old.bias.detach().clone()
        if factors.shift is not None:
            bias = (factors.shift if bias is None else bias.double() + factors.shift).to(weight.dtype)
        if path in self.kept:
            return self.kept[path].with_factors(first, second, bias).train(old.training)
        return FactoredLinear.of(first, second, bias).train(old.training)

    def measure(self, ranks: Mapping[str, int | None]) -> float:
        """Return the loss of order with ``ranks`` and every other layer as it is; the model is put back."""
        assert self.order_loss is not None
        pairs = [(self.layers[path], new) for path, new in self.build(ranks).items()]
        replace_modules(self.model, pairs)
        try:
            return float(self.order_loss(self.model))
        finally:
            replace_modules(self.model, [(new, old) for old, new in pairs])

    def problem(self, ratio: float) -> RankProblem:
        """Return what a policy decides on."""
        shapes = {path: shape_of(layer) for path, layer in self.layers.items()}
        return RankProblem(
            shapes,
            {path: part.worth for path, part in self.parts.items()},
            {path: torch.linalg.svdvals(part.weight) for path, part in self.parts.items()},
            ratio,
            None if self.order_loss is None else self.measure,
        )
