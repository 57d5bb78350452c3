"""What one forward pass carries along a path of connected bottlenecks, through activation checkpointing as well.

A block under checkpointing runs again in the backward pass, alone and out of order, and needs the state that the
bottleneck below it had in the same forward pass. The states of passes whose gradients are still to come are kept
(without their graphs) until their gradients are there, and found again by their inputs, which come back as they were.
"""

import threading
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor

from lorank.errors import UsageError

PASSES = 64
"""How many forward passes may await their backward pass at a time."""
SAME = 1e-3
"""How far apart two runs of a block on the same input may be, relative to its size."""


@dataclass(eq=False)
class Visit:
    """One bottleneck in one forward pass: the sketch of its input, and the state that it read."""

    sketch: Tensor
    state: Tensor


@dataclass
class Live(threading.local):
    """The state that the last bottleneck of this thread gave, its place, and the backward pass that it ran in."""

    state: Tensor | None = None
    place: int = -1
    task: int = -1


@dataclass
class Pathway:
    """The states of a path of ``length`` bottlenecks; a copy starts empty."""

    length: int
    live: Live = field(default_factory=Live, repr=False)
    visits: dict[int, deque[Visit]] = field(default_factory=dict, repr=False)

    def read(self, place: int, h: Tensor) -> Tensor:
        """Return the state of the bottleneck below ``place``, which reads ``h``.

        Raises:
            UsageError: where that one has not run, or its pass cannot be found again.
        """
        task = _backward_pass()
        if task >= 0:
            found = self._find(place, h)
            if found is not None:
                return found
        live = self.live
        if live.state is not None and live.place == place - 1 and live.task == task:
            if live.state.shape[:-1] != h.shape[:-1]:
                raise UsageError("the modules of a path read tensors of different shapes; connect those that read one")
            if task < 0 and live.state.requires_grad:
                self._keep(place, h, live.state)
            return live.state
        if task >= 0:
            raise UsageError(
                "connected bottlenecks lost their path under activation checkpointing; call checkpoint with "
                'use_reentrant=False (gradient_checkpointing_kwargs={"use_reentrant": False}), or attach them with '
                "connected=False"
            )
        raise UsageError("a module of the path ran before those below it; connect modules in their order")

    def write(self, place: int, state: Tensor) -> None:
        """Take the ``state`` of the bottleneck at ``place`` for the one above it."""
        last = place == self.length - 1
        self.live.state = None if last else state
        self.live.place, self.live.task = place, _backward_pass()

    def _keep(self, place: int, h: Tensor, state: Tensor) -> None:
        visit = Visit(_sketch(h), state.detach().requires_grad_())
        kept = self.visits.setdefault(place, deque(maxlen=PASSES))
        kept.append(visit)

        def forget(gradient: Tensor) -> None:
            if visit in kept:
                kept.remove(visit)

        state.register_hook(forget)

    def _find(self, place: int, h: Tensor) -> Tensor | None:
        sketch = _sketch(h)
        fitting = [visit for visit in self.visits.get(place, ()) if visit.state.shape[:-1] == h.shape[:-1]]
        gaps = [(visit.sketch - sketch).abs().max().item() for visit in fitting]
        limit = SAME * max(sketch.abs().max().item(), 1e-12)
        best = min(range(len(gaps)), key=gaps.__getitem__, default=None)
        return None if best is None or not gaps[best] <= limit else fitting[best].state

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return type(self)(self.length)

    def __reduce__(self) -> tuple[type, tuple[int]]:
        return type(self), (self.length,)


@torch.no_grad()
def _sketch(h: Tensor) -> Tensor:
    """Return a few weighted sums of ``h``, by which it is known again."""
    flat = h.detach().reshape(-1).double()
    ramp = torch.linspace(0, 97, len(flat), dtype=torch.float64, device=h.device)
    return torch.stack([flat.abs().sum(), (flat * ramp.sin()).sum(), (flat * ramp.cos()).sum()])


def in_backward_pass() -> bool:
    """Return whether a backward pass runs in this thread: then a forward pass is a checkpointed block's second."""
    return _backward_pass() >= 0


def _backward_pass() -> int:
    """Return the number of the backward pass that runs in this thread, -1 outside of one and in a compiled graph."""
    if torch.compiler.is_compiling():
        return -1
    return int(torch._C._current_graph_task_id())
