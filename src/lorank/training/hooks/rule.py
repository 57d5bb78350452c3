"""How the loop uses a rule of `lowrank.rules`: its optimizer in the loop's place, its events as a hook."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lorank.errors import UsageError
from lorank.lowrank import Adapter, Form
from lorank.lowrank.presets import preset
from lorank.lowrank.rules import Losses, Rates, Rule, make_rule
from lorank.training.hooks.hook import Access, Hook, Progress
from lorank.training.settings import OptimizerSettings, RuleSettings
from lorank.training.weights import WHOLE

AUTO, PLAIN = "auto", "adamw"


class Stepping(Hook):
    """One rule in one run: ``make_optimizer`` and the hook's events, to be handed to `train` together."""

    def __init__(self, rule: Rule, adapter: Adapter) -> None:
        self.rule, self.adapter, self.loss = rule, adapter, 0.0

    def make_optimizer(self, groups: list[dict[str, Any]], settings: OptimizerSettings) -> torch.optim.Optimizer:
        """Return the rule's optimizer at the run's rates."""
        rates = Rates(settings.rate, settings.betas, weight_decay=settings.weight_decay)
        return self.rule.optimizer(groups, self.adapter, rates)

    @property
    def name(self) -> str:
        """Name the rule, since the state is its own."""
        return f"{type(self).__name__} {type(self.rule).__name__}"

    def begin(self, access: Access) -> None:
        """Hand the rule what it may use."""
        losses = Losses(access.training_loss, access.held_out_loss)
        self.rule.begin(self.adapter, access.optimizer, access.steps, losses)

    def before_step(self, progress: Progress, optimizer: torch.optim.Optimizer) -> None:
        """Delegate to ``Rule.before_step``."""
        self.rule.before_step(progress.step, progress.steps)

    def penalty(self, progress: Progress) -> Tensor | None:
        """Delegate to ``Rule.penalty``."""
        return self.rule.penalty()

    def after_backward(self, progress: Progress, optimizer: torch.optim.Optimizer) -> None:
        """Delegate to ``Rule.after_backward``, with the loss of this step."""
        self.rule.after_backward(progress.loss)

    def after_step(self, progress: Progress, optimizer: torch.optim.Optimizer) -> None:
        """Delegate to ``Rule.after_step``."""
        self.rule.after_step(progress.step, progress.steps)

    def state(self) -> dict[str, Tensor]:
        """Return what the rule remembers beside its optimizer."""
        return self.rule.state()

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore what ``state`` gave."""
        self.rule.load_state(state)


class FormPenalties(Hook):
    """Adds what forms add to the loss: routers' balance and sparsity."""

    def __init__(self, adapter: Adapter) -> None:
        self.adapter = adapter

    def penalty(self, progress: Progress) -> Tensor | None:
        """Return the sum over the layers, or None where none has any."""
        parts = [part for form in self.adapter.forms.values() if (part := form.penalty()) is not None]
        return torch.stack(parts).sum() if parts else None


def penalties(adapter: Adapter | None) -> list[Hook]:
    """Return the hook for the penalties of ``adapter``'s forms, where they may have any."""
    if adapter is None or all(type(form).penalty is Form.penalty for form in adapter.forms.values()):
        return []
    return [FormPenalties(adapter)]


def rule_name(settings: RuleSettings, method: str) -> str:
    """Return the name of the rule that ``settings`` mean for the adapter ``method``.

    >>> rule_name(RuleSettings(), "loft"), rule_name(RuleSettings("adamw"), "loft"), rule_name(RuleSettings(), "full")
    ('loft', 'adamw', 'adamw')
    """
    if settings.name != AUTO:
        return settings.name
    return PLAIN if method in WHOLE else preset(method).rule


def make_stepping(settings: RuleSettings, adapter: Adapter | None, method: str) -> Stepping | None:
    """Return what runs the rule, or None where AdamW does all there is to do."""
    name = rule_name(settings, method)
    if adapter is None:
        if name != PLAIN or settings.options:
            raise UsageError(
                f"rule {name!r} steps the factors of a low-rank adapter, and {method!r} trains whole "
                "weights; leave the rule out, or choose an adapter"
            )
        return None
    rule = make_rule(name, **settings.options)
    return None if type(rule) is Rule else Stepping(rule, adapter)


def without_clipping(settings: OptimizerSettings, steps_by: Stepping | None) -> OptimizerSettings:
    """Return the settings without clipping where the rule must see raw gradients."""
    return settings if steps_by is None or steps_by.rule.clips else replace(settings, clip=None)
