r"""Frozen linear layers stored in 4 or 8 bits, for updates to stand on.

The flattened weight is cut into blocks; each keeps its largest magnitude c in float32 and a code a value:

    nf4     w ~ c q[code],           q the 16 levels of NormalFloat4, two codes a byte, blocks of 64
    int8    w ~ c code / 127,        code in -127..127, a block a row of W [out, in]

so that |w - w'| <= c / 254 (int8), or c times half the widest gap between levels, 0.152 (nf4). The forward pass
dequantises W, multiplies and drops it; nothing of W's size is kept for the backward pass, which dequantises
again. Forms that need only W's output run on such a layer as on any other. Forms that need W itself
(``needs_weight``) work on the dequantised one. Merging is refused: W + dW does not fit the codes. ``dequantise``
the model first, and the merge is exact against what the update was trained on.

Dettmers et al., QLoRA: Efficient Finetuning of Quantized LLMs, 2023, arXiv:2305.14314.

*Deviations*: the scales are not quantised a second time. Layers of bitsandbytes (``Linear4bit``,
``Linear8bitLt``) and weights of torchao are read as well, see ``base``.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from lorank.errors import UsageError, unknown_name
from lorank.lowrank.base import QUANTISED, WEIGHT_OF, BaseLinear
from lorank.lowrank.layer import Adapted
from lorank.lowrank.matrix_view import VIEWED
from lorank.lowrank.module_tree import replace_module, unwrap_model
from lorank.lowrank.product import compute_dtype
from lorank.lowrank.targets import ALL_LINEAR, select_targets
from lorank.lowrank.wrapped import move_hooks


def normal_levels() -> Tensor:
    """Return the 16 levels of NormalFloat4 in [-1, 1]: quantiles of N(0, 1) on either side of an exact 0.

    >>> levels = normal_levels(); levels[7].item(), levels[0].item(), levels[15].item()
    (0.0, -1.0, 1.0)
    """
    highest = 1 - 0.5 * (1 / 30 + 1 / 32)
    positive = torch.special.ndtri(torch.linspace(highest, 0.5, 9, dtype=torch.float64)[:-1])
    negative = -torch.special.ndtri(torch.linspace(highest, 0.5, 8, dtype=torch.float64)[:-1])
    levels = torch.cat([negative, positive.new_zeros(1), positive.flip(0)])
    return (levels / levels.abs().max()).float()


class Packed(NamedTuple):
    """Codes of all blocks in a row, and the scale [blocks] of each."""

    codes: Tensor
    scales: Tensor


class Scheme(NamedTuple):
    """How blocks [blocks, size] become codes, and codes become values again."""

    pack: Callable[[Tensor], Packed]
    unpack: Callable[[Tensor, Tensor, int], Tensor]
    block: int | None
    """Values a block; None is one row of W."""


LEVELS = normal_levels()
BOUNDARIES = (LEVELS[1:] + LEVELS[:-1]) / 2


def _scales(blocks: Tensor) -> tuple[Tensor, Tensor]:
    largest = blocks.abs().amax(1) if blocks.shape[1] else blocks.new_zeros(len(blocks))
    return largest, blocks / torch.where(largest == 0, 1.0, largest).unsqueeze(1)


def _pack_nf4(blocks: Tensor) -> Packed:
    scales, unit = _scales(blocks)
    codes = torch.bucketize(unit.contiguous(), BOUNDARIES.to(unit.device)).to(torch.uint8).flatten()
    return Packed(codes[0::2] << 4 | codes[1::2], scales)


def _unpack_nf4(codes: Tensor, scales: Tensor, size: int) -> Tensor:
    pairs = torch.stack([codes >> 4, codes & 15], dim=1).view(len(scales), size)
    return LEVELS.to(codes.device)[pairs.int()] * scales.unsqueeze(1)


def _pack_int8(blocks: Tensor) -> Packed:
    scales, unit = _scales(blocks)
    return Packed((unit * 127).round().to(torch.int8).flatten(), scales)


def _unpack_int8(codes: Tensor, scales: Tensor, size: int) -> Tensor:
    return codes.view(len(scales), size) * (scales / 127).unsqueeze(1)


SCHEMES: dict[str, Scheme] = {
    "nf4": Scheme(_pack_nf4, _unpack_nf4, 64),
    "int8": Scheme(_pack_int8, _unpack_int8, None),
}
"""Every way of storing a weight in few bits, by name."""


class QuantisedLinear(nn.Module):
    """y = x W'^T + b with W' [out, in] stored as codes.

    Args:
        weight: W [out, in], which is rounded.
        bias: b [out] or None, kept as it is.
        scheme: ``nf4`` or ``int8``.
        block: values a block, even for nf4; None takes the scheme's.

    >>> layer = QuantisedLinear(torch.tensor([[1.0, -0.5], [0.0, 3.0]]), None, "int8")
    >>> layer.weight.shape, (layer.weight - torch.tensor([[1.0, -0.5], [0.0, 3.0]])).abs().max().item() < 3 / 254
    (torch.Size([2, 2]), True)
    """

    codes: Tensor
    scales: Tensor

    def __init__(self, weight: Tensor, bias: Tensor | None, scheme: str = "nf4", block: int | None = None) -> None:
        super().__init__()
        if scheme not in SCHEMES:
            raise unknown_name("way of quantising", scheme, SCHEMES)
        self.out_features, self.in_features = weight.shape
        self.scheme, self.dtype = scheme, weight.dtype
        self.block = block or SCHEMES[scheme].block or self.in_features
        if self.block < 1 or (scheme == "nf4" and self.block % 2):
            raise UsageError(f"a block of {self.block} values does not fit {scheme}; write an even number from 2 up")
        flat = weight.detach().reshape(-1).float()
        blocks = nn.functional.pad(flat, (0, -len(flat) % self.block)).view(-1, self.block)
        packed = SCHEMES[scheme].pack(blocks)
        self.register_buffer("codes", packed.codes)
        self.register_buffer("scales", packed.scales)
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone(), requires_grad=False)

    @classmethod
    def of(cls, module: nn.Module, scheme: str = "nf4", block: int | None = None) -> Self:
        """Return a linear layer of any kind, quantised."""
        base = BaseLinear(module)
        return cls(base.weight, base.bias, scheme, block).train(module.training)

    @property
    def weight(self) -> Tensor:
        """W' [out, in], dequantised on every access, in the dtype that W had."""
        values = SCHEMES[self.scheme].unpack(self.codes, self.scales, self.block)
        count = self.out_features * self.in_features
        return values.flatten()[:count].view(self.out_features, self.in_features).to(self.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Return x W'^T + b [..., out] for ``x`` [..., in]."""
        return _Product.apply(x, self.bias, self)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move as any module; a change of dtype is W's and leaves the scales in float32."""
        exact = self.scales
        super()._apply(fn, recurse)
        self.scales = exact.to(self.scales.device)
        self.dtype = fn(torch.empty(0, dtype=self.dtype, device=exact.device)).dtype
        return self

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, {self.scheme}, block={self.block}"


class _Product(torch.autograd.Function):
    """x W'^T + b with W' made when it is needed, in either pass."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, bias: Tensor | None, layer: QuantisedLinear) -> Tensor:
        ctx.layer, ctx.dtype = layer, compute_dtype(x)
        b = None if bias is None else bias.to(ctx.dtype)
        return nn.functional.linear(x.to(ctx.dtype), layer.weight.to(ctx.dtype), b)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, dy: Tensor) -> tuple[Tensor | None, ...]:
        dx = db = None
        if ctx.needs_input_grad[0]:
            dx = dy.to(ctx.dtype) @ ctx.layer.weight.to(ctx.dtype)
        if ctx.needs_input_grad[1]:
            db = dy.reshape(-1, dy.shape[-1]).sum(0)
        return dx, db, None


WEIGHT_OF[QuantisedLinear] = lambda module: module.weight
QUANTISED.add(QuantisedLinear)


def quantise(
    model: nn.Module,
    scheme: str = "nf4",
    *,
    targets: str | Iterable[str] = ALL_LINEAR,
    exclude: Iterable[str] = (),
    block: int | None = None,
) -> list[str]:
    """Replace linear layers of ``model`` by quantised ones, in place, before updates are attached.

    Args:
        model: any module with linear layers.
        scheme: ``nf4`` or ``int8``.
        targets: as in ``attach``.
        exclude: names of modules to leave alone with all they hold.
        block: values a block; None takes the scheme's.

    Returns:
        The paths of the layers replaced.

    >>> model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 1)); quantise(model, "int8", targets=["0"])
    ['0']
    >>> model[0]
    QuantisedLinear(in_features=4, out_features=3, int8, block=4)
    """
    model = unwrap_model(model)
    chosen = select_targets(model, targets, exclude, ())
    quantised = {path: quantise_layer(path, module, scheme, block) for path, module in chosen.items()}
    for path, module in chosen.items():
        move_hooks(module, quantised[path])
        replace_module(model, path, quantised[path])
    return list(chosen)


def quantise_layer(path: str, module: nn.Module, scheme: str, block: int | None = None) -> QuantisedLinear:
    """Return the layer at ``path``, quantised.

    Args:
        path: The layer's path in the model.
        module: The linear layer, without an adapter.
        scheme: The name of a scheme, ``nf4`` or ``int8``.
        block: The number of values per block, 1 or more; None takes the scheme's.

    Raises:
        UsageError: If more than the layer's weight would be lost.
    """
    if isinstance(module, VIEWED):
        raise UsageError(
            f"layer {path} is of type {type(module).__name__}, and only linear layers are stored in few bits; leave it "
            "out of the targets, or choose a method that keeps its base dense"
        )
    if isinstance(module, Adapted):
        raise UsageError(f"layer {path} has an adapter; quantise the model before attaching")
    if "forward" in module.__dict__:
        raise UsageError(
            f"layer {path} has had its forward replaced, which a quantised layer would lose; take back what replaced "
            "it (accelerate.hooks.remove_hook_from_module for accelerate), or quantise the model before"
        )
    return QuantisedLinear.of(module, scheme, block)


def dequantise(model: nn.Module) -> list[str]:
    """Replace the quantised linear layers of ``model`` by dense ones with the rounded weights, in place.

    Adapters stay where they are and can be merged then. Returns the paths of the layers replaced.

    >>> model = nn.Sequential(nn.Linear(4, 3)); before = quantise(model); kept = model[0].weight
    >>> dequantise(model), torch.equal(model[0].weight, kept)
    (['0'], True)
    """
    model = unwrap_model(model)
    found = {path: module for path, module in model.named_modules() if BaseLinear.quantises(module)}
    owners = {id(module.base): module for module in model.modules() if isinstance(module, Adapted)}
    for path, module in found.items():
        dense = _dense(module)
        if id(module) in owners:
            owners[id(module)].rebase(dense)
        else:
            move_hooks(module, dense)
            replace_module(model, path, dense)
    return list(found)


def _dense(module: nn.Module) -> nn.Linear:
    base = BaseLinear(module)
    weight, bias = base.weight, base.bias
    linear = nn.Linear(*reversed(weight.shape), bias=bias is not None, device="meta", dtype=weight.dtype)
    linear.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
    if bias is not None:
        linear.bias = nn.Parameter(bias.detach().clone(), requires_grad=False)
    return linear.train(module.training)
