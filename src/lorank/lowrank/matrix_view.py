r"""An embedding's table or a convolution's kernel, seen as the matrix W [out, in] that updates change.

    embedding      y(t) = W o_t                W [dim, tokens], the table transposed; o_t is 1 at token t, else 0
    convolution    y(p) = W x(p) + b           W [out, in / groups * kernel]; x(p) is the patch of its group at p

Both are linear in W, so that every update dW of a matrix is an update of such a layer. PEFT sees the two layers the
same way, and so a LoRA of them has PEFT's factors: A [r, tokens] and B [dim, r], A [r, in, kernel] and B [out, r].
"""

from typing import Any

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils import parametrize

from lorank.errors import UsageError
from lorank.lowrank.base import DENSE, BaseLinear, find_obstacle, weight_reader
from lorank.lowrank.offload import is_hooked

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
VIEWED = (nn.Embedding, *CONVOLUTIONS)
"""Layers that are no linear layers and take updates of their weight."""


class MatrixView(BaseLinear):
    """The weight of an embedding or a convolution as a matrix; ``view(x)`` is x W^T, without the bias.

    >>> view = MatrixView(nn.Embedding(7, 3)); view.out_features, view.in_features
    (3, 7)
    >>> view = MatrixView(nn.Conv2d(4, 6, 3, groups=2)); view.out_features, view.in_features, view.groups
    (6, 18, 2)
    """

    module: Any

    def __init__(self, module: nn.Module) -> None:
        obstacle = find_view_obstacle(module)
        if obstacle is not None:
            raise UsageError(f"a {type(module).__name__} cannot be adapted as it is; {obstacle}")
        self.module, self._read = module, _read_table if isinstance(module, nn.Embedding) else _read_kernel
        self.out_features, self.in_features = self._read(module).shape

    def rebase(self, module: nn.Module) -> None:
        """Stand for ``module`` from now on, a layer of the same kind and shape."""
        self.module = MatrixView(module).module

    def __call__(self, x: Tensor) -> Tensor:
        """Return x W^T [..., out] for rows ``x`` [..., in]."""
        return nn.functional.linear(x, self.weight.to(x.dtype))

    @property
    def embedding(self) -> bool:
        """True for an embedding, False for a convolution."""
        return isinstance(self.module, nn.Embedding)

    @property
    def groups(self) -> int:
        """The number of groups of a convolution, 1 for an embedding."""
        return 1 if self.embedding else int(self.module.groups)

    @property
    def bias(self) -> None:
        """None: the layer's own bias is added by the layer."""
        return

    @property
    def transposed(self) -> bool:
        """False: PEFT's ``fan_in_fan_out`` is of linear layers."""
        return False

    @property
    def plain(self) -> bool:
        """False: the layer's call takes no rows of W."""
        return False

    def store(self, matrix: Tensor) -> Tensor:
        """Return a matrix [out, in] in the shape of the module's weight."""
        return matrix.t() if self.embedding else matrix.reshape(self.module.weight.shape)

    def view(self, stored: Tensor) -> Tensor:
        """Return a tensor of the shape of the module's weight as the matrix [out, in]."""
        return stored.t() if self.embedding else stored.flatten(1)

    def put(self, delta: Tensor) -> tuple[nn.Parameter, ...]:
        """Make the layer's weight W + ``delta`` [out, in]; see ``BaseLinear.put``."""
        old = self.module.weight
        merged = (self.weight.detach().to(delta.dtype) + delta).to(old.dtype)
        self.module.weight = nn.Parameter(self.store(merged).contiguous(), requires_grad=old.requires_grad)
        return (old,)

    def put_back(self, held: tuple[nn.Parameter, ...]) -> None:
        """Give the layer the weight that it had before ``put``."""
        self.module.weight = held[0]


def base_of(module: nn.Module) -> BaseLinear:
    """Return the layer as updates see it: a linear layer itself, an embedding or a convolution through its matrix."""
    return MatrixView(module) if isinstance(module, VIEWED) else BaseLinear(module)


def is_adaptable(module: nn.Module) -> bool:
    """Return whether ``module`` is of a class that takes updates."""
    return isinstance(module, VIEWED) or weight_reader(module) is not None


def find_view_obstacle(module: Any) -> str | None:
    """Return why no update can stand on an embedding or a convolution; None where one can."""
    if parametrize.is_parametrized(module, "weight"):
        return (
            "its weight is computed (torch.nn.utils.parametrize); call remove_parametrizations on it before the "
            "adapter is attached"
        )
    obstacle = find_obstacle(module)
    if obstacle is not None:
        return obstacle
    if isinstance(module, _ConvNd) and "weight" in module.__dict__:
        return "a hook computes its weight before each call; remove it (torch.nn.utils.remove_weight_norm)"
    if type(module.weight) not in DENSE or not module.weight.is_floating_point():
        return "its weight is stored in few bits, and updates stand on dense ones; leave it out of the targets"
    if is_hooked(module):
        return (
            "accelerate moves its weight for each call; call accelerate.hooks.remove_hook_from_module on it, or leave "
            "it out of the targets"
        )
    if isinstance(module, nn.Embedding) and module.max_norm is not None:
        return "max_norm shortens rows of its table as they are looked up; make it with max_norm=None"
    if isinstance(module, nn.Embedding) and module.scale_grad_by_freq:
        return (
            "scale_grad_by_freq scales gradients of its table, which is frozen; make it with scale_grad_by_freq=False"
        )
    return None


def _read_table(module: nn.Module) -> Tensor:
    return module.get_parameter("weight").t()


def _read_kernel(module: nn.Module) -> Tensor:
    return module.get_parameter("weight").flatten(1)
