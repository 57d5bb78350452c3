"""The frozen layer under an update, seen as y = x W^T + b whatever class holds W; ``matrix_view`` has other layers."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lorank.errors import UsageError
from lorank.lowrank.offload import bring_in, is_hooked, refuse_offloaded


def _read_linear(module: nn.Module) -> Tensor:
    """W of an ``nn.Linear``; torchao quantises by putting a tensor of its own class there."""
    if parametrize.is_parametrized(module, "weight"):
        return _read_parametrized(module)
    weight = module.weight
    return weight if type(weight) in DENSE or not _is_torchao(weight) else weight.dequantize()


def _read_parametrized(module: nn.Module) -> Tensor:
    """W as it is computed now; a spectral norm must not take a step of its iteration because somebody looked."""
    parts = module.parametrizations.weight
    training = [(part, part.training) for part in parts.modules()]
    parts.eval()
    try:
        return module.weight
    finally:
        for part, was in training:
            part.training = was


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


class Added(nn.Module):
    """The last of a layer's parametrizations while its update is merged: W becomes W + dW."""

    delta: Tensor

    def __init__(self, delta: Tensor) -> None:
        super().__init__()
        self.register_buffer("delta", delta)

    def forward(self, weight: Tensor) -> Tensor:
        """Return W + dW, added in the dtype of dW."""
        return (weight.to(self.delta.dtype) + self.delta).to(weight.dtype)


def find_obstacle(module: nn.Module) -> str | None:
    """Return why no update can stand on ``module``, and what to do about it; None where one can."""
    if parametrize.is_parametrized(module, "weight"):
        return None
    weight = getattr(module, "weight", None)
    if isinstance(weight, nn.parameter.UninitializedTensorMixin):
        return "it does not know its width yet: run one batch through the model first"
    if type(weight).__name__ == "DTensor":
        return "its weight is a DTensor, cut up over processes: put the adapter on before the model is sharded"
    if isinstance(module, nn.Linear) and "weight" in module.__dict__ and module._forward_pre_hooks:
        return (
            "a hook computes its weight before each call (the old weight_norm, spectral_norm or prune of "
            "torch.nn.utils): remove it, or use torch.nn.utils.parametrizations"
        )
    return None


class BaseLinear:
    """A linear layer that updates are applied to: ``base(x)`` is x W^T + b.

    Args:
        module: ``nn.Linear``, a subclass of it, transformers' ``Conv1D``, whose weight is stored [in, out], or a
            layer whose weight is quantised: lorank's, bitsandbytes' or torchao's.

    Raises:
        UsageError: where no update can stand on the module.

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
        obstacle = find_obstacle(module)
        if obstacle is not None:
            raise UsageError(f"a {type(module).__name__} cannot be adapted as it is; {obstacle}")
        self.module, self._read = module, reader
        self.out_features, self.in_features = self._present_weight().shape

    def rebase(self, module: nn.Module) -> None:
        """Stand for ``module`` from now on, a linear layer of the same shape."""
        other = BaseLinear(module)
        self.module, self._read = module, other._read

    def __call__(self, x: Tensor) -> Tensor:
        """Return x W^T + b."""
        return self.module(x)

    @property
    def weight(self) -> Tensor:
        """W [out, in]: a view where the layer stores it densely, a copy where it is offloaded or computed."""
        return self._present_weight()

    def _present_weight(self) -> Tensor:
        if is_hooked(self.module):
            with bring_in(self.module):
                return self._read(self.module)
        return self._read(self.module)

    @property
    def bias(self) -> Tensor | None:
        """The layer's bias [out], or None."""
        if is_hooked(self.module):
            with bring_in(self.module):
                return self.module.bias
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
        """True where W is a frozen dense tensor and the layer's call is linear's own, so that it can be fused."""
        module = self.module
        if "forward" in module.__dict__:
            return False
        if not (self.transposed or type(module) is nn.Linear) or type(module.weight) not in DENSE:
            return False
        trained = module.weight.requires_grad or (module.bias is not None and module.bias.requires_grad)
        hooks = module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks
        return not (trained or any(hooks))

    @property
    def quantised(self) -> bool:
        """True where W is stored in few bits: ``weight`` dequantises it, and ``write`` is refused."""
        return self.quantises(self.module)

    @staticmethod
    def quantises(module: nn.Module) -> bool:
        """Return whether ``module`` is a linear layer that stores its weight in few bits."""
        reader = weight_reader(module)
        return reader is not None and (type(module) in QUANTISED or _is_torchao(getattr(module, "weight", None)))

    def check_mergeable(self, path: str) -> None:
        """Raise UsageError where nothing can be put into this layer, which stands at ``path``."""
        if self.quantised:
            raise UsageError(
                f"layer {path}: W + dW does not fit the few bits of a {type(self.module).__name__}; make the base "
                "dense with lorank.lowrank.dequantise(model), then merge"
            )
        refuse_offloaded(path, self.module, "merged")

    def put(self, delta: Tensor) -> tuple[nn.Parameter, ...]:
        """Make the layer's weight W + ``delta`` [out, in], added in float32 or better; return what ``put_back`` takes.

        The layer gets a parameter of its own, so that modules which share the old one keep it. Where W is computed
        (``torch.nn.utils.parametrize``), ``delta`` becomes the last step of the computation.
        """
        if parametrize.is_parametrized(self.module, "weight"):
            parametrize.register_parametrization(self.module, "weight", Added(delta), unsafe=True)
            return ()
        old = self.module.weight
        merged = (self.weight.detach().to(delta.dtype) + delta).to(old.dtype)
        own = merged.t().contiguous() if self.transposed else merged
        self.module.weight = nn.Parameter(own, requires_grad=old.requires_grad)
        return (old,)

    def put_back(self, held: tuple[nn.Parameter, ...]) -> None:
        """Give the layer the weight that it had before ``put``."""
        if held:
            self.module.weight = held[0]
        else:
            del self.module.parametrizations.weight[-1]
