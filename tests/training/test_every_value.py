"""Every key of a recipe and every option of every method at extreme values: refused by name before any work, or run."""

import math
from dataclasses import fields, is_dataclass

import pytest

from lorank import index
from lorank.errors import DataError, UsageError
from lorank.lowrank.budgets import DYNAMIC
from lorank.lowrank.forms.form import FORMS, ROUTED, form_options
from lorank.lowrank.rules import RULES, rule_options
from lorank.lowrank.starts import STARTS, start_options
from lorank.ranking.clicks.debias import debiaser_options
from lorank.ranking.losses.core.registry import loss_options
from lorank.training.checks import FLAGS, check_names, check_options
from lorank.training.hooks.budget import budget_options
from lorank.training.recipe import RecipeFile, override

EXTREMES = [
    *(0, -1, 1, 3, 2**40, 2**70),
    *(0.0, -0.5, 0.5, 1.5, math.nan, math.inf, -math.inf, 1e308, 5e-324),
    *("", "x", "nan", "\0", True, False, [], [1], ["x"], [math.nan]),
]
REFUSALS = (UsageError, DataError)


def keys():
    plan = RecipeFile()
    for section in fields(RecipeFile):
        own = getattr(plan, section.name)
        yield from (f"{section.name}.{f.name}" for f in fields(own)) if is_dataclass(own) else (section.name,)


def check(changes):
    plan = override(RecipeFile(), changes)
    check_names(plan, list(changes))
    check_options(plan)
    return plan


def problem_of(changes, words):
    """Return what is wrong with how ``changes`` are answered: not refused by name, and not taken either."""
    value = list(changes.values())[-1]
    try:
        check(changes)
    except REFUSALS as error:
        return None if any(word in str(error) for word in words) else f"{value!r}: {error}"
    return "nan is taken" if isinstance(value, float) and math.isnan(value) else None


@pytest.mark.parametrize("key", sorted(keys()))
def test_a_key_is_refused_by_its_name_or_taken_at_every_extreme(key):
    last = key.rpartition(".")[2]
    words = {key, last, last.replace("_", "-"), FLAGS.get(key, key)}
    assert not list(filter(None, (problem_of({key: value}, words) for value in EXTREMES)))


def options():
    """(section, method, the changes that name it, option) of every option that a recipe reaches."""
    for name in (*FORMS, *ROUTED):
        yield from (("adapter", name, {"adapter.name": name}, option) for option in form_options(name))
    for name in STARTS:
        form = next(form for form in FORMS if STARTS[name].suits(FORMS[form]))
        named = {"adapter.name": form, "adapter.start": name}
        yield from (("start", name, named, option) for option in start_options(name))
    for name in DYNAMIC:
        yield from (("budget", name, {"budget.name": name}, option) for option in budget_options(name))
    for name in RULES:
        yield from (("rule", name, {"rule.name": name}, option) for option in rule_options(name))
    for name in index.names("loss"):
        yield from (("loss", name, {"loss.name": name}, option) for option in loss_options(name))
    for name in index.names("debias"):
        yield from (("debias", name, {"debias.name": name}, option) for option in debiaser_options(name))


POINTS = [pytest.param(*point, id="-".join([point[0], point[1], point[3]])) for point in options()]


def problems_of(section, named, option, values):
    words, key = {option, option.replace("_", " "), section}, f"{section}.options.{option}"
    return [found for value in values if (found := problem_of({**named, key: value}, words))]


@pytest.mark.parametrize(("section", "name", "named", "option"), POINTS)
def test_an_option_refuses_by_its_name_what_no_option_takes(section, name, named, option):
    assert not problems_of(section, named, option, [math.nan, 2**70])


@pytest.mark.slow
@pytest.mark.parametrize(("section", "name", "named", "option"), POINTS)
def test_an_option_is_refused_by_its_name_or_taken_at_every_extreme(section, name, named, option):
    assert not problems_of(
        section, named, option, [value for value in EXTREMES if value != 2**40]
    )  # counts fill memory
