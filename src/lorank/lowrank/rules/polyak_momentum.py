r"""Polyak's step size for gradient descent with momentum.

    d_k = beta d_{k-1} + g_k,    eta_k = min(lr, (f_k - f*) / (c ||d_k||^2))

over all that is trained together; f_k is the loss of this step, f* the least one reachable. lr is an upper bound:
where the loss is far from f* compared with the slope it is what counts. beta = 0 is Polyak's own step (1969). The
direction is the sum, not the mean, of faded gradients: with the mean this step size diverges from beta = 0.6 on.

Wang, Johansson, Zhang, Generalized Polyak Step Size for First Order Optimization with Momentum, ICML 2023,
arXiv:2305.12939.

*Deviations*: weight decay is decoupled, as in AdamW.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lorank.catalogue import catalogued
from lorank.errors import UsageError
from lorank.lowrank.adapter import Adapter
from lorank.lowrank.rules.factor_optimizer import decay
from lorank.lowrank.rules.rule import Groups, Rates, Rule, rule


class PolyakMomentumOptimizer(torch.optim.Optimizer):
    """Momentum with Polyak's step; the first of ``betas`` is beta.

    The loss comes from the closure of ``step``, or from ``loss`` where there is none.

    >>> x = torch.nn.Parameter(torch.tensor([4.0]))
    >>> optimizer = PolyakMomentumOptimizer([x], Rates(10.0, betas=(0.0, 0.0)), c=0.5, lowest=0.0)
    >>> def loss():
    ...     x.grad = 2 * x.detach()
    ...     return x.detach().square().sum()
    >>> _ = optimizer.step(loss); x.item()
    0.0
    """

    def __init__(self, groups: Groups, rates: Rates, c: float, lowest: float) -> None:
        super().__init__(groups, rates.defaults())
        self.c, self.lowest = c, lowest
        self.loss: float | None = None

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:  # type: ignore[override]
        """Make one step."""
        value = None
        if closure is not None:
            with torch.enable_grad():
                value = closure()
            self.loss = float(value)
        if self.loss is None:
            raise UsageError("Polyak's step depends on the loss: give step() a closure, or set the optimizer's loss")
        square = torch.zeros(())
        moved = [(p, group) for group in self.param_groups for p in group["params"] if p.grad is not None]
        for parameter, group in moved:
            state = self.state[parameter]
            if not state:
                state["momentum"] = parameter.grad.clone()
            else:
                state["momentum"].mul_(group["betas"][0]).add_(parameter.grad)
            square = square + state["momentum"].square().sum()
        polyak = max(self.loss - self.lowest, 0.0) / max(self.c * float(square), 1e-30)
        for parameter, group in moved:
            decay(parameter, group)
            parameter.sub_(self.state[parameter]["momentum"], alpha=min(group["lr"], polyak))
        self.loss = None
        return value


@rule("polyak-momentum")
@catalogued(
    "polyak-momentum",
    area="adapters.optim",
    title="Generalized Polyak Step Size for First Order Optimization with Momentum",
)
@dataclass
class PolyakMomentum(Rule):
    """Momentum with a step size that the loss decides; ``lowest`` is f*, ``c`` 1/2 or more.

    State: ``r * (out + width)`` values a pair.
    """

    lr = 0.05
    c: float = 1.0
    lowest: float = 0.0
    _optimizer: PolyakMomentumOptimizer | None = field(default=None, init=False, repr=False)

    clips = False

    def __post_init__(self) -> None:
        if not self.c > 0:
            raise UsageError(f"c {self.c!r} is not above 0")

    def optimizer(self, groups: Groups, adapter: Adapter, rates: Rates) -> torch.optim.Optimizer:
        self._optimizer = PolyakMomentumOptimizer(groups, rates, self.c, self.lowest)
        return self._optimizer

    def after_backward(self, loss: float) -> None:
        assert self._optimizer is not None
        self._optimizer.loss = loss
