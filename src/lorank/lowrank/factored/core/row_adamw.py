r"""AdamW whose slices of a parameter have step counters of their own, so that one row can begin anew.

    m <- b1 m + (1 - b1) g,   v <- b2 v + (1 - b2) g^2
    p <- p - lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps) - lr decay p         t counted for each slice

Where no slice is ever reset this is `torch.optim.AdamW`. State: 2 values an entry, and 2 a slice.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lorank.errors import UsageError


class RowAdamW(torch.optim.Optimizer):
    """AdamW with steps and pauses for each slice of some parameters.

    Args:
        params: Parameters or groups.
        axes: The axis of the slices of each parameter that has them; all others have one counter.
        lr: The learning rate.
        betas: The decays of the two moments.
        eps: What is added to the root.
        weight_decay: The decoupled decay.
    """

    def __init__(
        self,
        params: Iterable[Any],
        axes: Mapping[nn.Parameter, int],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})
        self.axes = {id(parameter): axis for parameter, axis in axes.items()}

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step; paused slices stand still, and their pauses shorten."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._step(parameter, group)
        return loss

    def begin_slice(self, parameter: nn.Parameter, index: int, pause: int) -> None:
        """Forget all of one slice and let it stand still for ``pause`` steps.

        Raises:
            UsageError: For a parameter without slices.
        """
        axis = self.axes.get(id(parameter))
        if axis is None:
            raise UsageError("the parameter has no slices of its own; name it in `axes`")
        state = self._state(parameter)
        for name in ("exp_avg", "exp_avg_sq"):
            state[name].select(axis, index).zero_()
        state["step"][index] = 0
        state["pause"][index] = pause

    def _state(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        state: dict[str, Tensor] = self.state[parameter]
        if not state:
            axis = self.axes.get(id(parameter))
            counters = 1 if axis is None else parameter.shape[axis]
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
            state["step"] = torch.zeros(counters, device=parameter.device)
            state["pause"] = torch.zeros(counters, device=parameter.device)
        return state

    def _step(self, parameter: nn.Parameter, group: dict[str, Any]) -> None:
        state, grad = self._state(parameter), parameter.grad
        assert grad is not None
        axis = self.axes.get(id(parameter))
        shape = [1] * parameter.dim()
        if axis is not None:
            shape[axis] = -1
        moving = (state["pause"] == 0).to(grad)
        state["step"] += moving.to(state["step"])
        state["pause"].sub_(1).clamp_(min=0)
        first, second = group["betas"]
        on = moving.view(shape) if axis is not None else moving.squeeze()
        count = (state["step"].view(shape) if axis is not None else state["step"].squeeze()).clamp(min=1)
        state["exp_avg"].lerp_(grad, (1 - first) * on)
        state["exp_avg_sq"].lerp_(grad * grad, (1 - second) * on)
        root = (state["exp_avg_sq"] / (1 - second**count)).sqrt() + group["eps"]
        move = state["exp_avg"] / (1 - first**count) / root + group["weight_decay"] * parameter
        parameter.sub_(group["lr"] * on * move)
