r"""The one optimizer of projected gradients, for all methods: a torch optimizer whose state is tensors alone.

A matrix W [rows, columns] with gradient G, turned so that the shorter side comes first, steps by

    R = P^T G,   N = inner(R),   D = residual(G, R, P N),   W <- W (1 - lr wd) - lr D

P [short, rank] is found anew by the refresh policy. Any other parameter steps by the inner rule on its own gradient.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from lorank.errors import UsageError
from lorank.lowrank.linalg import working_dtype
from lorank.lowrank.projected.axes import check_axes
from lorank.lowrank.projected.checks import check_numbers, check_parameter, check_rank
from lorank.lowrank.projected.inner import INNERS, storage_dtype
from lorank.lowrank.projected.layers import LAYERS
from lorank.lowrank.projected.moments import MOMENTS
from lorank.lowrank.projected.parameters import Parameters, layers_of, make_groups, rank_for
from lorank.lowrank.projected.projection import Projection
from lorank.lowrank.projected.projectors import PROJECTORS, State
from lorank.lowrank.projected.refresh import REFRESHES
from lorank.lowrank.projected.residuals import RESIDUALS, Parts
from lorank.lowrank.projected.seeds import generator_of
from lorank.lowrank.projected.weights import WEIGHTS, check_rounding


class ProjectedOptimizer(torch.optim.Optimizer):
    """A projected optimizer over parameters, groups of them, or a model.

    Args:
        parameters: A model, whose linear layers are projected and whose other parameters step plainly; or parameters,
            pairs of name and parameter, or groups as torch takes them, of which all matrices are projected. A group's
            ``rank`` is its own; ``"plain": True`` steps a group without projection.
        options: The point on the axes.
        lr: The rate, 0 or more.
        rank: The rank of matrices whose group states none; None takes a quarter of each one's shorter side. A
            matrix of a loose parameter that is smaller than the rank steps plainly.
        betas: Of the inner rule's moments, each in [0, 1).
        eps: Added to the root of the second moment, 0 or more.
        weight_decay: Decoupled, 0 or more.
        seed: Of all draws.
        targets: Of a model: the layers that are projected, as in ``attach``.
        exclude: Of a model: modules that step plainly with all they hold.

    Raises:
        UsageError: For names, numbers and combinations that cannot be, and for a rank that no matrix bears.

    >>> weight = nn.Parameter(torch.tensor([[3.0, 0.0, 0.0], [0.0, 4.0, 0.0]]))
    >>> optimizer = ProjectedOptimizer([weight], Projection(inner="sgd"), lr=0.5, rank=1)
    >>> weight.square().sum().div(2).backward(); optimizer.step(); weight.tolist()
    [[3.0, 0.0, 0.0], [0.0, 2.0, 0.0]]
    """

    def __init__(
        self,
        parameters: Parameters,
        options: Projection,
        *,
        lr: float,
        rank: int | None = None,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        seed: int = 0,
        targets: str | Iterable[str] = "all-linear",
        exclude: Iterable[str] = (),
    ) -> None:
        check_numbers(lr, rank, betas, eps, weight_decay)
        self.options, self.seed = options, seed
        check_axes(options)
        self.projector, self.refresh = PROJECTORS[options.projector](), REFRESHES[options.refresh]()
        self.inner, self.residual = INNERS[options.inner](), RESIDUALS[options.residual]()
        self.transport, self.weights = MOMENTS[options.moments], WEIGHTS[options.weights]()
        groups, self.names = make_groups(parameters, targets, exclude)
        self.places: dict[nn.Parameter, int] = {}
        self.ranks: dict[nn.Parameter, int | None] = {}
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "rank": rank}
        super().__init__(groups, defaults | {"plain": False, "strict": False})
        if not any(each is not None for each in self.ranks.values()):
            raise UsageError(
                f"rank {rank} is above the shorter side of every matrix; give a lower rank"
                if rank
                else "there is no matrix to project; use torch.optim.AdamW"
            )
        self.layers = LAYERS[options.layers](layers_of(self.param_groups, self.names), options, seed)
        self.layers.begin(self.state)
        self.hooks = [self._hook(p, group) for p, group in self._trained()] if options.in_backward else []

    def add_param_group(self, group: dict[str, Any]) -> None:
        """Add a group; its matrices must bear the rank that it states itself."""
        if "rank" in group:
            group = {**group, "strict": group["rank"] is not None, "plain": group["rank"] is None}
            check_rank(group["rank"])
        super().add_param_group(group)
        whole = getattr(self.projector, "whole", False)
        for parameter in self.param_groups[-1]["params"]:
            check_parameter(parameter)
            check_rounding(parameter, self.options)
            self.places[parameter] = len(self.places)
            self.ranks[parameter] = rank_for(parameter, self.param_groups[-1], whole)

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:  # type: ignore[override]
        """Make one step; parameters without a gradient stay, and those stepped in the backward pass are done."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for parameter, group in self._trained():
            if parameter.grad is not None:
                self.step_parameter(parameter, group)
        self.layers.after_step(self.state)
        return loss

    @torch.no_grad()
    def step_parameter(self, parameter: nn.Parameter, group: dict[str, Any]) -> None:
        """Step one parameter by its gradient."""
        if parameter.grad is None:
            return
        if parameter.grad.is_sparse:
            raise UsageError("sparse gradients cannot be projected; make the embedding with sparse=False")
        if group["weight_decay"]:
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
        rank, state = self.ranks[parameter], self.state[parameter]
        state["step"] = state.get("step", torch.zeros(())) + 1
        if rank is None:
            self._step_plain(parameter, state, group)
        else:
            self._step_matrix(parameter, rank, state, group)

    def state_bytes(self) -> int:
        """Return the bytes of all tensors of the state; counts, which are scalars, are left out."""
        tensors = [each for state in self.state.values() for each in state.values() if each.dim()]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore a state; tensors keep the dtypes that they were saved in."""
        super().load_state_dict(state_dict)
        numbers = [number for group in state_dict["param_groups"] for number in group["params"]]
        for number, (parameter, _) in zip(numbers, self._trained(), strict=True):
            entry = state_dict["state"].get(number)
            if entry is not None:
                self.state[parameter] = {k: _copied(v, parameter) for k, v in entry.items()}
        self.layers.resume(self.state)

    def _trained(self) -> list[tuple[nn.Parameter, dict[str, Any]]]:
        return [(parameter, group) for group in self.param_groups for parameter in group["params"]]

    def _hook(self, parameter: nn.Parameter, group: dict[str, Any]) -> Any:
        def step(ready: Tensor) -> None:
            self.step_parameter(parameter, group)
            parameter.grad = None

        trains = parameter.requires_grad
        parameter.requires_grad_(True)
        handle = parameter.register_post_accumulate_grad_hook(step)
        parameter.requires_grad_(trains)
        return handle

    def _step_plain(self, parameter: nn.Parameter, state: State, group: dict[str, Any]) -> None:
        assert parameter.grad is not None
        gradient = parameter.grad.to(working_dtype(parameter))
        gradient = gradient.reshape(len(gradient), -1) if gradient.dim() > 2 else gradient
        prepared = self.inner.prepare(state, gradient, group)
        direction = self.inner.direction(state, prepared, group, storage_dtype(parameter))
        parameter.add_(direction.reshape(parameter.shape).to(parameter.dtype), alpha=-group["lr"])

    def _step_matrix(self, parameter: nn.Parameter, rank: int, state: State, group: dict[str, Any]) -> None:
        assert parameter.grad is not None
        weight = parameter.detach().reshape(len(parameter), -1)
        gradient = parameter.grad.reshape(weight.shape).to(working_dtype(parameter))
        gradient = self.weights.gradient(state, weight, gradient)
        turned = weight.shape[0] >= weight.shape[1]
        gradient = gradient.t() if turned else gradient
        prepared = self.inner.prepare(state, gradient, group)
        if "wait" not in state or self.refresh.due(state):
            self._find_subspace(parameter, rank, state, prepared)
        state["wait"] = state["wait"] - 1
        reduced = self.projector.down(state, prepared)
        direction = self.inner.direction(state, reduced, group, storage_dtype(parameter))
        parts = Parts(prepared, reduced, direction, lambda small: self.projector.up(state, small, prepared))
        update = self.residual.combine(state, parts, group, self.options)
        update = update.t() if turned else update
        own = group if group["rank"] == rank else {**group, "rank": rank}
        self.weights.apply(state, weight, update, own, self.options, self._rounding(parameter, state))
        if weight.data_ptr() != parameter.data_ptr():
            parameter.copy_(weight.view(parameter.shape))

    def _find_subspace(self, parameter: nn.Parameter, rank: int, state: State, gradient: Tensor) -> None:
        count = int(state.get("refreshes", 0))
        compared = count and (self.options.moments != "kept" or self.refresh.compares)
        old = self.projector.basis(state, gradient) if compared else None
        seen = self.projector.observe(state, gradient, rank)
        found = self.projector.find(seen, rank, generator_of(self.seed, self.places[parameter], count))
        dtype = storage_dtype(parameter)
        state.update({k: v.to(dtype) if v.is_floating_point() else v for k, v in found.items()})
        new = None if old is None else self.projector.basis(state, gradient)
        if old is not None and new is not None:
            self.transport(self.inner, state, new, old)
            state["step"] = state["step"].clamp_min(1)
        state["refreshes"] = torch.tensor(count + 1)
        self.refresh.plan_next(state, self.options, new, old)

    def _rounding(self, parameter: nn.Parameter, state: State) -> torch.Generator | None:
        half = parameter.dtype is torch.bfloat16 and self.options.rounding == "stochastic"
        if not half and self.options.weights != "int8":
            return None
        state["rounds"] = state.get("rounds", torch.tensor(0)) + 1
        place, count = -2 - self.places[parameter], int(state["rounds"])
        return generator_of(self.seed, place, count, parameter.device)


def _copied(value: Tensor, parameter: Tensor) -> Tensor:
    return value.detach().clone() if not value.dim() else value.detach().to(parameter.device, copy=True)
