"""The frozen layer under an update, seen as y = x W^T + b whatever class holds W."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lorank.errors import UsageError

WEIGHT_OF: dict[type, Callable[[nn.Module], Tensor]] = {nn.Linear: lambda module: module.weight}
"""How the weight [out, in] of each class of layer is read; a quantised layer dequantises here."""


def _learn_conv1d() -> None:
    from transformers.pytorch_utils import Conv1D

    WEIGHT_OF[Conv1D] = lambda module: module.weight.t()


def weight_reader(module: nn.Module) -> Callable[[nn.Module], Tensor] | None:
    """Return the function that reads W [out, in] of ``module``, or None where it is no linear layer."""
    if type(module).__name__ == "Conv1D" and type(module) not in WEIGHT_OF:
        _learn_conv1d()
    return next((WEIGHT_OF[kind] for kind in type(module).__mro__ if kind in WEIGHT_OF), None)


class BaseLinear:
    """A linear layer that updates are applied to: ``base(x)`` is x W^T + b.

    Args:
        module: ``nn.Linear``, a subclass of it, or transformers' ``Conv1D``, whose weight is stored [in, out].

    >>> base = BaseLinear(nn.Linear(3, 2))
    >>> base.out_features, base.in_features, base.plain
    (2, 3, False)
    >>> base.module.requires_grad_(False); base.plain
    Linear(in_features=3, out_features=2, bias=True)
    True
    """

    def __init__(self, module: nn.Module) -> None:
        reader = weight_reader(module)
        if reader is None:
            raise UsageError(f"a {type(module).__name__} is not a linear layer and cannot be adapted")
        self.module, self._read = module, reader
        self.out_features, self.in_features = reader(module).shape

    def __call__(self, x: Tensor) -> Tensor:
        """Return x W^T + b."""
        return self.module(x)

    @property
    def weight(self) -> Tensor:
        """W [out, in]: a view where the layer stores it densely."""
        return self._read(self.module)

    @property
    def bias(self) -> Tensor | None:
        """The layer's bias [out], or None."""
        return self.module.bias

    @property
    def transposed(self) -> bool:
        """True where the layer stores its weight [in, out] (PEFT's ``fan_in_fan_out``)."""
        return type(self.module).__name__ == "Conv1D"

    @property
    def plain(self) -> bool:
        """True where W is a frozen dense tensor and nothing hooks the layer, so that its product can be fused."""
        module = self.module
        exact = type(module) is nn.Linear or self.transposed
        trained = self.module.weight.requires_grad or (self.bias is not None and self.bias.requires_grad)
        return exact and not (trained or module._forward_hooks or module._forward_pre_hooks)

    def write(self, weight: Tensor) -> None:
        """Copy ``weight`` [out, in] into the layer's own storage, cast to its dtype."""
        with torch.no_grad():
            self.weight.copy_(weight)
