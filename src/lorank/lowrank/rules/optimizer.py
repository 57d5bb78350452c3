"""One door to every optimizer of this wing, by the method's name."""

import torch

from lorank.errors import UsageError, unknown_name
from lorank.lowrank.adapter import Adapter
from lorank.lowrank.rules.rule import RULES, Rates, Rule, make_rule


def optimizer(
    name: str,
    adapter: Adapter,
    *,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    **options: object,
) -> torch.optim.Optimizer:
    """Return the optimizer of the rule ``name`` over all that ``adapter`` trains.

    Args:
        name: a rule that is an optimizer: ``adamw``, ``lora-plus``, ``lora-pro``, ``loft``, ``altlora`` ...
        adapter: what ``attach`` gave.
        lr: the rate, above 0; of ``lora-plus`` that of A, of ``polyak-momentum`` the largest step.
        betas: of Adam's moments; ``altlora`` and ``polyak-momentum`` take the first for their momentum.
        eps: Adam's.
        weight_decay: decoupled.
        **options: the rule's own.

    Raises:
        UsageError: for an unknown name or option, and for rules that act around the step and not in it.

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
    made = chosen.optimizer([{"params": list(adapter.parameters())}], adapter, Rates(lr, betas, eps, weight_decay))
    chosen.begin(adapter, made, 0, None)
    return made
