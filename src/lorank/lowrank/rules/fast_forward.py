r"""Fast Forward: after a few optimizer steps, take the last one again while a held-out loss falls.

    every ``interval`` steps: Delta = theta_t - theta_{t-1};  while L(theta + Delta) < L(theta): theta <- theta + Delta

L is the mean loss on ``batches`` batches that are never trained on. A try costs their forward pass and no
backward pass. The point that raised L first is left again: the lowest one is kept, bit for bit.

Rahamim, Kangaslahti, Saphra, Belinkov, Fast Forwarding Low-Rank Training, 2024, arXiv:2409.04206.

*Deviations*: at most ``most`` repetitions; Adam's moments stay as they were, as in the paper.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lorank.catalogue import catalogued
from lorank.errors import UsageError
from lorank.lowrank.adapter import Adapter
from lorank.lowrank.rules.rule import Losses, Rule, rule


@rule("fast-forward")
@catalogued("fast-forward", area="adapters.optim", title="Fast Forwarding Low-Rank Training")
@dataclass
class FastForward(Rule):
    """AdamW with repeated last steps; ``repeated`` counts them, ``tries`` the evaluations of L.

    State: ``2 * r * (out + width)`` values a pair, and a copy of the factors within every ``interval``-th step.
    """

    lr = 0.001
    interval: int = 6
    batches: int = 1
    most: int = 100
    repeated: int = field(default=0, init=False)
    tries: int = field(default=0, init=False)
    _parameters: list[Tensor] = field(default_factory=list, init=False, repr=False)
    _before: list[Tensor] = field(default_factory=list, init=False, repr=False)
    _losses: Losses | None = field(default=None, init=False, repr=False)

    optimizes = False

    def __post_init__(self) -> None:
        if min(self.interval, self.batches) < 1 or self.most < 0:
            raise UsageError("fast-forward needs interval and batches from 1 up and most from 0 up")

    def begin(self, adapter: Adapter, optimizer: torch.optim.Optimizer, steps: int, losses: Losses | None) -> None:
        """Keep the losses, and the parameters whose last step is repeated.

        Args:
            adapter: It is not used.
            optimizer: The optimizer, all of whose parameters are repeated.
            steps: It is not used.
            losses: The losses, of which the one on held-out lists decides.

        Raises:
            UsageError: If there are no held-out lists.
        """
        if losses is None or losses.held_out is None:
            raise UsageError("fast-forward asks for a loss on lists that are not trained on, and there are none")
        self._losses = losses
        self._parameters = [p for group in optimizer.param_groups for p in group["params"]]

    def before_step(self, step: int, steps: int) -> None:
        if (step + 1) % self.interval == 0:
            self._before = [p.detach().clone() for p in self._parameters]

    @torch.no_grad()
    def after_step(self, step: int, steps: int) -> None:
        if not self._before:
            return
        moves = [p - before for p, before in zip(self._parameters, self._before, strict=True)]
        self._before = []
        lowest = self._held_out()
        for _ in range(self.most):
            kept = [p.detach().clone() for p in self._parameters]
            torch._foreach_add_(self._parameters, moves)
            reached = self._held_out()
            if not reached < lowest:
                torch._foreach_copy_(self._parameters, kept)
                return
            lowest = reached
            self.repeated += 1

    def _held_out(self) -> float:
        assert self._losses is not None
        assert self._losses.held_out is not None
        self.tries += 1
        return sum(float(self._losses.held_out(index)) for index in range(self.batches)) / self.batches

    def state(self) -> dict[str, Tensor]:
        return {"counts": torch.tensor([self.repeated, self.tries])}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self.repeated, self.tries = (int(count) for count in state["counts"])
