r"""TAG: Adam whose step shrinks where a former task's gradients point against those of this one.

    M_t <- b1 M_t + (1 - b1) g,   V_t <- b2 V_t + (1 - b2) g^2,   a_u = exp(-b cos(M_t, M_u)) of each former task u
    W <- W (1 - lr wd) - lr M'_t / (sqrt(V'_t + sum_u a_u V'_u) + eps),   ' : corrected for the start at 0

M_u, V_u [as the parameter] are those that task u ended with; the cosine is taken per parameter. A former task that
points the same way leaves the step nearly as it is, one that is at a right angle lowers it, one that points against it
lowers it by far. One task is Adam. Kept: two values per parameter and task.

Malviya, Ravindran, Chandar, TAG: Task-based Accumulated Gradients for Lifelong Learning, 2021, arXiv:2105.05155.

*Deviations*: the paper scales RMSProp, Adagrad and Adam; this is Adam with decoupled weight decay. Former moments stay
in the coordinates of the adapter, which a stream keeps from stage to stage.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lorank.catalogue import catalogued
from lorank.continual.core.method import continual_method
from lorank.continual.core.state import read_tensors, write_tensors
from lorank.continual.core.stream import Stream
from lorank.continual.sequential import Sequential
from lorank.errors import UsageError
from lorank.training.fitting import Fitted
from lorank.training.hooks.hook import Access, Hook
from lorank.training.plan import Plan
from lorank.training.recipe import RecipeFile
from lorank.training.settings import OptimizerSettings

STATE = "tag.safetensors"

Moments = Mapping[str, Tensor]
"""By "first" and "second" of a parameter: corrected for their start at 0."""


class TAG(torch.optim.Optimizer):
    """Adam with the moments of former tasks in its denominator.

    Args:
        parameters: Parameters or groups, as torch takes them.
        former: The moments of former tasks, each a mapping from the parameter's position to its moments.
        lr: The rate, 0 or more.
        b: How strongly the relatedness counts, 0 or more.
        betas: Of the moments.
        eps: Added to the root.
        weight_decay: Decoupled.

    >>> weight = torch.nn.Parameter(torch.ones(2)); weight.grad = torch.ones(2)
    >>> TAG([weight], lr=0.1).step(); [round(value, 4) for value in weight.tolist()]
    [0.9, 0.9]
    """

    def __init__(
        self,
        parameters: Iterable[Any],
        former: Sequence[Mapping[int, Moments]] = (),
        *,
        lr: float = 1e-3,
        b: float = 5.0,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})
        self.former, self.b = list(former), b

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:  # type: ignore[override]
        """Make one step."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        places = (
            (group, place)
            for group, first in zip(self.param_groups, self._firsts(), strict=True)
            for place in enumerate(group["params"], first)
        )
        for group, (place, parameter) in places:
            if parameter.grad is not None:
                self._step_parameter(place, parameter, group)
        return loss

    def moments(self) -> dict[int, dict[str, Tensor]]:
        """Return what this task ends with, by the parameter's position: both moments, corrected."""
        found = {}
        for group, first in zip(self.param_groups, self._firsts(), strict=True):
            for place, parameter in enumerate(group["params"], first):
                state = self.state.get(parameter)
                if state:
                    found[place] = dict(zip(("first", "second"), self._corrected(state, group), strict=True))
        return found

    def scale(self, place: int, first: Tensor) -> Tensor | None:
        """Return sum_u a_u V'_u for a parameter whose first moment is ``first``; None without former tasks."""
        total: Tensor | None = None
        for task in self.former:
            if place not in task:
                continue
            cosine = torch.nn.functional.cosine_similarity(first.flatten(), task[place]["first"].flatten(), dim=0)
            part = task[place]["second"] * torch.exp(-self.b * cosine)
            total = part if total is None else total + part
        return total

    def _firsts(self) -> list[int]:
        counts = [len(group["params"]) for group in self.param_groups]
        return [sum(counts[:k]) for k in range(len(counts))]

    def _corrected(self, state: Mapping[str, Tensor], group: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        b1, b2 = group["betas"]
        count = float(state["step"])
        return state["exp_avg"] / (1 - b1**count), state["exp_avg_sq"] / (1 - b2**count)

    def _step_parameter(self, place: int, parameter: Tensor, group: Mapping[str, Any]) -> None:
        assert parameter.grad is not None
        state, (b1, b2) = self.state[parameter], group["betas"]
        if not state:
            state["step"] = torch.zeros(())
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        state["step"] += 1
        state["exp_avg"].lerp_(parameter.grad, 1 - b1)
        state["exp_avg_sq"].mul_(b2).addcmul_(parameter.grad, parameter.grad, value=1 - b2)
        first, second = self._corrected(state, group)
        more = self.scale(place, first)
        root = (second if more is None else second + more).sqrt().add_(group["eps"])
        parameter.mul_(1 - group["lr"] * group["weight_decay"]).addcdiv_(first, root, value=-group["lr"])


class KeepOptimizer(Hook):
    """Keeps the run's optimizer within reach once the run has ended."""

    watches = True
    optimizer: torch.optim.Optimizer | None = None

    def begin(self, access: Access) -> None:
        """Take the optimizer."""
        self.optimizer = access.optimizer


@continual_method("tag-lifelong")
@catalogued("tag-lifelong", area="continual", title="TAG: Task-based Accumulated Gradients for Lifelong learning")
class TagLifelong(Sequential):
    """Sequential training by TAG; ``b`` is how strongly relatedness counts, 0 or more."""

    def __init__(self, b: float = 5.0) -> None:
        if not (b >= 0 and math.isfinite(b)):
            raise UsageError(f"continual.b is {b!r}; give a number from 0 up")
        self.b, self.kept = b, KeepOptimizer()

    def settle(self, recipe: RecipeFile) -> RecipeFile:
        if recipe.optimizer.name not in ("auto", "adamw") or recipe.rule.name not in ("auto", "adamw"):
            raise UsageError("tag-lifelong is an optimizer itself; leave --optimizer and --rule out")
        return super().settle(recipe)

    def prepare(self, stream: Stream, number: int, plan: Plan) -> Plan:
        plan = super().prepare(stream, number, plan)
        former = [_read(stream.folder(task) / STATE) for task in range(1, number)]
        self.kept = KeepOptimizer()

        def make(groups: list[dict[str, Any]], settings: OptimizerSettings) -> torch.optim.Optimizer:
            own = {"betas": settings.betas, "weight_decay": settings.weight_decay}
            device = plan.ranker.device
            moved = [{k: {n: t.to(device) for n, t in m.items()} for k, m in task.items()} for task in former]
            return TAG(groups, moved, lr=settings.rate, b=self.b, **own)  # type: ignore[arg-type]

        return replace(plan, projecting=make, added=(*plan.added, self.kept))

    def finish(self, stream: Stream, number: int, fitted: Fitted, folder: Path) -> dict[str, Any]:
        assert isinstance(self.kept.optimizer, TAG)
        moments = self.kept.optimizer.moments()
        write_tensors(folder / STATE, {f"{k}.{name}": t for k, own in moments.items() for name, t in own.items()})
        return {}


def _read(path: Path) -> dict[int, dict[str, Tensor]]:
    task: dict[int, dict[str, Tensor]] = {}
    for key, tensor in read_tensors(path).items():
        place, name = key.split(".")
        task.setdefault(int(place), {})[name] = tensor
    return task
