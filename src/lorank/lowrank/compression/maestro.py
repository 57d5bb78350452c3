r"""Maestro: factors whose components are ordered while they are trained, so that the last ones can be dropped.

    W = B A, of full width d = min(out, in);   each step one layer uses only its first b components, b drawn evenly
    loss + hierarchy * mean over layers, factors and i of ||B[:, i:]||, ||A[i:, :]||
    at the end the components of least importance ||b_i|| ||a_i|| are dropped, as many as have the share ``cut`` of all
    squared importances together

Sampling prefixes makes each component carry what the ones before it leave (on isotropic inputs and a linear map that is
the SVD); the hierarchical group lasso sends those to 0 that carry nothing.

Horvath, Laskaridis, Rajput, Wang, Maestro: Uncovering Low-Rank Structures via Trainable Decomposition, 2023,
arXiv:2308.14929.

*Deviations*: components are dropped once, at the end, and not between steps; the lasso is a mean, so that its weight
does not depend on the size of the model. The published bound on single norms drops nothing of a trained model in a
short run, whose spectra are flat; a share of all is what `trp` cuts by too.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lorank.catalogue import catalogued
from lorank.errors import UsageError
from lorank.lowrank.compression.core import Compression, compression
from lorank.lowrank.factored.core.layer import Pair
from lorank.lowrank.factored.core.model import to_linear
from lorank.lowrank.module_tree import replace_modules


class OrderedLayer(Pair):
    """Two factors of which the first ``width`` components are used."""

    width: int | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Return B[:, :width] A[:width] x + b."""
        return F.linear(F.linear(x, self.A[: self.width]), self.B[:, : self.width], self.bias)


@compression("maestro")
@catalogued("maestro", area="compress", title="Maestro: Uncovering Low-Rank Structures via Trainable Decomposition")
class Maestro(Compression):
    """Ordered dropout of components, with a hierarchical group lasso.

    Args:
        model: The model, whose layers are replaced by factors of full width.
        layers: The layers.
        steps: The steps of the run.
        seed: The seed of the draws of layers and widths.
        hierarchy: The weight of the group lasso, 0 or more.
        cut: The share of a layer's squared importances that the dropped components have at most, from 0 to below 1.
    """

    factored = True

    def __init__(
        self,
        model: nn.Module,
        layers: Mapping[str, nn.Linear],
        steps: int,
        seed: int,
        *,
        hierarchy: float = 0.3,
        cut: float = 0.1,
    ) -> None:
        super().__init__(model, layers, steps, seed)
        if hierarchy < 0 or not 0 <= cut < 1:
            raise UsageError(f"hierarchy={hierarchy:g} is 0 or more, and cut={cut:g} from 0 to below 1")
        self.hierarchy, self.cut = hierarchy, cut
        generator = torch.Generator().manual_seed(seed)
        self.ordered = {
            path: OrderedLayer(layer, min(layer.weight.shape), start="svd", generator=generator)
            for path, layer in self.layers.items()
        }
        replace_modules(model, [(layer, self.ordered[path]) for path, layer in self.layers.items()])

    def before_step(self, step: int) -> None:
        """Draw the layer of this step and how many of its components are used."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        own = list(self.ordered.values())
        for layer in own:
            layer.width = None
        chosen = own[int(torch.randint(len(own), (), generator=generator))]
        chosen.width = int(torch.randint(1, chosen.rank + 1, (), generator=generator))

    def penalty(self) -> Tensor | None:
        """Return the hierarchical group lasso."""
        if not self.hierarchy:
            return None
        parts = [tail_norms(factor) for layer in self.ordered.values() for factor in (layer.A, layer.B.t())]
        return self.hierarchy * torch.stack([part.mean() for part in parts]).mean()

    def after_backward(self) -> None:
        """Use all components again, as every reader but the forward pass of a step does."""
        for layer in self.ordered.values():
            layer.width = None

    @torch.no_grad()
    def finish(self) -> None:
        """Set components of little importance to 0."""
        for layer in self.ordered.values():
            gone = least_important(importance(layer), self.cut)
            layer.A[gone] = 0
            layer.B[:, gone] = 0

    def ranks(self) -> dict[str, int]:
        """Return how many components of each layer are not 0."""
        return {path: int((importance(layer) > 0).sum()) for path, layer in self.ordered.items()}

    def merge(self) -> None:
        """Put the products of the factors in their places."""
        replace_modules(self.model, [(layer, to_linear(layer)) for layer in self.ordered.values()])


def importance(layer: Pair) -> Tensor:
    """Return ||b_i|| ||a_i|| of every component [r]."""
    found: Tensor = layer.A.detach().norm(dim=1) * layer.B.detach().norm(dim=0)
    return found


def least_important(values: Tensor, share: float) -> Tensor:
    """Return which components go [r]: the least ones, while they have no more than ``share`` of all squares together.

    >>> least_important(torch.tensor([3.0, 0.5, 1.0]), 0.1).tolist()
    [False, True, False]
    """
    squares = values.double().square()
    order = squares.argsort(stable=True)
    within = squares[order].cumsum(0) <= share * squares.sum() * (1 + 1e-9)
    gone = torch.zeros_like(values, dtype=torch.bool)
    gone[order[within]] = True
    return gone


def tail_norms(rows: Tensor) -> Tensor:
    """Return ||rows[i:]|| for every i.

    >>> tail_norms(torch.tensor([[3.0], [4.0]])).round(decimals=3).tolist()
    [5.0, 4.0]
    """
    squares = rows.square().sum(1)
    return (squares.flip(0).cumsum(0).flip(0) + 1e-12).sqrt()
