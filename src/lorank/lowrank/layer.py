"""The adapted layer: one frozen linear layer and the updates on it; forward and merge, once for all forms."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from lorank.errors import UsageError
from lorank.lowrank.base import BaseLinear
from lorank.lowrank.forms.form import Form
from lorank.lowrank.linalg import working_dtype


class Adapted(nn.Module):
    """A linear layer with updates: y = x (W + sum of the active dW)^T + b.

    Args:
        module: the frozen layer.
        path: its path in the model.

    ``forms`` holds the updates by adapter name, ``active`` the names that are summed, in order.
    """

    def __init__(self, module: nn.Module, path: str) -> None:
        super().__init__()
        self.base = module
        self.path = path
        self.forms = nn.ModuleDict()
        self.active: tuple[str, ...] = ()
        self.enabled = True
        self.frozen = BaseLinear(module)
        self._original: Tensor | None = None
        self.train(module.training)

    def add(self, name: str, form: Form) -> None:
        """Put ``form`` on this layer under ``name``, active after those that are."""
        if self.merged:
            raise UsageError(f"layer {self.path} is merged; unmerge it before adding to it")
        if name in self.forms:
            raise UsageError(f"layer {self.path} already has an adapter called {name!r}; choose another name")
        self.forms[name] = form.train(self.training)
        self.active = (*self.active, name)

    def remove(self, name: str) -> None:
        """Take the update called ``name`` off this layer."""
        self.unmerge()
        del self.forms[name]
        self.active = tuple(other for other in self.active if other != name)

    def activate(self, names: Iterable[str]) -> None:
        """Make those of ``names`` that this layer has the active ones, in their order."""
        if self.merged:
            raise UsageError(f"layer {self.path} is merged; unmerge it before choosing other adapters")
        self.active = tuple(name for name in names if name in self.forms)

    def rebase(self, module: nn.Module) -> None:
        """Put ``module``, a linear layer of the same shape, under the updates."""
        if self.merged:
            raise UsageError(f"layer {self.path} is merged; unmerge it before giving it another base")
        self.base, self.frozen = module, BaseLinear(module)

    def forward(self, x: Tensor) -> Tensor:
        """Return y [..., out] for ``x`` [..., in]."""
        if self._original is not None or not self.enabled or not self.active:
            return self.base(x)
        first, *others = (self.forms[name] for name in self.active)
        if not others:
            return first(x, self.frozen)
        output = self.frozen(x)
        y = output
        for form in (first, *others):
            y = y + form.update(x, self.frozen, output).to(output.dtype)
        return y

    @torch.no_grad()
    def delta(self) -> Tensor:
        """Return the sum of the active dW [out, in] in float32 or better."""
        weight = self.frozen.weight if self._original is None else self._original
        total = torch.zeros(weight.shape, dtype=working_dtype(weight), device=weight.device)
        for name in self.active:
            total += self.forms[name].delta(weight)
        return total

    @property
    def merged(self) -> bool:
        """True while the base holds W + dW."""
        return self._original is not None

    @torch.no_grad()
    def merge(self) -> None:
        """Write W + dW, added in float32 or better, into the base; W is kept aside for ``unmerge``."""
        if self._original is not None or not self.active:
            return
        weight = self.frozen.weight
        original = weight.detach().clone()
        self.frozen.write(weight.to(working_dtype(weight)) + self.delta())
        self._original = original

    def unmerge(self) -> None:
        """Put W back bit by bit."""
        if self._original is not None:
            self.frozen.write(self._original)
            self._original = None

    @property
    def weight(self) -> Tensor:
        """The base layer's own weight, for code that looks at its dtype or shape."""
        return self.base.weight

    @property
    def bias(self) -> Tensor | None:
        """The base layer's bias."""
        return self.base.bias

    @property
    def in_features(self) -> int:
        """The width of the input."""
        return self.frozen.in_features

    @property
    def out_features(self) -> int:
        """The width of the output."""
        return self.frozen.out_features


def replace_module(model: nn.Module, path: str, module: nn.Module) -> None:
    """Put ``module`` at ``path`` of ``model``."""
    parent, _, leaf = path.rpartition(".")
    setattr(model.get_submodule(parent), leaf, module)
