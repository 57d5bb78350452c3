"""The learning rate that a method brings, and how far it is meant to move a weight.

A form, a start, a rule and a budget may each state a rate ``lr``, which benchmarks/rates.py found for it. Where a
method combines several, the first of rule, budget, start and form that states one counts: a rule decides how long a
step is, a start or a budget how large the factors are that it steps. A preset that differs from its form by the scaling
alone states one for it.
"""

from dataclasses import dataclass

from lorank.lowrank.budgets import DYNAMIC
from lorank.lowrank.forms.form import form_type
from lorank.lowrank.presets import preset
from lorank.lowrank.rules import RULES
from lorank.lowrank.starts import start_named

AUTO = "auto"


@dataclass(frozen=True)
class DefaultRate:
    """The rate ``value`` of a method, and the ``source`` that states it, such as "form vera"."""

    value: float
    source: str


def default_rate(method: str, *, start: str | None = None, rule: str = AUTO, budget: str = AUTO) -> DefaultRate:
    """Return the rate that ``method`` brings.

    Args:
        method: a preset or a form, as in ``attach``.
        start: replaces the method's own.
        rule: replaces the method's own, unless it is "auto".
        budget: replaces the method's own, unless it is "auto"; "none" is none.

    Raises:
        UsageError: for a name that is not registered.

    >>> default_rate("lora").source, default_rate("dora", rule="loft").source
    ('form lora', 'rule loft')
    """
    chosen = preset(method)
    rule, budget = (own if given == AUTO else given for given, own in ((rule, chosen.rule), (budget, chosen.budget)))
    start = start or chosen.start
    stated = [
        (RULES[rule].lr if rule in RULES else None, f"rule {rule}"),
        (DYNAMIC[budget].lr if budget in DYNAMIC else None, f"budget {budget}"),
        (start_named(start).lr, f"start {start}"),
        (chosen.lr, f"preset {method}"),
    ]
    for value, source in stated:
        if value is not None:
            return DefaultRate(value, source)
    return DefaultRate(form_type(chosen.form).lr, f"form {chosen.form}")
