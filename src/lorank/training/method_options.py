"""The options of the methods that a recipe names: which sections have them, and what they are called.

A section that names a method takes the method's own options beside its keys: ``[adapter] copies = 2`` and
``--set start.rho=2`` are ``adapter.options.copies`` and ``start.options.rho``.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from lorank.catalogue import named_options
from lorank.training.settings import (
    AdapterSettings,
    BudgetSettings,
    CompressSettings,
    ContinualSettings,
    DebiasSettings,
    LossSettings,
    PolicySettings,
    ProjectionSettings,
    RuleSettings,
    StartSettings,
)

SECTIONS = {
    "adapter": AdapterSettings,
    "start": StartSettings,
    "budget": BudgetSettings,
    "rule": RuleSettings,
    "optimizer": ProjectionSettings,
    "compress": CompressSettings,
    "loss": LossSettings,
    "debias": DebiasSettings,
    "policy": PolicySettings,
    "continual": ContinualSettings,
}
"""The sections whose methods have options of their own."""

POLICY_NAMES = ("name", "question", "reward", "advantage", "credit", "plan", "mix", "reuse", "objective")
"""The keys of section ``policy`` that name a part of it."""


def method_options(section: str, names: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the options of the method in ``section``.

    Args:
        section: One of ``SECTIONS``.
        names: The names that the recipe states, as section.key: ``adapter.name``, ``adapter.start``, ``budget.name``,
            ``rule.name``, ``optimizer.name``, ``loss.name``.

    Raises:
        UsageError: For a name that no method has.

    >>> method_options("start", {"adapter.name": "eva"}), method_options("loss", {"loss.name": "ranknet"})
    (('rho',), ('sigma',))
    """
    if section == "loss":
        from lorank.ranking.losses.core.registry import loss_options

        return tuple(loss_options(names["loss.name"]))
    if section == "debias":
        from lorank.ranking.clicks.debias import debiaser_options

        return tuple(debiaser_options(names.get("debias.name", "none")))
    if section == "policy":
        from lorank.training.policies.settings import policy_options

        return policy_options(names)
    if section == "continual":
        return named_options("continual", names.get("continual.name", "sequential"))
    if section == "optimizer":
        from lorank.lowrank.projected import OPTIONS
        from lorank.training.projecting import PLAIN

        return () if names.get("optimizer.name", "auto") in PLAIN else OPTIONS
    if section == "compress":
        from lorank.lowrank.compression import compression_options

        name = names.get("compress.name", "none")
        return () if name == "none" else tuple(compression_options(name))
    from lorank.lowrank.budgets import DYNAMIC
    from lorank.lowrank.forms.form import form_options
    from lorank.lowrank.presets import preset
    from lorank.lowrank.rules import rule_options
    from lorank.lowrank.starts import start_options
    from lorank.training.hooks.budget import budget_options
    from lorank.training.weights import WHOLE

    adapter = names.get("adapter.name", "auto")
    if adapter in WHOLE:
        return ()
    method = preset("lora" if adapter == "auto" else adapter)
    stated = {key: names.get(f"{key}.name", "auto") for key in ("budget", "rule")}
    budget = method.budget if stated["budget"] == "auto" else stated["budget"]
    if section == "adapter":
        if budget in DYNAMIC and method.budget != budget:
            method = preset(budget)  # which switches components of a form of its own
        return form_options(method.form)
    if section == "start":
        return start_options(names.get("adapter.start") or method.start)
    if section == "budget":
        return budget_options(budget)
    return rule_options(method.rule if stated["rule"] == "auto" else stated["rule"])


def keys_of(section: str) -> tuple[str, ...]:
    """Return the keys of a section that are not options of its method."""
    return tuple(field.name for field in fields(SECTIONS[section]))


def names_in(content: Mapping[str, Any], plan: Any) -> dict[str, Any]:
    """Return the methods that ``content`` names, and those of ``plan`` where it names none, as section.key."""
    found: dict[str, Any] = {}
    for section, key in (
        ("adapter", "name"),
        ("adapter", "start"),
        ("budget", "name"),
        ("rule", "name"),
        ("optimizer", "name"),
        ("compress", "name"),
        ("loss", "name"),
        ("debias", "name"),
        ("continual", "name"),
        *(("policy", key) for key in POLICY_NAMES),
    ):
        part = content.get(section)
        stated = part.get(key) if isinstance(part, Mapping) else None
        own = getattr(plan, section, None)  # a recipe for one collection has no section "continual"
        found[f"{section}.{key}"] = getattr(own, key, None) if stated is None else stated
    return found


def move_options(content: dict[str, Any], plan: Any) -> tuple[dict[str, Any], dict[str, tuple[str, ...]]]:
    """Return ``content`` with the options of methods under ``options``, and by section the options there are.

    Only sections that state a key of neither kind are looked at, for it imports torch; what is no option either is left
    where it stands.

    Args:
        content: The sections and keys that are stated.
        plan: The recipe that they change, whose methods stay where the content names none.
    """
    moved, known = dict(content), {}
    for section in SECTIONS:
        part = content.get(section)
        if not isinstance(part, dict):
            continue
        other = [key for key in part if key not in keys_of(section)]
        if not other:
            continue
        known[section] = method_options(section, names_in(content, plan))
        options = {key: part[key] for key in other if key in known[section]}
        rest = {key: value for key, value in part.items() if key not in options}
        if options:
            rest["options"] = {**rest.get("options", {}), **options}
        moved[section] = rest
    return moved, known
