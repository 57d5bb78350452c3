"""The adapted layer: one frozen linear layer and the updates on it; forward and merge, once for all forms."""

from collections.abc import Callable, Iterable
from typing import Self

import torch
from torch import Tensor, nn

from lorank.errors import UsageError
from lorank.lowrank.adapted_weight import AdaptedWeight
from lorank.lowrank.base import BaseLinear
from lorank.lowrank.forms.form import Form
from lorank.lowrank.linalg import working_dtype
from lorank.lowrank.matrix_view import MatrixView, base_of
from lorank.lowrank.offload import bring_in, is_hooked
from lorank.lowrank.wrapped import Wrapped, move_hooks


class Adapted(Wrapped):
    """A linear layer with updates: y = x (W + sum of the active dW)^T + b.

    Args:
        module: the frozen layer.
        path: its path in the model.
        dense: the layer that ``module`` is the quantised form of; it comes back when the last update goes.

    ``forms`` holds the updates by adapter name, ``active`` the names that are summed, in order; those in ``off`` are
    left out for the time being.
    """

    def __init__(self, module: nn.Module, path: str, dense: nn.Module | None = None) -> None:
        super().__init__(module, dense)
        self.path = path
        self.forms = nn.ModuleDict()
        self.active: tuple[str, ...] = ()
        self.off: frozenset[str] = frozenset()
        self._frozen = base_of(module)
        self._dense: tuple[nn.Module | None] = (dense,)
        self._original: tuple[nn.Parameter, ...] | None = None

    @property
    def frozen(self) -> BaseLinear:
        """The base as updates see it."""
        if self._frozen.module is not self.base:  # a replica of nn.DataParallel, or a base put in by others
            return base_of(self.base)
        return self._frozen

    @property
    def running(self) -> tuple[str, ...]:
        """The names of the updates that are active and not switched off."""
        return tuple(name for name in self.active if name not in self.off) if self.off else self.active

    def add(self, name: str, form: Form) -> None:
        """Put ``form`` on this layer under ``name``, active after those that are."""
        self.check_free(name)
        self.forms[name] = form.train(self.training)
        self.active = (*self.active, name)

    def check_free(self, name: str) -> None:
        """Raise UsageError where no update called ``name`` can be added."""
        if self.merged:
            raise UsageError(f"layer {self.path} is merged; unmerge it before adding to it")
        if name in self.forms:
            raise UsageError(
                f"the model already has an adapter called {name!r} (on layer {self.path}); choose another name"
            )

    def remove(self, name: str) -> None:
        """Take the update called ``name`` off this layer."""
        self.unmerge()
        del self.forms[name]
        self.freezes.pop(name, None)
        self.active = tuple(other for other in self.active if other != name)
        self.off -= {name}

    def give_back(self) -> nn.Module:
        """Return the layer as it was before updates came, with its hooks; nothing may be merged."""
        module = self.base
        if self._dense[0] is not None:
            module, weight = self._dense[0], self.frozen.weight
            same = module.weight.dtype == weight.dtype
            module.to(device=weight.device, dtype=None if same else weight.dtype).train(self.training)
        move_hooks(self, module)
        return module

    def keep_quantised(self) -> None:
        """Forget the dense layer, so that the quantised one stays when the last update goes."""
        self._dense = (None,)

    def activate(self, names: Iterable[str]) -> None:
        """Make those of ``names`` that this layer has the active ones, in their order."""
        if self.merged:
            raise UsageError(f"layer {self.path} is merged; unmerge it before choosing other adapters")
        self.active = tuple(name for name in names if name in self.forms)

    def switch(self, name: str, on: bool) -> None:
        """Leave the update called ``name`` out from now on, or take it in again; the others run as they did."""
        self.off = self.off - {name} if on else self.off | {name}

    def rebase(self, module: nn.Module) -> None:
        """Put ``module``, a linear layer of the same shape, under the updates."""
        if self.merged:
            raise UsageError(f"layer {self.path} is merged; unmerge it before giving it another base")
        self._frozen.rebase(module)
        self.base = module

    def forward(self, x: Tensor) -> Tensor:
        """Return y [..., out] for ``x`` [..., in]."""
        names = () if self._original is not None else self.running
        if not names:
            return self.base(x)
        frozen = self.frozen
        if is_hooked(self.base):
            return self._forward_hooked(x, frozen, names)
        first, *others = (self.forms[name] for name in names)
        if not others:
            return first(x, frozen)
        output = frozen(x)
        y = output
        for form in (first, *others):
            y = y + form.update(x, frozen, output).to(output.dtype)
        return y

    def _forward_hooked(self, x: Tensor, frozen: BaseLinear, names: tuple[str, ...]) -> Tensor:
        """Return y where accelerate places the tensors of the base, and perhaps of the updates, for each call."""
        output = frozen(x)
        y = output
        for name in names:
            form = self.forms[name]
            with bring_in(form):
                device = next((own.device for own in form.parameters()), x.device)
                update = form.update(x.to(device), frozen, output.to(device))
                y = y + update.to(output.device, output.dtype)
        return y

    @torch.no_grad()
    def delta(self) -> Tensor:
        """Return the sum of the running dW [out, in] in float32 or better."""
        if self.merged:  # dW is of the base's own W
            self.unmerge()
            try:
                return self.delta()
            finally:
                self.merge()
        weight = self.frozen.weight
        total = torch.zeros(weight.shape, dtype=working_dtype(weight), device=weight.device)
        for name in self.running:
            total += self.forms[name].delta(weight)
        return total

    @property
    def merged(self) -> bool:
        """True while the base holds W + dW."""
        return self._original is not None

    @torch.no_grad()
    def merge(self) -> None:
        """Make the base's weight W + dW, added in float32 or better; W itself is kept aside for ``unmerge``.

        Raises:
            UsageError: where the base cannot hold it, or does something else with its weight than a linear layer.
        """
        if self.merged or not self.running:
            return
        frozen = self.frozen
        frozen.check_mergeable(self.path)
        delta = self.delta()
        before = None if frozen.plain or isinstance(frozen, MatrixView) else self._trial()
        self._original = frozen.put(delta)
        if before is not None:
            change = (self._trial() - before).abs().max().item() if before.numel() else 0.0
            scale = before.abs().max().item() if before.numel() else 0.0
            if not change <= 64 * torch.finfo(before.dtype).eps * max(scale, 1.0) * self.in_features**0.5:
                self.unmerge()
                raise UsageError(
                    f"layer {self.path} is a {type(self.base).__name__} whose forward is not x W^T + b: with W + dW as "
                    f"its weight it gives another output (by {change:.3g}); leave the adapter unmerged, or give the "
                    "layer its own forward back"
                )

    def _trial(self) -> Tensor:
        """Return the layer's output for a few fixed inputs, without dropout."""
        weight, modes = self.frozen.weight, [(module, module.training) for module in self.modules()]
        x = torch.linspace(-1, 1, 3 * self.in_features, device=weight.device).sin().view(3, -1)
        self.eval()
        try:
            return self.forward(x.to(weight.dtype))
        finally:
            for module, training in modes:
                module.training = training

    def unmerge(self) -> None:
        """Give the base its own weight back: the parameter that it was."""
        if self._original is not None:
            self.frozen.put_back(self._original)
            self._original = None

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move as any module, and with it the weight that is kept aside."""
        super()._apply(fn, recurse)
        for parameter in self._original or ():
            parameter.data = fn(parameter.data)
        return self

    @property
    def weight(self) -> Tensor:
        """The layer's weight for those who read it: W, which computes as W + dW while updates run."""
        weight = self.base.weight
        if self._original is None and self.running and type(weight) in (Tensor, nn.Parameter):
            return AdaptedWeight.of(self, weight, multiplies=self._multiplies())
        return weight

    def total_weight(self) -> Tensor:
        """Return W + dW as the base stores its weight, with the gradients of the running dW."""
        rows = torch.eye(self.in_features, dtype=self.base.weight.dtype, device=self.base.weight.device)
        y = self.forward(rows)
        y = y if self.bias is None else y - self.bias
        return y if self._frozen.transposed else y.t()

    def _multiplies(self) -> bool:
        """Return whether ``torch.nn.functional.linear`` with this layer's weight is the layer's call."""
        return not self._frozen.transposed

    @property
    def bias(self) -> Tensor | None:
        """The base layer's bias."""
        return self.base.bias

    @property
    def in_features(self) -> int:
        """The width of the input."""
        return self._frozen.in_features

    @property
    def out_features(self) -> int:
        """The width of the output."""
        return self._frozen.out_features
