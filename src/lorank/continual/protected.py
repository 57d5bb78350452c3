"""Streams by projected optimizers whose updates keep off former tasks' directions: CoSO and GORP.

Each stage trains the matrices of the whole model. At its end the optimizer's directions of the task join the history H
of each matrix, which lies in the stage's folder and begins the next stage's optimizer. What H cannot protect
(embeddings, biases, normalisations) rests, but for heads that the checkpoint did not bring; weights do not decay.
"""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lorank.continual.core.method import ContinualMethod, continual_method
from lorank.continual.core.state import read_tensors, write_tensors
from lorank.continual.core.stream import Stream
from lorank.errors import UsageError
from lorank.lowrank.projected import ProjectedOptimizer
from lorank.lowrank.projected.projectors.orthogonal import end_task
from lorank.training.fitting import Fitted
from lorank.training.hooks.hook import Access, Hook, Progress
from lorank.training.plan import Plan
from lorank.training.recipe import RecipeFile

STATE = "history.safetensors"


class Protect(Hook):
    """Gives the optimizer the history of former tasks, and lets rest what no history protects.

    Args:
        history: H by the name of the parameter; empty at the first stage.
        heads: The parameters that step plainly all the same.
    """

    optimizer: ProjectedOptimizer | None = None

    def __init__(self, history: dict[str, torch.Tensor], heads: list[nn.Parameter]) -> None:
        self.history, self.heads = history, {id(head) for head in heads}

    def begin(self, access: Access) -> None:
        """Put H in the optimizer's state; a checkpoint that is taken up brings its own."""
        assert isinstance(access.optimizer, ProjectedOptimizer)
        self.optimizer = access.optimizer
        for parameter, name in self.optimizer.names.items():
            if name in self.history:
                self.optimizer.state[parameter]["history"] = self.history[name].to(parameter.device)

    def after_backward(self, progress: Progress, optimizer: torch.optim.Optimizer) -> None:
        """Drop the gradients of what rests."""
        for group in optimizer.param_groups:
            for parameter in group["params"] if group["plain"] else ():
                if id(parameter) not in self.heads:
                    parameter.grad = None

    def close(self, energy: float) -> dict[str, torch.Tensor]:
        """End the task, and return H by name."""
        assert self.optimizer is not None
        end_task(self.optimizer, energy)
        states = {name: self.optimizer.state[parameter] for parameter, name in self.optimizer.names.items()}
        return {name: state["history"] for name, state in states.items() if "history" in state}


class Protected(ContinualMethod):
    """Sequential training by a projected optimizer with a history.

    Args:
        energy: The share, in (0, 1], of a task's directions, by their square, that later tasks keep off.
    """

    optimizer = ""

    def __init__(self, energy: float = 0.95) -> None:
        if not (0 < energy <= 1 and math.isfinite(energy)):
            raise UsageError(f"continual.energy is {energy!r}; give a share above 0, up to 1")
        self.energy, self.protect = energy, Protect({}, [])

    def settle(self, recipe: RecipeFile) -> RecipeFile:
        if recipe.adapter.name not in ("auto", "full") or recipe.optimizer.name not in ("auto", self.optimizer):
            raise UsageError(
                f"continual method {self.optimizer!r} trains whole matrices by an optimizer of its own; leave adapter "
                "and optimizer out"
            )
        return replace(
            recipe,
            adapter=replace(recipe.adapter, name="full"),
            optimizer=replace(recipe.optimizer, name=self.optimizer),
            training=replace(recipe.training, weight_decay=0.0),
        )

    def prepare(self, stream: Stream, number: int, plan: Plan) -> Plan:
        history = read_tensors(stream.folder(number - 1) / STATE) if number > 1 else {}
        self.protect = Protect(history, [head for _, head in plan.ranker.head_parameters()])
        return replace(plan, added=(*plan.added, self.protect))

    def finish(self, stream: Stream, number: int, fitted: Fitted, folder: Path) -> dict[str, Any]:
        history = self.protect.close(self.energy)
        write_tensors(folder / STATE, history)
        widths = [own.shape[1] / own.shape[0] for own in history.values()]
        return {"protected": sum(widths) / max(len(widths), 1)}


@continual_method("coso")
class CosoStream(Protected):
    """Directions from a sketch of each task's gradients."""

    optimizer = "coso"


@continual_method("gorp")
class GorpStream(Protected):
    """Directions from each task's last Adam moments; a LoRA steps beside the subspace."""

    optimizer = "gorp"
