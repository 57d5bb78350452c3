"""One door to every optimizer of this wing, by the method's name."""

from collections.abc import Callable, Iterable

import torch
from torch import nn

from lorank.errors import UsageError, unknown_name
from lorank.lowrank.adapter import Adapter
from lorank.lowrank.rules.polyak_momentum import PolyakMomentumOptimizer
from lorank.lowrank.rules.rule import RULES, Rates, Rule, make_rule

ALIKE: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adamw": lambda rule, parameters, rates: torch.optim.AdamW(parameters, **rates.defaults()),
    "polyak-momentum": lambda rule, parameters, rates: PolyakMomentumOptimizer(
        [{"params": parameters}], rates, rule.c, rule.lowest
    ),
}
"""Rules that know no factors, and how each steps plain parameters."""


def optimizer(
    name: str,
    trained: Adapter | Iterable[nn.Parameter],
    *,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    **options: object,
) -> torch.optim.Optimizer:
    """Return the optimizer of the rule ``name`` over ``trained``.

    Args:
        name: a rule that is an optimizer: ``adamw``, ``lora-plus``, ``lora-pro``, ``loft``, ``altlora`` ...
        trained: what ``attach`` gave, or parameters: those suit ``adamw`` and ``polyak-momentum``, which treat
            every parameter alike.
        lr: the rate, above 0; of ``lora-plus`` that of A, of ``polyak-momentum`` the largest step.
        betas: of Adam's moments; ``altlora`` and ``polyak-momentum`` take the first for their momentum.
        eps: Adam's.
        weight_decay: decoupled.
        **options: the rule's own.

    Raises:
        UsageError: for an unknown name or option, for parameters where a rule steps factors, and for rules that act
            around the step and not in it.

    >>> from lorank import lowrank
    >>> adapter = lowrank.attach(torch.nn.Sequential(torch.nn.Linear(3, 2)), "lora", rank=1)
    >>> [group["lr"] for group in optimizer("lora-plus", adapter, lr=0.5, ratio=4.0).param_groups]
    [0.5, 2.0]
    """
    known = [each for each, kind in RULES.items() if kind.optimizes]
    if name not in RULES:
        raise unknown_name("optimizer", name, known)
    chosen: Rule = make_rule(name, **options)
    if not chosen.optimizes:
        raise UsageError(
            f"{name!r} acts around the optimizer's step and needs the training loop: lorank train --rule {name}"
        )
    rates = Rates(lr, betas, eps, weight_decay)
    if isinstance(trained, Adapter):
        made = chosen.optimizer([{"params": list(trained.parameters())}], trained, rates)
        chosen.begin(trained, made, 0, None)
        return made
    if name not in ALIKE:
        raise UsageError(f"{name!r} steps the factors of an adapter: give what attach() returned, not its parameters")
    return ALIKE[name](chosen, list(trained), rates)
