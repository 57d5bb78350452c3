"""How many ranks each layer gets: before training (static) and during it (dynamic, on gated forms)."""

from collections.abc import Mapping, Sequence
from dataclasses import fields

from torch import nn

from lorank.errors import UsageError, unknown_name
from lorank.lowrank.base import BaseLinear
from lorank.lowrank.budgets import (
    adalora,
    alora_allocate,
    autolora_meta,
    codyra,
    diffora,
    dora_dynamic,
    dylora,
    elalora,
    increlora,
    lora_squared,
    metric_importance,
    plop,
    qdylora,
    selective_lora_indicator,
    sensitivity_lora,
    sora,
    static,
    triadaptlora,
)
from lorank.lowrank.budgets.core.budget import (
    DYNAMIC,
    STATIC,
    Budget,
    Signals,
    StaticBudget,
    Timetable,
    find_dynamic_budget,
)
from lorank.lowrank.budgets.rankadaptor import Search, rankadaptor
from lorank.lowrank.forms import Form, Gated, Site
from lorank.lowrank.starts import Statistics


def make_budget(
    name: str, forms: Mapping[str, Form], total: int | None = None, *, seed: int = 0, **options: object
) -> Budget:
    """Return the dynamic budget ``name`` over an adapter's forms.

    Args:
        name: of a dynamic budget.
        forms: ``adapter.forms``; all gated.
        total: sum of ranks at the end; None takes the sum of the forms' ranks r.
        seed: of what the budget draws.
        options: of the timetable (warmup, final, every) and of the budget.

    >>> from lorank import lowrank
    >>> adapter = lowrank.attach(nn.Sequential(nn.Linear(3, 2)), "adalora", rank=2)
    >>> budget = make_budget("adalora", adapter.forms, every=5); budget.total, budget.ranks()
    (2, {'0': 3})
    """
    kind = find_dynamic_budget(name)
    gated: dict[str, Gated] = {}
    for path, form in forms.items():
        if not isinstance(form, Gated):
            raise UsageError(
                f"budget {name!r} switches rank-1 components, and layer {path} has a {type(form).__name__}; attach "
                f"with the method {name!r}"
            )
        gated[path] = form
    times = {field.name for field in fields(Timetable)}
    timetable = Timetable(**{key: value for key, value in options.items() if key in times})  # type: ignore[arg-type]
    total = sum(form.rank for form in gated.values()) if total is None else total
    own = {key: value for key, value in options.items() if key not in times}
    try:
        return kind(gated, total, timetable, seed=seed, **own)
    except TypeError as error:
        raise UsageError(f"budget {name!r}: {error}") from error


def share_ranks_of(
    name: str, sites: Sequence[Site], statistics: Mapping[str, Statistics], total: int
) -> dict[str, int]:
    """Return the ranks by path that the static budget ``name`` gives; they sum to ``total``.

    Args:
        name: The name of a static budget.
        sites: The layers that share the ranks.
        statistics: What the calibration pass found of each layer, by path.
        total: The sum of ranks over all layers, 0 or more.

    Raises:
        UsageError: If the budget is unknown, or statistics that it needs are missing.

    >>> share_ranks_of("uniform", example_sites(["a", "b"]), {}, 3)
    {'a': 2, 'b': 1}
    """
    if name not in STATIC:
        raise unknown_name("static budget", name, STATIC)
    budget = STATIC[name]
    for site in sites:
        lacking = budget.needs - set(statistics.get(site.path, {}))
        if lacking:
            raise UsageError(f"budget {name!r} needs statistics of layer {site.path}: {', '.join(sorted(lacking))}")
    return budget.share(sites, statistics, total)


def example_sites(paths: Sequence[str], rank: int = 1) -> list[Site]:
    """Return sites on small layers, for examples."""
    return [Site(path, BaseLinear(nn.Linear(3, 2)), rank, float(rank), 1.0) for path in paths]


__all__ = [
    "Budget",
    "DYNAMIC",
    "STATIC",
    "Search",
    "Signals",
    "StaticBudget",
    "Timetable",
    "adalora",
    "alora_allocate",
    "autolora_meta",
    "codyra",
    "diffora",
    "dora_dynamic",
    "dylora",
    "find_dynamic_budget",
    "elalora",
    "example_sites",
    "increlora",
    "lora_squared",
    "make_budget",
    "metric_importance",
    "plop",
    "qdylora",
    "rankadaptor",
    "selective_lora_indicator",
    "sensitivity_lora",
    "share_ranks_of",
    "sora",
    "static",
    "triadaptlora",
]
