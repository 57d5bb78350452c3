"""Put low-rank updates on a model: which layers, at which rank and scale, filled by which start."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from torch import nn

from lorank.errors import UsageError
from lorank.lowrank.adapter import Adapter
from lorank.lowrank.budgets import STATIC, share_ranks_of
from lorank.lowrank.forms import form_type
from lorank.lowrank.installing import Place, find_places, prepare
from lorank.lowrank.module_tree import unwrap_model
from lorank.lowrank.presets import preset as preset_named
from lorank.lowrank.scaling import default_alpha, scaling_rule
from lorank.lowrank.settings import LayerPlan, Settings
from lorank.lowrank.starts import Statistics, start_named
from lorank.lowrank.targets import ALL_LINEAR, check_patterns, pattern_value, select_targets


def attach(
    model: nn.Module,
    method: str = "lora",
    *,
    rank: int | None = None,
    alpha: float | None = None,
    targets: str | Iterable[str] = ALL_LINEAR,
    exclude: Iterable[str] = (),
    scaling: str | None = None,
    start: str | None = None,
    ranks: Mapping[str, int] | None = None,
    alphas: Mapping[str, float] | None = None,
    trained: Iterable[str] = (),
    dropout: float = 0.0,
    seed: int = 0,
    name: str = "default",
    options: Mapping[str, object] | None = None,
    start_options: Mapping[str, object] | None = None,
    statistics: Mapping[str, Statistics] | None = None,
) -> Adapter:
    """Put an update on each target layer of ``model``, in place, and freeze everything else.

    Args:
        model: any module with linear layers.
        method: a preset or a form: ``lora``, ``dora``, ``rslora``, ``pissa``.
        rank: r of every layer that ``ranks`` does not name, from 0 up; None is the form's usual one: 8, or more where
            a form has few values a rank (``Form.usual_rank``).
        alpha: numerator of the scale s; None takes the rank (s = 1), under ``rslora`` 8.
        targets: ``"all-linear"``, names or suffixes of names, or a regular expression for the whole path.
        exclude: names of modules to leave alone with all they hold.
        scaling: ``lora`` (alpha / r) or ``rslora`` (alpha / sqrt r); None takes the preset's.
        start: ``zero`` or ``svd``; None takes the preset's.
        ranks: ranks by pattern; the first key with ``re.match(rf"(.*\\.)?({key})$", path)`` counts.
        alphas: alphas by pattern, likewise.
        trained: names of modules that are trained and saved whole: new heads and poolers (see
            ``new_head_modules``).
        dropout: probability in [0, 1) of zeroing an input of an update in training.
        seed: of every draw; a layer's draws depend on the seed and its path alone.
        name: of this adapter, where a model carries several; their updates are summed.
        options: further options of the form.
        start_options: options of the start, such as ``{"rho": 2.0}`` of ``eva``.
        statistics: what a calibrated start reads, by layer path.

    Returns:
        The adapter; the model itself now computes with it.

    Raises:
        UsageError: for names that fit nothing, options that cannot work together, and layers that cannot carry
            an update. The model is then as it was.

    >>> model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 1))
    >>> adapter = attach(model, "lora", rank=2, targets=["0"], trained=["1"])
    >>> sorted(adapter.layers), adapter.num_parameters()
    (['0'], 18)
    """
    model = unwrap_model(model)
    chosen = preset_named(method)
    settings = Settings(
        method,
        chosen.form,
        start or chosen.start,
        scaling or chosen.scaling,
        form_type(chosen.form).usual_rank if rank is None else rank,
        alpha,
        dropout,
        seed,
        {**chosen.options, **(options or {})},
    )
    layers = select_targets(model, targets, exclude, trained)
    check_patterns("ranks", ranks, layers)
    check_patterns("alphas", alphas, layers)
    plan = {path: _plan_layer(path, settings, ranks, alphas) for path in layers}
    filling = start_named(settings.start, start_options)
    if not filling.suits(form_type(settings.form)):
        raise UsageError(f"start {settings.start!r} does not suit form {settings.form!r}")
    statistics = statistics or {}
    for path in layers:
        lacking = filling.needs - set(statistics.get(path, {}))
        if lacking:
            raise UsageError(f"start {settings.start!r} needs statistics of layer {path}: {', '.join(sorted(lacking))}")
    places = find_places(model, settings, plan)
    redistributed = filling.ranks([place.site for place in places], statistics)
    if redistributed is not None:
        plan = {path: _plan_layer(path, settings, redistributed, alphas) for path in plan}
    if chosen.budget in STATIC:
        total = sum(layer.rank for layer in plan.values())
        sites = [place.site for place in at_ranks(places, plan, settings)]
        shared = share_ranks_of(chosen.budget, sites, statistics, total)
        plan = {path: rescale_plan(layer, shared[path], settings.scaling) for path, layer in plan.items()}
    prepared = prepare(model, settings, plan, trained, name, at_ranks(places, plan, settings))
    for place, form in zip(prepared.places, prepared.forms, strict=True):
        filling.fill(form, place.site, statistics.get(place.site.path, {}))
    return prepared.put_on(Adapter)


def at_ranks(places: Sequence[Place], plan: Mapping[str, LayerPlan], settings: Settings) -> list[Place]:
    """Return ``places`` with the ranks and alphas of ``plan``."""
    rule, found = scaling_rule(settings.scaling), []
    for place in places:
        rank, alpha = plan[place.site.path].rank, plan[place.site.path].alpha
        found.append(replace(place, site=replace(place.site, rank=rank, alpha=alpha, scaling=rule(alpha, rank))))
    return found


def _plan_layer(
    path: str, settings: Settings, ranks: Mapping[str, int] | None, alphas: Mapping[str, float] | None
) -> LayerPlan:
    rank = pattern_value(ranks, path, settings.rank)
    if not isinstance(rank, int) or rank < 0:
        raise UsageError(f"rank {rank!r} of layer {path} is not an integer from 0 up")
    own = settings.alpha if settings.alpha is not None else default_alpha(settings.scaling, rank)
    return LayerPlan(rank, float(pattern_value(alphas, path, own)))


def rescale_plan(layer: LayerPlan, rank: int, scaling: str) -> LayerPlan:
    """Return the plan at another rank, with alpha such that the scale stays; from rank 0 it is the default's."""
    if rank == layer.rank:
        return layer
    rule = scaling_rule(scaling)
    if not (rank and layer.rank):
        return LayerPlan(rank, default_alpha(scaling, rank))
    return LayerPlan(rank, layer.alpha * rule(1.0, layer.rank) / rule(1.0, rank))
