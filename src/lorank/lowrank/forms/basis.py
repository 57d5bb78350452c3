"""Frozen random tensors that are drawn again from a seed wherever they are needed, and never saved."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lorank.lowrank.forms.form import Site, seeded_generator

Shared = dict[tuple[object, ...], nn.Module]
"""What the forms of one adapter share, by purpose and shape; made in ``build``, handed to each form."""

Draw = Callable[[tuple[int, ...], torch.Generator], Tensor]


class Basis(nn.Module):
    """A constant tensor under ``value``: it moves with the model and is left out of every state."""

    value: Tensor

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.register_buffer("value", value, persistent=False)


def draw_uniform(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draw from U(-1, 1) / sqrt(last dimension): He's rule with slope sqrt 5, as LoRA's A."""
    drawn = torch.empty(shape).uniform_(-1, 1, generator=generator)
    return drawn / float(max(shape[-1], 1) ** 0.5)


def draw_normal(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draw from N(0, 1)."""
    return torch.randn(shape, generator=generator)


def shared_basis(shared: Shared, site: Site, purpose: str, shape: tuple[int, ...], draw: Draw = draw_uniform) -> Basis:
    """Return the basis of this purpose and shape, drawn once per adapter.

    Its values depend on the seed, the purpose and the shape alone: not on the layer, nor on which layers are
    adapted. They are drawn in float32 on the CPU, so they are bit-equal wherever they are drawn.

    Args:
        shared: What the forms of the adapter share; a basis that is drawn enters it.
        site: The place of the update, which gives the seed, the dtype and the device.
        purpose: A name that distinguishes bases of equal shapes.
        shape: The shape of the tensor.
        draw: It draws a tensor of a shape with a generator.

    >>> from lorank.lowrank.base import BaseLinear
    >>> site = Site("layer", BaseLinear(nn.Linear(3, 2)), rank=1, alpha=1.0, scaling=1.0)
    >>> one, two = (shared_basis({}, site, "A", (1, 3)).value for _ in range(2)); torch.equal(one, two)
    True
    """
    key = (purpose, shape, site.dtype, site.device)
    if key not in shared:
        value = draw(shape, seeded_generator(site.seed, purpose, *shape))
        shared[key] = Basis(value.to(site.device, site.dtype))
    basis = shared[key]
    assert isinstance(basis, Basis)
    return basis
