"""The factored layers of one model: sizes, optimizer, events, and dense layers in their places again."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lorank.lowrank.factored.core.layer import FactoredLayer
from lorank.lowrank.factored.core.row_adamw import RowAdamW
from lorank.lowrank.module_tree import replace_modules


@dataclass(frozen=True)
class LayerSize:
    """What one layer holds and costs.

    Attributes:
        path: The layer's path in the model.
        shape: The shape (out, in) of its weight.
        rank: Its rank.
        parameters: The trained values that stand for its weight.
        dense: The values of the weight, out in.
        flops: Multiplications and additions for one row.
        dense_flops: Those of the dense layer, 2 out in.
    """

    path: str
    shape: tuple[int, int]
    rank: int
    parameters: int
    dense: int
    flops: int
    dense_flops: int


class Factored:
    """The factored layers that ``make_factored`` put into a model.

    Attributes:
        model: The model.
        method: The name of the kind of layer.
        layers: The layers by path.
        options: All options of the method.
        seed: The seed of the draws.
    """

    def __init__(
        self, model: nn.Module, method: str, layers: Mapping[str, FactoredLayer], options: Mapping[str, Any], seed: int
    ) -> None:
        self.model, self.method, self.layers = model, method, dict(layers)
        self.options, self.seed = dict(options), seed

    def report(self) -> list[LayerSize]:
        """Return the size and the cost of every layer, by the method's formulas."""
        return [
            LayerSize(
                path,
                (layer.out_features, layer.in_features),
                layer.rank,
                layer.count(layer.out_features, layer.in_features, layer.rank, **self.options),
                layer.out_features * layer.in_features,
                layer.flops(layer.out_features, layer.in_features, layer.rank, **self.options),
                2 * layer.out_features * layer.in_features,
            )
            for path, layer in self.layers.items()
        ]

    def num_parameters(self) -> int:
        """Return how many values stand for the weights of all layers; biases are not counted."""
        return sum(row.parameters for row in self.report())

    def optimizer(self, groups: Any = None, **rates: Any) -> torch.optim.Optimizer:
        """Return the AdamW that these layers need, or the method's own optimizer.

        Args:
            groups: Parameters or groups; None takes all trained parameters of the model.
            **rates: ``lr``, ``betas``, ``eps``, ``weight_decay``.
        """
        if groups is None:
            groups = [p for p in self.model.parameters() if p.requires_grad]
        own = next(iter(self.layers.values())).optimizer_of(groups, self.layers, rates)
        if own is not None:
            return own
        axes = {parameter: axis for layer in self.layers.values() for parameter, axis in layer.sliced().items()}
        return RowAdamW(groups, axes, **rates) if axes else torch.optim.AdamW(groups, **rates)

    def after_step(self, step: int, steps: int, optimizer: torch.optim.Optimizer) -> int:
        """Run every layer's event after the optimizer's step; return how many layers were rewritten.

        What is drawn comes from the seed, the step and the layer's place, so a resumed run draws the same.

        Args:
            step: The number of steps that are done.
            steps: The number of steps of the run.
            optimizer: The optimizer that stepped.
        """
        changed = 0
        for place, layer in enumerate(self.layers.values()):
            generator = torch.Generator().manual_seed((self.seed * 1_000_003 + step) * 1_000_003 + place)
            changed += layer.after_step(step, steps, optimizer, generator)
        return changed

    def merge(self) -> nn.Module:
        """Put dense ``nn.Linear`` layers back in all places, and return the model."""
        replace_modules(self.model, [(layer, to_linear(layer)) for layer in self.layers.values()])
        return self.model

    def state(self) -> Iterator[tuple[str, Tensor]]:
        """Yield the name and the value of every tensor of the layers; biases are the model's."""
        for path, layer in self.layers.items():
            for name, value in layer.state_dict().items():
                if name != "bias":
                    yield f"{path}.{name}", value


def to_linear(layer: FactoredLayer) -> nn.Linear:
    """Return the ``nn.Linear`` that a factored layer stands for."""
    with torch.no_grad():
        weight = layer.dense().detach().contiguous()
    made = nn.Linear(1, 1, bias=False, device="meta")
    made.in_features, made.out_features = layer.in_features, layer.out_features
    made.weight = nn.Parameter(weight)
    made.bias = layer.bias
    return made.train(layer.training)
