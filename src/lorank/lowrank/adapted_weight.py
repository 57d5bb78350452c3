"""The weight of an adapted layer, for modules that read a layer's ``weight`` instead of calling it.

``nn.MultiheadAttention`` multiplies with ``out_proj.weight``, the fast path of ``nn.TransformerEncoderLayer`` with the
weights of all its layers, some models with ``layer.weight`` themselves. What they get is a tensor that looks like the
frozen W and computes as W + dW, with the gradients of the update:

    linear(x, w, b)                              the layer itself, on x
    multi_head_attention_forward(..., w, b)      attention without its last product, then the layer
    anything else that computes                  W + dW, written out by the layer from the rows of the identity

Torch takes none of its fast paths where it meets such a tensor. What only asks (dtype, shape, device) or writes in
place reaches W itself.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn

from lorank.errors import UsageError


class Layer(Protocol):
    """What a computed weight needs of the adapted layer that it stands for."""

    path: str

    @property
    def bias(self) -> Tensor | None:
        """The base layer's bias."""
        ...

    @property
    def in_features(self) -> int:
        """The width of the input."""
        ...

    def forward(self, x: Tensor) -> Tensor:
        """Return y [..., out] for ``x`` [..., in]."""
        ...

    def total_weight(self) -> Tensor:
        """Return W + dW with the gradients of dW."""
        ...


COMPUTED = frozenset({"T", "mT", "H", "mH", "real", "imag"})
"""Attributes of a tensor that are computed from its values."""

ASKED = frozenset(
    {
        "size",
        "dim",
        "numel",
        "nelement",
        "ndimension",
        "stride",
        "storage_offset",
        "element_size",
        "is_floating_point",
        "is_complex",
        "is_contiguous",
        "is_signed",
        "get_device",
        "data_ptr",
        "untyped_storage",
        "storage",
        "type",
        "__len__",
        "__repr__",
        "__format__",
        "__hash__",
        "requires_grad_",
        "empty_like",
        "zeros_like",
        "ones_like",
        "new_zeros",
        "new_empty",
        "new_ones",
        "new_full",
        "new_tensor",
    }
)
"""Functions that read of a tensor no more than what kind of tensor it is."""


class AdaptedWeight(Tensor):
    """W [out, in] of an adapted layer, which computes as W + dW."""

    layer: Layer
    multiplies: bool
    """True where the layer's own call is the product with this weight: a linear layer that stores it [out, in]."""

    @classmethod
    def of(cls, layer: Layer, weight: Tensor, multiplies: bool = True) -> Self:
        """Return the weight of ``layer``, whose base holds ``weight``; both share their storage."""
        own: Self = weight.detach().as_subclass(cls)
        own.layer, own.multiplies = layer, multiplies
        return own

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is nn.functional.linear:
            own = _bind(("input", "weight", "bias"), args, kwargs)
            if isinstance(own["weight"], cls) and own["weight"].multiplies and not isinstance(own["input"], cls):
                return _linear(own["weight"].layer, own["input"], own.get("bias"))
        if func is nn.functional.multi_head_attention_forward:
            return _attention(args, kwargs)
        name = getattr(func, "__name__", "")
        if name == "__set__" and _attribute(func) == "data":
            raise UsageError(f"layer {args[0].layer.path} has an adapter; set the data of its base.weight")
        in_place = name.endswith("_") and not name.endswith("__")
        asks = in_place or name in ASKED or (name == "__get__" and _attribute(func) not in COMPUTED)
        plain = _plain if asks or name in ("__set__", "__delete__") else _write_out
        args, kwargs = torch.utils._pytree.tree_map_only(cls, plain, (args, kwargs))
        return func(*args, **kwargs)


def _bind(names: Sequence[str], args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    return dict(zip(names, args, strict=False)) | dict(kwargs)


def _attribute(func: Callable[..., Any]) -> str:
    return getattr(getattr(func, "__self__", None), "__name__", "")


def _plain(weight: AdaptedWeight) -> Tensor:
    """Return W itself."""
    with torch._C.DisableTorchFunctionSubclass():
        return weight.as_subclass(Tensor)


def _write_out(weight: AdaptedWeight) -> Tensor:
    """Return W + dW with the gradients of dW."""
    return weight.layer.total_weight()


def _linear(layer: Layer, x: Tensor, bias: Tensor | None) -> Tensor:
    """Return x (W + dW)^T + ``bias``."""
    y = layer(x)
    if bias is layer.bias:
        return y
    y = y if layer.bias is None else y - layer.bias
    return y if bias is None else y + bias


ATTENTION = (
    "query",
    "key",
    "value",
    "embed_dim_to_check",
    "num_heads",
    "in_proj_weight",
    "in_proj_bias",
    "bias_k",
    "bias_v",
    "add_zero_attn",
    "dropout_p",
    "out_proj_weight",
    "out_proj_bias",
)
"""The first parameters of ``torch.nn.functional.multi_head_attention_forward``, in order."""


def _attention(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Tensor, Tensor | None]:
    """Return attention whose last product is the adapted layer's own; the identity stands for it inside."""
    rest = args[len(ATTENTION) :]
    own = _bind(ATTENTION, args, kwargs)
    weight, bias = own["out_proj_weight"], own["out_proj_bias"]
    if not isinstance(weight, AdaptedWeight):  # another of its weights is adapted
        own = torch.utils._pytree.tree_map_only(AdaptedWeight, _write_out, own)
    else:
        plain = _plain(weight)
        own["out_proj_weight"] = torch.eye(plain.shape[1], dtype=plain.dtype, device=plain.device)
        own["out_proj_bias"] = None
    first = [own.pop(name) for name in ATTENTION]
    y, weights = nn.functional.multi_head_attention_forward(*first, *rest, **own)
    return (_linear(weight.layer, y, bias) if isinstance(weight, AdaptedWeight) else y), weights
