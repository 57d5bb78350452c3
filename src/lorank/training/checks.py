"""Checks of a training run that need no data: every name first, without torch; then names with their options.

A slip of the pen is thus found before a collection is read or a model is opened.
"""

import difflib
from collections.abc import Collection as Container
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from lorank import index
from lorank.catalogue import load_named, named_options
from lorank.errors import UsageError, unknown_name
from lorank.training.ranges import check_ranges
from lorank.training.settings import ContinualSettings, DebiasSettings, Recipe

NAMES = {
    "adapter.name": ("adapter", ("auto", "full", "head")),
    "adapter.start": ("start", ()),
    "adapter.scaling": ("scaling", ()),
    "budget.name": ("budget", ("auto", "none")),
    "rule.name": ("rule", ("auto",)),
    "optimizer.name": ("optimizer", ("auto", "adamw")),
    "compress.name": ("compression", ("none",)),
    "loss.name": ("loss", ()),
    "debias.name": ("debias", ()),
    "policy.name": ("policy", ("none",)),
    "continual.name": ("continual", ()),
    "policy.advantage": ("advantage", ("auto",)),
    "policy.plan": ("sampling-plan", ("auto",)),
    "policy.mix": ("reward-mix", ("auto",)),
    "policy.reuse": ("reuse", ("auto",)),
    "policy.credit": ("credit", ("auto",)),
    "kind": ("kind", ()),
    "view": ("view", ()),
}
"""Settings that name a method: the family of `lorank.index`, and the words that are legal beside its names."""

FLAGS = {
    "adapter.name": "adapter",
    "budget.name": "budget",
    "rule.name": "rule",
    "optimizer.name": "optimizer",
    "compress.name": "compress",
    "loss.name": "loss",
    "debias.name": "debias",
    "policy.name": "policy",
    "policy.reward": "reward",
    "first_stage.source": "first-stage",
    "continual.name": "continual",
}
"""Settings whose option on the command line is not called like their key."""

QUESTIONS = ("setwise", "listwise", "groupwise", "exclude", "selection", "pointwise")
"""The kinds of question that a policy answers (`lorank.ranking.policies.presets.QUESTIONS`)."""

TREES = ("lightgbm", "xgboost", "catboost")
"""Feature models that take an objective of their own library by the name of a loss."""


def flag_of(setting: str) -> str:
    """Return the option of `lorank train` that gives a setting.

    >>> flag_of("loss.name"), flag_of("training.batch_size")
    ('--loss', '--batch-size')
    """
    return "--" + FLAGS.get(setting, setting.rpartition(".")[2].replace("_", "-"))


def check_names(recipe: Recipe, said: Container[str] = (), recipe_file: Path | None = None) -> None:
    """Raise UsageError for the first setting that names nothing; torch is not needed for it.

    Args:
        recipe: the run, or a `lorank.training.recipe.RecipeFile`.
        said: the settings that options gave, as section.key; all others are blamed on the recipe file.
        recipe_file: the recipe's file, for messages.
    """

    def place(setting: str) -> str:
        return flag_of(setting) if setting in said or recipe_file is None else f"{recipe_file}: {setting}"

    base, data = getattr(recipe, "base", None), getattr(recipe, "data", None)
    for setting, (family, also) in NAMES.items():
        value = _value(recipe, setting)
        if value is None or (setting == "loss.name" and base in TREES):
            continue
        index.check(family, value, place(setting), also=also)
    check_ranges(recipe, lambda setting: place(setting) if setting in said or recipe_file else setting)
    for setting, value, choices in _choices(recipe):
        if value not in choices:
            raise unknown_name(place(setting), str(value), [str(choice) for choice in choices])
    for name in recipe.policy.reward.split("+"):
        index.check("reward", name, place("policy.reward"), also=("auto",))
    if recipe.policy.question not in (known := ("auto", *QUESTIONS)):
        raise unknown_name(place("policy.question"), recipe.policy.question, known)
    source = recipe.first_stage.source
    if not Path(source).exists():
        index.check("first-stage", source, place("first_stage.source"), also=("<run file>",))
    if base is not None:
        index.check_base(base, place("base"))
    if data is not None:
        index.check_data(data, place("data"))
    for source in getattr(recipe, "then", ()):
        index.check_data(source, place("then"))


def check_options(recipe: Recipe) -> None:
    """Raise UsageError for options that their methods do not have, and for methods that do not go together."""
    from lorank.lowrank import STARTS, make_rule
    from lorank.lowrank.budgets import DYNAMIC
    from lorank.lowrank.budgets.core.budget import Timetable
    from lorank.lowrank.forms import form_type
    from lorank.lowrank.presets import preset
    from lorank.lowrank.projected import Projection
    from lorank.lowrank.rules import RULES
    from lorank.ranking.clicks.debias import find_debiaser
    from lorank.ranking.losses import loss
    from lorank.ranking.losses.core.registry import find_loss
    from lorank.training.hooks.budget import AUTO, check_budget_options, choose_budget
    from lorank.training.hooks.rule import rule_name
    from lorank.training.method_options import method_options
    from lorank.training.option_values import check_option_values
    from lorank.training.policies.settings import check_policy
    from lorank.training.projecting import check_projection, is_projected, settle_adapter
    from lorank.training.weights import WHOLE

    if is_projected(recipe.optimizer):
        check_option_values("optimizer", recipe.optimizer.options, Projection)
    check_projection(recipe)
    recipe = settle_adapter(recipe)
    base, adapter = getattr(recipe, "base", None), recipe.adapter
    _check_model_options(base, getattr(recipe, "options", {}))
    check_option_values("debias", recipe.debias.options, find_debiaser(recipe.debias.name))
    check_debias(recipe.debias)
    check_policy(recipe)
    if base not in TREES:
        check_option_values("loss", recipe.loss.options, find_loss(recipe.loss.name))
        loss(recipe.loss.name, **recipe.loss.options)
    check_compression(recipe)
    if adapter.name == AUTO:
        adapter = replace(adapter, name="lora" if recipe.compress.name == "none" else "full")
    continual = getattr(recipe, "continual", None)
    if continual is not None:
        _check_continual(continual)
    chosen = choose_budget(recipe.budget, adapter)
    check_budget_options(chosen.name, recipe.budget.options)
    if chosen.name in DYNAMIC:
        check_option_values("budget", recipe.budget.options, DYNAMIC[chosen.name], Timetable)
    rule = rule_name(recipe.rule, adapter.name)
    check_option_values("rule", recipe.rule.options, RULES[rule])
    make_rule(rule, **recipe.rule.options)
    if adapter.name in WHOLE:
        if adapter.options or recipe.start.options:
            raise UsageError(f"adapter {adapter.name!r} trains whole weights and has no options; leave them out")
        return
    form = preset(chosen.adapter.name).form
    for section, given in (("adapter", adapter.options), ("start", recipe.start.options)):
        known = method_options(section, {"adapter.name": chosen.adapter.name, "adapter.start": adapter.start})
        for option in given:
            if option not in known:
                raise unknown_name(f"option of {section} ({chosen.adapter.name}):", option, known)
    kind = form_type(preset(chosen.adapter.name).form)
    check_option_values("adapter", adapter.options, kind, kind.build)
    start = STARTS[adapter.start or preset(chosen.adapter.name).start]
    if type(start).__init__ is not object.__init__:
        check_option_values("start", recipe.start.options, type(start))
    if adapter.start is not None and not STARTS[adapter.start].suits(form_type(form)):
        raise UsageError(f"start {adapter.start!r} does not suit adapter {adapter.name!r} (form {form!r})")


def check_compression(recipe: Recipe) -> None:
    """Raise UsageError for options that the compression does not have, and for adapters, which it does not go with."""
    from torch import nn

    from lorank.lowrank.compression import COMPRESSIONS, compression_options
    from lorank.training.option_values import check_option_values

    settings = recipe.compress
    if settings.name == "none":
        if settings.options:
            raise UsageError(f"compress.{next(iter(settings.options))}: no compression is named; give --compress")
        return
    known = compression_options(settings.name)
    for option in settings.options:
        if option not in known:
            raise unknown_name(f"option of compression {settings.name!r}:", option, known)
    check_option_values("compress", settings.options, COMPRESSIONS[settings.name])
    try:
        COMPRESSIONS[settings.name](nn.Module(), {}, 1, recipe.seed, **settings.options)
    except UsageError as error:
        raise UsageError(f"compression {settings.name!r}: {error}") from error
    if COMPRESSIONS[settings.name].factored and recipe.optimizer.name not in NAMES["optimizer.name"][1]:
        raise UsageError(
            f"optimizer {recipe.optimizer.name!r} projects whole weights, and compression {settings.name!r} trains "
            "factors in their places; leave one of them out"
        )
    if recipe.adapter.name not in ("auto", "full"):
        raise UsageError(
            f"compression {settings.name!r} trains whole weights, and adapter {recipe.adapter.name!r} leaves them as "
            "they are; leave --adapter out, or --compress"
        )


def _check_continual(settings: ContinualSettings) -> None:
    """Raise UsageError for options that the continual method does not have, and for values that it does not take."""
    from lorank.training.option_values import check_option_values

    known, owner = named_options("continual", settings.name), load_named("continual", settings.name)
    for option in settings.options:
        if option not in known:
            raise unknown_name(f"option of continual method {settings.name!r}:", option, known)
    check_option_values("continual", settings.options, owner)
    owner(**settings.options)


def check_debias(settings: DebiasSettings) -> None:
    """Raise UsageError for options that the debiaser does not have, and propensities that name nothing."""
    from lorank.ranking.clicks.debias import make_debiaser

    make_debiaser(settings.name, **settings.options)
    if not Path(settings.propensities).is_file():
        index.check("propensity", settings.propensities, "debias.propensities", also=("auto", "log", "<file>"))


def nearest(name: str, known: Container[str]) -> str:
    """Return "did you mean ...? " for a name that resembles a known one, or nothing.

    >>> nearest("rnak", ["rank", "alpha"])
    "did you mean 'rank'? "
    """
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {near[0]!r}? " if near else ""


def _check_model_options(base: str | None, options: dict[str, Any]) -> None:
    if not options:
        return
    if base is not None and base not in index.names("feature-model"):
        from lorank import plugins

        if base not in plugins.names("feature-model"):
            raise UsageError(f"option {next(iter(options))}: only feature models take options, and {base!r} is none")
    from lorank.ranking.scorers.features import model_options

    known = model_options(base or "mlp")
    for option in options:
        if option not in known:
            raise unknown_name(f"option of feature model {base or 'mlp'!r}:", option, known)


def _value(recipe: Recipe, setting: str) -> Any:
    section, _, key = setting.rpartition(".")
    return getattr(getattr(recipe, section, None) if section else recipe, key, None)


def _choices(recipe: Recipe) -> list[tuple[str, Any, tuple[Any, ...]]]:
    """Return (setting, value, choices) of every setting whose type is a list of words."""
    found = []
    for section in fields(recipe):
        part = getattr(recipe, section.name)
        for key, kind in get_type_hints(type(part)).items() if is_dataclass(part) else ():
            if get_origin(kind) is Literal:
                found.append((f"{section.name}.{key}", getattr(part, key), get_args(kind)))
    return found
