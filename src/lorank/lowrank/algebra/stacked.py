r"""Several adapters on one layer as one pair of factors, with a gate a component that others set or train.

    dW = B diag(g) A,    A = [A_1; ...; A_n] [k, in],  B = [s_1 B_1, ..., s_n B_n] [out, k],  g [k]

The factors are frozen; g comes from ``gates(path)`` at every forward pass. One number an adapter makes a
composition of skills, one number a singular component makes a pruning.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from lorank.errors import UsageError
from lorank.lowrank.algebra.factors import add
from lorank.lowrank.algebra.sets import FactorSet
from lorank.lowrank.base import BaseLinear
from lorank.lowrank.forms.factored import Factored
from lorank.lowrank.forms.form import Factors, Site
from lorank.lowrank.layer import Adapted
from lorank.lowrank.module_tree import replace_module
from lorank.lowrank.targets import is_linear

Gates = Callable[[str], Tensor]
"""path -> g: [k], or [batch, k] for gates of every input of a batch."""


class Stacked(Factored):
    """Frozen stacked factors under gates; not a form to attach by name."""

    def __init__(self, site: Site, factors: Factors, gates: Gates) -> None:
        super().__init__(site)
        self.path, self.scaling = site.path, 1.0
        self._gates = gates
        self.register_buffer("A", factors.A.to(site.device, site.dtype))
        self.register_buffer("B", factors.B.to(site.device, site.dtype))

    def pair(self) -> tuple[Tensor, Tensor]:
        gates = self._gates(self.path)
        if gates.dim() > 1:
            raise UsageError("gates that differ within a batch make no single update; choose one row to merge")
        return self.A, self.B * gates

    def forward(self, x: Tensor, base: BaseLinear) -> Tensor:
        if self._gates(self.path).dim() == 1:
            return super().forward(x, base)
        output = base(x)
        return output + self.update(x, base, output).to(output.dtype)

    def update(self, x: Tensor, base: BaseLinear, output: Tensor) -> Tensor:
        z, gates = self.prepare_input(x), self._gates(self.path)
        if gates.dim() > 1:
            gates = gates.view(len(gates), *[1] * (z.dim() - 2), gates.shape[-1])
        return ((z @ self.A.t().to(z.dtype)) * gates.to(z.dtype)) @ self.B.t().to(z.dtype)

    def parameter_count(self) -> int:
        return 0

    def rank_bound(self) -> int:
        return min(len(self.A), self.in_features, self.out_features)


def stack_sets(sets: Sequence[FactorSet]) -> dict[str, Factors]:
    """Return the factors of all ``sets`` one under the other, layer by layer, scales folded.

    Every set must have the same layers: a gate belongs to the layer at its place.
    """
    if not sets or any(own.keys() != sets[0].keys() for own in sets):
        raise UsageError("the adapters do not have the same layers; combine those of one kind")
    return {path: add(*(own[path] for own in sets)) for path in sets[0]}


@contextmanager
def gated(model: nn.Module, factors: FactorSet, gates: Gates) -> Iterator[nn.Module]:
    """Within it ``model`` carries the gated updates alone, and its parameters are frozen."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.requires_grad_(False)
    layers: dict[str, Adapted] = {}
    try:
        for path, pair in factors.items():
            module = model.get_submodule(path)
            if isinstance(module, Adapted):
                raise UsageError(f"layer {path} has an adapter already; detach it first")
            if not is_linear(module):
                raise UsageError(
                    f"layer {path} is of type {type(module).__name__}, and gates are learned on linear layers; leave "
                    "it out of the adapters, or average them with fixed weights"
                )
            layer = Adapted(module, path)
            layer.add("stacked", Stacked(Site(path, layer.frozen, len(pair.A), 1.0, 1.0), pair, gates))
            replace_module(model, path, layer)
            layers[path] = layer
        yield model
    finally:
        for path, layer in layers.items():
            replace_module(model, path, layer.give_back())
        for parameter in trainable:
            parameter.requires_grad_(True)


def repeat_weights(weights: Tensor, sizes: Sequence[int]) -> Tensor:
    """Repeat each of ``weights`` [..., n] over its ``sizes`` [n] components: [..., k].

    >>> repeat_weights(torch.tensor([1.0, 2.0]), [2, 1]).tolist()
    [1.0, 1.0, 2.0]
    """
    return weights.repeat_interleave(torch.tensor(sizes, device=weights.device), dim=-1)
