"""Which layers train at a time: all of them, and the base of policies that draw some."""

from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from lorank.lowrank.projected.projection import Projection
from lorank.lowrank.projected.projectors.projector import State
from lorank.lowrank.projected.registry import entry

States = MutableMapping[Any, State]
"""The states of an optimizer, by parameter."""


@dataclass(frozen=True)
class Layer:
    """The parameters of one block of a model, such as ``encoder.layer.3``; its ``matrices`` are projected."""

    path: str
    parameters: list[nn.Parameter] = field(default_factory=list)
    matrices: list[nn.Parameter] = field(default_factory=list)


class Layers:
    """All layers, always."""

    def __init__(self, layers: Sequence[Layer], options: Projection, seed: int) -> None:
        self.layers, self.options, self.seed = list(layers), options, seed

    def begin(self, states: States) -> None:
        """Choose what trains in the first steps."""

    def resume(self, states: States) -> None:
        """Let train what the restored ``states`` say."""

    def after_step(self, states: States) -> None:
        """Change what trains after a step; states of what rests are removed."""


LAYERS: dict[str, type[Layers]] = {}
"""Every policy under its name."""

entry(LAYERS, "all")(Layers)


def block_of(path: str) -> str | None:
    """Return the block that a parameter belongs to: its path up to the first number, None outside of numbered blocks.

    >>> block_of("encoder.layer.3.attention.query.weight"), block_of("embeddings.words.weight")
    ('encoder.layer.3', None)
    """
    parts = path.split(".")
    at = next((place for place, part in enumerate(parts[:-1]) if part.isdigit()), None)
    return None if at is None else ".".join(parts[: at + 1])
