r"""PELA: a trained model is cut to low rank and taught by itself before, and while, it is tuned.

    W ~ B A of rank out in / (factor (out + in)), from the SVD with the root of S on both sides
    loss + features * mean MSE(B A x, W x) + bound * sum relu( max |B A - W| - eps )

The original weights stay, frozen, as the teacher. ``scores`` is the weight with which a caller adds a distillation of
the outputs; of rankers that is a listwise one, KL( softmax teacher || softmax student ) over each list.

Guo et al., PELA: Learning Parameter-Efficient Models with Low-Rank Approximation, 2023, arXiv:2310.10700.

*Deviations*: features are compared layer by layer on the student's own inputs, which needs no second forward pass; the
published penalty also pushes a deviation below eps up to it, here it is 0 there. It is 0 at the start where ``eps``
None takes the largest deviation of the start.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lorank.catalogue import catalogued
from lorank.errors import UsageError
from lorank.lowrank.compression.core import Compression, compression
from lorank.lowrank.factored.core.layer import Pair, break_even
from lorank.lowrank.factored.core.model import to_linear
from lorank.lowrank.module_tree import replace_modules


class TaughtLayer(Pair):
    """Two factors beside the frozen weight that they were cut from."""

    original: Tensor

    def __init__(self, layer: nn.Linear, rank: int) -> None:
        super().__init__(layer, rank, start="svd", generator=torch.Generator())
        self.register_buffer("original", layer.weight.detach().clone(), persistent=False)
        self.teaching, self.compares = False, False
        self.gap: Tensor | None = None
        self.eps = float((self.dense() - self.original).detach().abs().max())

    def forward(self, x: Tensor) -> Tensor:
        """Return B A x + b, or W x + b while teaching; the squared difference is kept where it is asked for."""
        if self.teaching:
            return F.linear(x, self.original, self.bias)
        y = F.linear(F.linear(x, self.A), self.B)
        if self.compares:
            self.gap = (y - F.linear(x, self.original).detach()).float().square().mean()
        return y if self.bias is None else y + self.bias.to(y.dtype)


@compression("pela")
@catalogued("pela", area="compress", title="PELA: Learning Parameter-Efficient Models with Low-Rank Approximation")
class Pela(Compression):
    """Low-rank factors taught by the weights that they came from.

    Args:
        model: The model, whose layers are replaced by factors.
        layers: The layers.
        steps: The steps of the run.
        seed: Nothing is drawn.
        factor: How many times fewer values a layer has than dense, above 1.
        features: The weight of the layers' distillation, 0 or more.
        scores: The weight of the outputs' distillation, which the caller adds, 0 or more.
        bound: The weight of the bound on the change of weights, 0 or more.
        eps: The bound; None is each layer's largest deviation at the start.
    """

    factored = True

    def __init__(
        self,
        model: nn.Module,
        layers: Mapping[str, nn.Linear],
        steps: int,
        seed: int,
        *,
        factor: float = 3.0,
        features: float = 1.0,
        scores: float = 1.0,
        bound: float = 1.0,
        eps: float | None = None,
    ) -> None:
        super().__init__(model, layers, steps, seed)
        if not factor > 1 or min(features, scores, bound) < 0:
            raise UsageError(f"factor={factor:g} is above 1; features, scores and bound are 0 or more")
        self.features, self.scores, self.bound = features, scores, bound
        ranks = {path: int(break_even(*shape) / factor) for path, shape in self.shapes.items()}
        small = next((path for path, rank in ranks.items() if rank < 1), None)
        if small is not None:
            raise UsageError(
                f"layer {small} {self.shapes[small]}: factor={factor:g} leaves less than one rank; exclude it"
            )
        self.taught = {path: TaughtLayer(layer, ranks[path]) for path, layer in self.layers.items()}
        if eps is not None:
            for layer in self.taught.values():
                layer.eps = eps
        replace_modules(model, [(layer, self.taught[path]) for path, layer in self.layers.items()])

    def before_step(self, step: int) -> None:
        """Let the layers compare themselves with their teachers in this step."""
        for layer in self.taught.values():
            layer.compares, layer.gap = True, None

    def penalty(self) -> Tensor | None:
        """Return the distillation of the layers that the forward pass went through, and the bound on the weights."""
        gaps = [layer.gap for layer in self.taught.values() if layer.gap is not None]
        parts = [self.features * torch.stack(gaps).mean()] if gaps else []
        parts += [self.bound * excess(layer) for layer in self.taught.values()] if self.bound else []
        return torch.stack(parts).sum() if parts else None

    def after_backward(self) -> None:
        """Stop comparing."""
        for layer in self.taught.values():
            layer.compares, layer.gap = False, None

    @contextmanager
    def original(self) -> Iterator[None]:
        """Within it the teacher answers."""
        for layer in self.taught.values():
            layer.teaching = True
        try:
            yield
        finally:
            for layer in self.taught.values():
                layer.teaching = False

    def finish(self) -> None:
        """Do nothing: ranks are what they were from the start."""

    def ranks(self) -> dict[str, int]:
        """Return the rank of each layer's factors."""
        return {path: layer.rank for path, layer in self.taught.items()}

    def merge(self) -> None:
        """Put the products of the factors in their places."""
        replace_modules(self.model, [(layer, to_linear(layer)) for layer in self.taught.values()])


def excess(layer: TaughtLayer) -> Tensor:
    """Return by how much the largest entry of |B A - W| exceeds the layer's bound, 0 within it."""
    return torch.relu((layer.dense() - layer.original).abs().max() - layer.eps)
