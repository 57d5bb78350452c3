r"""BiLoRA: factors learn on one half of the data, the gates between them on the other.

    dW = s P diag(l) Q,    P [out, r], Q [r, in], l [r]: the form ``gated``, from l = 0
    lower level:  P, Q  minimise  L1 + gamma (||P^T P - I||^2 + ||Q Q^T - I||^2)      on training lists
    upper level:  l     minimises L2(l, V*(l)),  V = (P, Q)                          on held-out lists

    dL2/dl = grad_l L2 - xi (grad_l L1(V + e v) - grad_l L1(V - e v)) / (2 e),   v = grad_V L2,  e = 0.01 / ||v||

The hypergradient sees one lower step of size xi (0 leaves the second term out). P, Q and heads step by AdamW with
gradients of L1 alone, l by an AdamW of its own with that of L2 alone, every ``interval`` steps. An upper step
costs one loss and its gradient on held-out lists and two on training lists.

Qiang, Zhang, Xie, BiLoRA: A Bi-level Optimization Framework for Overfitting-Resilient Low-Rank Adaptation of Large
Pre-trained Models, 2024, arXiv:2403.13037.

*Deviations*: the paper halves the training set; here the upper level reads the lists held out for dev. l is
unbounded, the first of the paper's three parametrisations.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from lorank.catalogue import catalogued
from lorank.errors import UsageError
from lorank.lowrank.adapter import Adapter
from lorank.lowrank.forms.gated import Gated
from lorank.lowrank.rules.rule import Groups, Losses, Rates, Rule, rule


@rule("bilora")
@catalogued(
    "bilora",
    area="adapters.optim",
    title="BiLoRA: A Bi-level Optimization Framework for Overfitting-Resilient Low-Rank Adaptation of Large "
    "Pre-trained Models",
)
@dataclass
class BiLoRA(Rule):
    """Bi-level training of the form ``bilora``; ``upper_lr`` None takes the lower level's rate.

    State: ``2 * r * (out + width) + 2 * r`` values a pair, those of l in the upper level's optimizer.
    """

    lr = 0.005
    interval: int = 1
    upper_lr: float | None = None
    unroll: bool = True
    orthogonality: float = 0.1
    _forms: list[Gated] = field(default_factory=list, init=False, repr=False)
    _upper: torch.optim.AdamW | None = field(default=None, init=False, repr=False)
    _lower: torch.optim.Optimizer | None = field(default=None, init=False, repr=False)
    _losses: Losses | None = field(default=None, init=False, repr=False)

    optimizes = False

    @property
    def gates(self) -> list[nn.Parameter]:
        """The l of every layer."""
        return [form.gate for form in self._forms]

    def optimizer(self, groups: Groups, adapter: Adapter, rates: Rates) -> torch.optim.Optimizer:
        self._forms = [form for form in adapter.forms.values() if isinstance(form, Gated) and form.gate.requires_grad]
        if not self._forms:
            raise UsageError(f"rule 'bilora' trains the gates of form 'gated', not {adapter.settings.method!r}")
        gates = {id(gate) for gate in self.gates}
        lower = [group | {"params": [p for p in group["params"] if id(p) not in gates]} for group in groups]
        self._upper = torch.optim.AdamW(self.gates, lr=self.upper_lr or rates.lr, betas=rates.betas, weight_decay=0.0)
        return torch.optim.AdamW([group for group in lower if group["params"]], **rates.defaults())

    def begin(self, adapter: Adapter, optimizer: torch.optim.Optimizer, steps: int, losses: Losses | None) -> None:
        """Keep the lower level's optimizer and the losses for the steps of the upper level.

        Args:
            adapter: It is not used.
            optimizer: The optimizer of the lower level.
            steps: It is not used.
            losses: The losses on training lists and on held-out lists.

        Raises:
            UsageError: If there are no held-out lists.
        """
        if losses is None or losses.held_out is None:
            raise UsageError("bilora's upper level asks for lists that are not trained on, and there are none")
        self._lower, self._losses = optimizer, losses

    def penalty(self) -> Tensor | None:
        if not self.orthogonality:
            return None
        return self.orthogonality * torch.stack([skewness(form) for form in self._forms]).sum()

    def after_backward(self, loss: float) -> None:
        for gate in self.gates:
            gate.grad = None

    def after_step(self, step: int, steps: int) -> None:
        if step % self.interval:
            return
        assert self._upper is not None
        assert self._lower is not None
        rate = self._lower.param_groups[0]["lr"] if self.unroll else 0.0
        for gate, gradient in zip(self.gates, self.hypergradient(step, rate), strict=True):
            gate.grad = gradient
        self._upper.step()
        self._upper.zero_grad(set_to_none=True)

    def hypergradient(self, step: int, rate: float) -> list[Tensor]:
        """Return dL2/dl of every layer with the lower level's step of ``rate`` seen through; V is left as it was."""
        assert self._losses is not None
        assert self._losses.held_out is not None
        assert self._lower is not None
        lower = [p for group in self._lower.param_groups for p in group["params"]]
        direct, v = _gradients(self._losses.held_out(step // self.interval - 1), self.gates, lower)
        norm = float(torch.stack([gradient.square().sum() for gradient in v]).sum().sqrt())
        if not rate or not norm:
            return direct
        e = 0.01 / norm
        kept = [p.detach().clone() for p in lower]
        sides = []
        for sign in (1.0, -1.0):
            with torch.no_grad():
                for parameter, before, gradient in zip(lower, kept, v, strict=True):
                    parameter.copy_(before + sign * e * gradient)
            sides.append(_gradients(self._losses.training(step - 1), self.gates, [])[0])
        with torch.no_grad():
            torch._foreach_copy_(lower, kept)
        return [g - rate * (a - b) / (2 * e) for g, a, b in zip(direct, *sides, strict=True)]

    def state(self) -> dict[str, Tensor]:
        assert self._upper is not None
        return {
            f"{index}.{key}": torch.as_tensor(value)
            for index, entry in self._upper.state_dict()["state"].items()
            for key, value in entry.items()
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        assert self._upper is not None
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in state.items():
            index, name = key.split(".")
            moments.setdefault(int(index), {})[name] = value.clone()
        self._upper.load_state_dict({"state": moments, "param_groups": self._upper.state_dict()["param_groups"]})


def skewness(form: Gated) -> Tensor:
    """Return ||P^T P - I||^2 + ||Q Q^T - I||^2."""
    unit = torch.eye(form.components, dtype=form.B.dtype, device=form.B.device)
    return (form.B.t() @ form.B - unit).square().sum() + (form.A @ form.A.t() - unit).square().sum()


def _gradients(loss: Tensor, gates: Sequence[Tensor], lower: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    found = torch.autograd.grad(loss, [*gates, *lower], allow_unused=True)
    filled = [torch.zeros_like(p) if g is None else g for p, g in zip([*gates, *lower], found, strict=True)]
    return filled[: len(gates)], filled[len(gates) :]
