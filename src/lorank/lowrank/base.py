"""The frozen layer under an update, seen as y = x W^T + b whatever class holds W."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lorank.errors import UsageError


def _read_linear(module: nn.Module) -> Tensor:
    """W of an ``nn.Linear``; torchao quantises by putting a tensor of its own class there."""
    weight = module.weight
    return weight if type(weight) in DENSE or not _is_torchao(weight) else weight.dequantize()


def _is_torchao(weight: object) -> bool:
    return type(weight).__module__.startswith("torchao.")


DENSE = (nn.Parameter, Tensor)
"""The classes of weights that hold every value; libraries that quantise put tensors of their own class there."""

Reader = Callable[[nn.Module], Tensor]

WEIGHT_OF: dict[type, Reader] = {nn.Linear: _read_linear}
"""How the weight [out, in] of each class of layer is read; a quantised layer dequantises here."""

QUANTISED: set[type] = set()
"""Those classes whose weight is stored in few bits: it can be read, but nothing can be written into it."""


def _learn_conv1d(kind: type) -> None:
    WEIGHT_OF[kind] = lambda module: module.weight.t()


def _learn_linear4bit(kind: type) -> None:
    from bitsandbytes.functional import dequantize_4bit

    def read(module: nn.Module) -> Tensor:
        weight = module.weight
        if weight.quant_state is None:
            return weight  # not quantised yet: that happens when the layer is moved to its device
        return dequantize_4bit(weight.data, weight.quant_state)

    WEIGHT_OF[kind] = read
    QUANTISED.add(kind)


def _learn_linear8bit(kind: type) -> None:
    def read(module: nn.Module) -> Tensor:
        weight = module.weight
        scale = module.state.SCB if module.state.SCB is not None else weight.SCB
        if scale is None:
            return weight
        codes = module.state.CB if module.state.CB is not None else weight.data
        return (codes.float() * (scale.float() / 127).unsqueeze(1)).to(torch.float32)

    WEIGHT_OF[kind] = read
    QUANTISED.add(kind)


_LEARNERS: dict[tuple[str, str], Callable[[type], None]] = {
    ("transformers", "Conv1D"): _learn_conv1d,
    ("bitsandbytes", "Linear4bit"): _learn_linear4bit,
    ("bitsandbytes", "LinearNF4"): _learn_linear4bit,
    ("bitsandbytes", "LinearFP4"): _learn_linear4bit,
    ("bitsandbytes", "Linear8bitLt"): _learn_linear8bit,
}
"""Classes of other libraries by package and name: known without importing what nobody uses."""


def weight_reader(module: nn.Module) -> Reader | None:
    """Return the function that reads W [out, in] of ``module``, or None where it is no linear layer."""
    kind = type(module)
    learn = _LEARNERS.get((kind.__module__.partition(".")[0], kind.__name__))
    if learn is not None and kind not in WEIGHT_OF:
        learn(kind)
    return next((WEIGHT_OF[kind] for kind in type(module).__mro__ if kind in WEIGHT_OF), None)


class BaseLinear:
    """A linear layer that updates are applied to: ``base(x)`` is x W^T + b.

    Args:
        module: ``nn.Linear``, a subclass of it, transformers' ``Conv1D``, whose weight is stored [in, out], or a
            layer whose weight is quantised: lorank's, bitsandbytes' or torchao's.

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

    def tensors(self) -> list[Tensor]:
        """The layer's own parameters and buffers: what ``weight`` is read from, without reading it."""
        return [*self.module.parameters(), *self.module.buffers()]

    @property
    def transposed(self) -> bool:
        """True where the layer stores its weight [in, out] (PEFT's ``fan_in_fan_out``)."""
        return type(self.module).__name__ == "Conv1D"

    @property
    def plain(self) -> bool:
        """True where W is a frozen dense tensor and nothing hooks the layer, so that its product can be fused."""
        module = self.module
        if not (self.transposed or type(module) is nn.Linear) or type(module.weight) not in DENSE:
            return False
        trained = module.weight.requires_grad or (module.bias is not None and module.bias.requires_grad)
        return not (trained or module._forward_hooks or module._forward_pre_hooks)

    @property
    def quantised(self) -> bool:
        """True where W is stored in few bits: ``weight`` dequantises it, and ``write`` is refused."""
        return self.quantises(self.module)

    @staticmethod
    def quantises(module: nn.Module) -> bool:
        """Return whether ``module`` is a linear layer that stores its weight in few bits."""
        reader = weight_reader(module)
        return reader is not None and (type(module) in QUANTISED or _is_torchao(getattr(module, "weight", None)))

    def write(self, weight: Tensor) -> None:
        """Copy ``weight`` [out, in] into the layer's own storage, cast to its dtype; UsageError if quantised."""
        if self.quantised:
            raise UsageError(
                f"W + dW does not fit the few bits of a {type(self.module).__name__}; make the base dense with "
                "lorank.lowrank.dequantise(model), then merge"
            )
        with torch.no_grad():
            self.weight.copy_(weight)
