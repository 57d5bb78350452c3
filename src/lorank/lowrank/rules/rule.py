r"""The contract of every rule: how the factors of s B A step.

For a weight W [out, in] with G = dL/dW, A [r, in], B [out, r], the gradients are dL/dA = s B^T G and
dL/dB = s G A^T. A rule makes the optimizer that steps them, and may act around a step: skip layers, restart,
go on while a held-out loss falls. What is trained but is no factor (heads, magnitudes) steps by AdamW.

A rule remembers tensors alone: the optimizer's state, and what ``state`` gives out. Its docstring states how
many values the optimizer keeps a pair.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from lorank.errors import UsageError, unknown_name
from lorank.lowrank.adapter import Adapter
from lorank.lowrank.forms.lora import LoRA

Groups = list[dict[str, Any]]


class Pair(NamedTuple):
    """The trained factors A [r, in] and B [out, r] of one layer's s B A."""

    path: str
    A: nn.Parameter
    B: nn.Parameter
    scaling: float

    def gradients(self) -> tuple[Tensor, Tensor]:
        """Return the gradients of A and B; a rule steps pairs that have both."""
        if self.A.grad is None or self.B.grad is None:
            raise UsageError(f"the factors of {self.path} have no gradients; call backward before the step")
        return self.A.grad, self.B.grad


@dataclass(frozen=True)
class Rates:
    """The rates of an optimizer: ``lr``, Adam's ``betas`` and ``eps``, decoupled ``weight_decay``."""

    lr: float
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0

    def defaults(self) -> dict[str, Any]:
        """Return the rates as an optimizer's defaults."""
        return {"lr": self.lr, "betas": self.betas, "eps": self.eps, "weight_decay": self.weight_decay}


@dataclass(frozen=True)
class Losses:
    """The losses a rule may ask for, each a scalar with its graph at the weights as they stand.

    ``training(step)`` is the loss that ``step`` trains on; ``held_out(index)`` that of a batch which is never
    trained on.
    """

    training: Callable[[int], Tensor]
    held_out: Callable[[int], Tensor] | None = None


class Rule:
    """AdamW on every factor, and the base of all other rules: they override what they need.

    State: ``2 * r * (out + width)`` values a pair.
    """

    lr: ClassVar[float | None] = None
    """The learning rate that suits this rule; None is that of the form or start: see ``lowrank.rates``."""

    clips: ClassVar[bool] = True
    """False where the raw gradients must not be clipped before the step."""

    optimizes: ClassVar[bool] = True
    """False where the rule is nothing without the events around a step."""

    def optimizer(self, groups: Groups, adapter: Adapter, rates: Rates) -> torch.optim.Optimizer:
        """Return the optimizer of ``groups``, which hold all that ``adapter`` trains."""
        return torch.optim.AdamW(groups, **rates.defaults())

    def begin(self, adapter: Adapter, optimizer: torch.optim.Optimizer, steps: int, losses: Losses | None) -> None:
        """Run once, before the first step and before ``load_state``.

        Args:
            adapter: The adapter that is trained.
            optimizer: What ``optimizer`` returned.
            steps: The number of steps of the run.
            losses: The losses that the rule may ask for; None where the run has none to give.
        """

    def before_step(self, step: int, steps: int) -> None:
        """Run before the forward pass of ``step``, counted from 0."""

    def penalty(self) -> Tensor | None:
        """Return a scalar to add to the loss, or None."""
        return None

    def after_backward(self, loss: float) -> None:
        """Run when the gradients of ``loss`` are there."""

    def after_step(self, step: int, steps: int) -> None:
        """Run after the optimizer's step; ``step`` steps are done now."""

    def describe(self) -> str | None:
        """Return what to say of the run once it has ended, or None."""
        return None

    def state(self) -> dict[str, Tensor]:
        """Return what must survive a crash beside the optimizer's state."""
        return {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take back what ``state`` gave."""


def factor_pairs(adapter: Adapter) -> list[Pair]:
    """Return the layers of ``adapter`` whose A and B are both trained.

    >>> from lorank import lowrank
    >>> adapter = lowrank.attach(nn.Sequential(nn.Linear(3, 2)), "lora", rank=1)
    >>> [(pair.path, tuple(pair.A.shape), tuple(pair.B.shape)) for pair in factor_pairs(adapter)]
    [('0', (1, 3), (2, 1))]
    """
    return [
        Pair(path, form.A, form.B, form.scaling)
        for path, form in adapter.forms.items()
        if isinstance(form, LoRA) and form.rank and form.A.requires_grad and form.B.requires_grad
    ]


def needed_pairs(adapter: Adapter, rule: str) -> list[Pair]:
    """Return ``factor_pairs``; an adapter without any is an error."""
    pairs = factor_pairs(adapter)
    if not pairs:
        raise UsageError(
            f"rule {rule!r} steps the factors A and B of a LoRA, and adapter {adapter.settings.method!r} trains "
            "none; choose 'lora', or the rule 'adamw'"
        )
    return pairs


RULES: dict[str, type[Rule]] = {"adamw": Rule}
"""Every rule under its name."""

RuleType = TypeVar("RuleType", bound=type[Rule])


def rule(name: str) -> Callable[[RuleType], RuleType]:
    """Decorate a Rule to register it under ``name``."""

    def enter(cls: RuleType) -> RuleType:
        RULES[name] = cls
        return cls

    return enter


def make_rule(name: str, **options: object) -> Rule:
    """Return the rule called ``name`` with its own ``options``.

    >>> make_rule("lora-plus", ratio=4.0)
    LoRAPlus(ratio=4.0)
    """
    known = rule_options(name)
    for option in options:
        if option not in known:
            raise UsageError(f"rule {name!r} has no option {option!r}; it has: {', '.join(known) or 'none'}")
    return RULES[name](**options)


def rule_options(name: str) -> tuple[str, ...]:
    """Return the names of the options of the rule called ``name``.

    >>> rule_options("lora-plus"), rule_options("adamw")
    (('ratio',), ())
    """
    if name not in RULES:
        raise unknown_name("rule", name, RULES)
    return () if RULES[name] is Rule else tuple(inspect.signature(RULES[name]).parameters)
