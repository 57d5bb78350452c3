r"""PEFT's shapes of the factors of embeddings and convolutions, to and from those of a matrix W [out, in].

    embedding      lora_embedding_A [r, tokens]           lora_embedding_B [dim, r]
    convolution    lora_A [r, in, *kernel]                lora_B [out, r, 1, ...]
    in g groups    lora_A [g r, in, *kernel]              lora_B [out, r, 1, ...]

PEFT's A of a grouped convolution reads the channels of all groups, and its B has the groups. A here reads those of a
group, the same way for each; in PEFT's shape it stands g times, on the channels of each group, and is 0 elsewhere. What
PEFT itself trains there changes a group's output by another group's input, which no weight of the layer can do.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from lorank.lowrank.base import BaseLinear
from lorank.lowrank.matrix_view import MatrixView

A, B, MAGNITUDE = "lora_A.weight", "lora_B.weight", "lora_magnitude_vector"
TABLE_A, TABLE_B = "lora_embedding_A", "lora_embedding_B"


def find_peft_obstacle(base: BaseLinear, magnitude: bool = False) -> str | None:
    """Return why PEFT cannot compute a LoRA, or with a trained ``magnitude`` a DoRA, of this layer; None if it can."""
    if not isinstance(base, MatrixView) or base.embedding:
        return None
    module = base.module
    if any(step != 1 for step in module.dilation):
        return "PEFT leaves out the dilation of a convolution"
    if module.padding_mode != "zeros":
        return f"PEFT pads with zeros, and this convolution with {module.padding_mode!r}"
    if magnitude and base.groups > 1:
        return "PEFT computes the norms of a DoRA for convolutions without groups alone"
    return None


def to_peft(tensors: Mapping[str, Tensor], base: BaseLinear) -> dict[str, Tensor]:
    """Return the tensors of an update of a matrix in the shapes that PEFT has for the layer ``base``."""
    own = dict(tensors)
    if not isinstance(base, MatrixView) or A not in own or find_peft_obstacle(base, MAGNITUDE in own):
        return own
    if base.embedding:
        return {TABLE_A: own.pop(A), TABLE_B: own.pop(B), **own}
    kernel = base.module.weight.shape[2:]
    ones = (1,) * len(kernel)
    own[A] = _spread(own[A], base.groups).unflatten(1, (-1, *kernel))
    own[B] = own[B].reshape(*own[B].shape, *ones)
    if MAGNITUDE in own:
        own[MAGNITUDE] = own[MAGNITUDE].reshape(1, -1, *ones)
    return own


def from_peft(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of an update in the shapes of a matrix's, whatever kind of layer PEFT has them for.

    Raises:
        ValueError: Where a grouped convolution's update mixes its groups.
    """
    own = dict(tensors)
    if TABLE_A in own and TABLE_B in own:
        own[A], own[B] = own.pop(TABLE_A), own.pop(TABLE_B)
    if A in own and B in own and own[A].dim() > 2 and own[B].dim() > 2:
        groups = own[A].shape[0] // max(own[B].shape[1], 1)
        own[A] = _gather(own[A], groups).flatten(1) if groups > 1 else own[A].flatten(1)
        own[B] = own[B].flatten(1)
    return own


def _spread(factor: Tensor, groups: int) -> Tensor:
    """Return A [r, in / g * kernel] on the channels of each group: [g r, in * kernel]."""
    return factor if groups == 1 else torch.block_diag(*[factor] * groups)


def _gather(factor: Tensor, groups: int) -> Tensor:
    """Return the A [r, in / g, *kernel] that stands in ``factor`` [g r, in, *kernel] on the channels of each group."""
    rows, channels = factor.shape[0] // groups, factor.shape[1] // groups
    first = factor[:rows, :channels].contiguous()
    if not torch.equal(_spread(first.flatten(1), groups), factor.flatten(1)):
        raise ValueError(
            "PEFT's LoRA of a convolution in groups lets each group read the channels of all, which no weight of the "
            "layer can do; leave the layer out of its targets and train it again"
        )
    return first
