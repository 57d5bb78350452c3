"""One door to every optimizer of this wing, by the method's name."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from lorank.errors import UsageError, unknown_name
from lorank.lowrank.adapter import Adapter
from lorank.lowrank.projected import PRESETS, ProjectedOptimizer, with_options
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
    trained: Adapter | nn.Module | Iterable[Any],
    *,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    **options: Any,
) -> torch.optim.Optimizer:
    """Return the optimizer ``name`` over ``trained``: a rule of factors, or one that projects whole gradients.

    Args:
        name: a rule that is an optimizer: ``adamw``, ``lora-plus``, ``lora-pro``, ``loft``, ``altlora`` ...; or a
            projected optimizer: ``galore``, ``fira``, ``frugal`` ... (`lorank.lowrank.projected.PRESETS`).
        trained: of a rule what ``attach`` gave, or parameters: those suit ``adamw`` and ``polyak-momentum``, which
            treat every parameter alike. Of a projected optimizer a model, parameters, pairs of name and parameter, or
            groups of them.
        lr: the rate, above 0; of ``lora-plus`` that of A, of ``polyak-momentum`` the largest step.
        betas: of Adam's moments; ``altlora`` and ``polyak-momentum`` take the first for their momentum.
        eps: Adam's.
        weight_decay: decoupled.
        **options: the rule's own; of a projected optimizer ``rank``, ``seed``, ``targets`` and ``exclude``, and what
            `lorank.lowrank.projected.Projection` lists.

    Raises:
        UsageError: for an unknown name or option, for parameters where a rule steps factors, and for rules that act
            around the step and not in it.

    >>> from lorank import lowrank
    >>> adapter = lowrank.attach(torch.nn.Sequential(torch.nn.Linear(3, 2)), "lora", rank=1)
    >>> [group["lr"] for group in optimizer("lora-plus", adapter, lr=0.5, ratio=4.0).param_groups]
    [0.5, 2.0]
    >>> layer = torch.nn.Linear(8, 4)
    >>> _ = layer(torch.ones(2, 8)).sum().backward()
    >>> galore = optimizer("galore", layer.parameters(), lr=0.01, rank=2); galore.step()
    >>> galore.state_bytes()  # P, the moments of R and of the bias in float32: 4 * (4*2 + 2*2*8 + 2*4)
    192
    """
    if name in PRESETS:
        return _projected(name, trained, lr, betas, eps, weight_decay, options)
    known = [*(each for each, kind in RULES.items() if kind.optimizes), *PRESETS]
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
    parameters = trained.parameters() if isinstance(trained, nn.Module) else trained
    return ALIKE[name](chosen, list(parameters), rates)


def _projected(
    name: str,
    trained: Adapter | nn.Module | Iterable[Any],
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    options: dict[str, Any],
) -> ProjectedOptimizer:
    if isinstance(trained, Adapter):
        raise UsageError(f"{name!r} projects the gradients of whole weights; give the model, or its parameters")
    own = {key: options.pop(key) for key in ("rank", "seed", "targets", "exclude") if key in options}
    point = with_options(name, PRESETS[name], options)
    own.setdefault("rank", point.rank)
    return ProjectedOptimizer(trained, point, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, **own)
