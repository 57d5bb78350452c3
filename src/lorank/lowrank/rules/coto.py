r"""CoTo: adapters come in one after the other; early steps train a few of them at a time.

    each group of layers is active with probability p(t) = p0 + (1 - p0) t / (ramp T),  then 1;  at least one is

An inactive layer computes with its base weight alone in that step, without any rescaling. All are active when
the model is evaluated. Draws depend on the adapter's seed and the step only.

Zhuang et al., Come Together, But Not Right Now: A Progressive Strategy to Boost Low-Rank Adaptation, 2025,
arXiv:2506.05713.

*Deviations*: none known; a group is all that lies in one numbered block of the model, or every layer by itself.
"""

import re
from dataclasses import dataclass, field
from typing import Literal

import torch

from lorank.catalogue import catalogued
from lorank.errors import UsageError, unknown_name
from lorank.lowrank.adapter import Adapter
from lorank.lowrank.forms.form import seeded_generator
from lorank.lowrank.layer import Adapted
from lorank.lowrank.rules.rule import Losses, Rule, rule


def block_of(path: str) -> str:
    """Return the part of ``path`` up to its first number, or all of it.

    >>> block_of("encoder.layer.3.attention.self.query")
    'encoder.layer.3'
    """
    found = re.match(r"(.*?\.\d+)(\.|$)", path)
    return found[1] if found else path


@rule("coto")
@catalogued(
    "coto",
    area="adapters.optim",
    title="Come Together, But Not Right Now: A Progressive Strategy to Boost Low-Rank Adaptation",
)
@dataclass
class CoTo(Rule):
    """AdamW, with layers left out at random ever more rarely.

    State: ``2 * r * (out + width)`` values a pair.
    """

    lr = 0.001
    start: float = 0.1
    ramp: float = 0.75
    groups: Literal["block", "layer"] = "block"
    _members: dict[str, list[Adapted]] = field(default_factory=dict, init=False, repr=False)
    _seed: int = field(default=0, init=False, repr=False)
    _name: str = field(default="", init=False, repr=False)

    optimizes = False

    def __post_init__(self) -> None:
        if not (0 < self.start <= 1 and 0 < self.ramp <= 1):
            raise UsageError(f"start {self.start!r} and ramp {self.ramp!r} must be in (0, 1]")
        if self.groups not in ("block", "layer"):
            raise unknown_name("kind of groups", self.groups, ("block", "layer"))

    def begin(self, adapter: Adapter, optimizer: torch.optim.Optimizer, steps: int, losses: Losses | None) -> None:
        """Put the layers into the groups that are active together.

        Args:
            adapter: The adapter, whose layers are grouped and whose seed the draws come from.
            optimizer: It is not used.
            steps: It is not used.
            losses: It is not used.
        """
        self._members, self._seed, self._name = {}, adapter.settings.seed, adapter.name
        for path, layer in adapter.layers.items():
            self._members.setdefault(block_of(path) if self.groups == "block" else path, []).append(layer)

    def probability(self, step: int, steps: int) -> float:
        """Return p(t) of ``step``, counted from 0.

        >>> [round(CoTo(start=0.25).probability(step, 8), 3) for step in (0, 3, 6, 7)]
        [0.25, 0.625, 1.0, 1.0]
        """
        return min(1.0, self.start + (1 - self.start) * step / (self.ramp * steps))

    def active_groups(self, step: int, steps: int) -> set[str]:
        """Return the names of the groups that take part in ``step``."""
        names = list(self._members)
        generator = seeded_generator(self._seed, "coto", step)
        draws = torch.rand(len(names), generator=generator)
        chosen = {name for name, draw in zip(names, draws, strict=True) if draw < self.probability(step, steps)}
        return chosen or {names[int(torch.randint(len(names), (), generator=generator))]}

    def before_step(self, step: int, steps: int) -> None:
        chosen = self.active_groups(step, steps)
        for name, layers in self._members.items():
            for layer in layers:
                layer.switch(self._name, name in chosen)

    def after_step(self, step: int, steps: int) -> None:
        for layers in self._members.values():
            for layer in layers:
                layer.switch(self._name, True)
