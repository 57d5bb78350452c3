"""An optimizer that steps the two factors of a pair together, and everything else by AdamW."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from lorank.errors import UsageError
from lorank.lowrank.rules.rule import Groups, Pair, Rates

Group = dict[str, Any]


class FactorOptimizer(torch.optim.Optimizer, ABC):
    """Base of the optimizers of rules; subclasses step one pair. State is tensors only.

    Args:
        groups: parameters or parameter groups, holding the factors of ``pairs`` among others.
        pairs: both factors of a pair must be in one group.
        rates: defaults of the groups.
    """

    def __init__(self, groups: Groups, pairs: Sequence[Pair], rates: Rates) -> None:
        super().__init__(groups, rates.defaults())
        self.pairs = list(pairs)
        self._paired = {id(factor) for pair in self.pairs for factor in (pair.A, pair.B)}
        place = {id(p): index for index, group in enumerate(self.param_groups) for p in group["params"]}
        for pair in self.pairs:
            if place.get(id(pair.A)) is None or place[id(pair.A)] != place.get(id(pair.B)):
                raise UsageError(f"the factors of {pair.path} are not in one parameter group of the optimizer")
        self._place = place

    @abstractmethod
    def step_pair(self, pair: Pair, group: Group) -> None:
        """Step A and B in place; both have gradients, and autograd is off."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:  # type: ignore[override]
        """Make one step."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for pair in self.ready_pairs():
            self.step_pair(pair, self.group_of(pair))
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None and id(parameter) not in self._paired:
                    decay(parameter, group)
                    parameter.sub_(adam_direction(parameter.grad, self.state[parameter], group), alpha=group["lr"])
        return loss

    def ready_pairs(self) -> list[Pair]:
        """Return the pairs whose factors have gradients."""
        return [pair for pair in self.pairs if pair.A.grad is not None and pair.B.grad is not None]

    def group_of(self, pair: Pair) -> Group:
        """Return the parameter group of a pair."""
        return self.param_groups[self._place[id(pair.A)]]


def adam_direction(gradient: Tensor, state: dict[str, Any], group: Group) -> Tensor:
    """Return Adam's m / (sqrt v + eps), both bias-corrected, and remember ``gradient`` in the moments.

    Kingma and Ba, 2014, arXiv:1412.6980. ``state`` holds step, exp_avg and exp_avg_sq.
    """
    if not state:
        state["step"] = torch.zeros(())
        state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(gradient), torch.zeros_like(gradient)
    state["step"] += 1
    state["exp_avg"].lerp_(gradient, 1 - group["betas"][0])
    state["exp_avg_sq"].mul_(group["betas"][1]).addcmul_(gradient, gradient, value=1 - group["betas"][1])
    return direction_of_moments(state["exp_avg"], state["exp_avg_sq"], state["step"].item(), group)


def direction_of_moments(first: Tensor, second: Tensor, step: float, group: Group) -> Tensor:
    """Return m / (sqrt v + eps) of bias-corrected moments, of their shape.

    Args:
        first: The running mean of the gradients.
        second: The running mean of the squared gradients, of the same shape.
        step: The number of gradients that entered the moments, 1 or more.
        group: The parameter group, of which ``betas`` and ``eps`` are read.
    """
    beta1, beta2 = group["betas"]
    denominator = second.sqrt().div_((1 - beta2**step) ** 0.5).add_(group["eps"])
    return first / denominator.mul_(1 - beta1**step)


def decay(parameter: Tensor, group: Group) -> None:
    """Shrink ``parameter`` by lr * weight_decay, decoupled from the gradient."""
    if group["weight_decay"]:
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
