"""Put low-rank updates on a model: which layers, at which rank and scale, filled by which start."""

from collections.abc import Iterable, Mapping

from torch import nn

from lorank.errors import UsageError
from lorank.lowrank.adapter import Adapter
from lorank.lowrank.base import BaseLinear
from lorank.lowrank.budgets import DYNAMIC, STATIC, share_ranks_of
from lorank.lowrank.forms import Site, form_type
from lorank.lowrank.layer import Adapted, replace_module
from lorank.lowrank.presets import PRESETS
from lorank.lowrank.presets import preset as preset_named
from lorank.lowrank.scaling import default_alpha, scaling_rule
from lorank.lowrank.settings import LayerPlan, Settings
from lorank.lowrank.starts import Statistics, start_named
from lorank.lowrank.targets import ALL_LINEAR, check_patterns, pattern_value, resolve_modules, select_targets


def attach(
    model: nn.Module,
    method: str = "lora",
    *,
    rank: int = 8,
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
    statistics: Mapping[str, Statistics] | None = None,
) -> Adapter:
    """Put an update on each target layer of ``model``, in place, and freeze everything else.

    Args:
        model: any module with linear layers.
        method: a preset or a form: ``lora``, ``dora``, ``rslora``, ``pissa``.
        rank: r of every layer that ``ranks`` does not name, from 0 up.
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
        statistics: what a calibrated start reads, by layer path.

    Returns:
        The adapter; the model itself now computes with it.

    Raises:
        UsageError: for names that fit nothing, and options that cannot work together.

    >>> model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 1))
    >>> adapter = attach(model, "lora", rank=2, targets=["0"], trained=["1"])
    >>> sorted(adapter.layers), adapter.num_parameters()
    (['0'], 18)
    """
    chosen = preset_named(method)
    settings = Settings(
        method,
        chosen.form,
        start or chosen.start,
        scaling or chosen.scaling,
        rank,
        alpha,
        dropout,
        seed,
        {**chosen.options, **(options or {})},
    )
    layers = select_targets(model, targets, exclude, trained)
    check_patterns("ranks", ranks, layers)
    check_patterns("alphas", alphas, layers)
    plan = {path: _plan_layer(path, settings, ranks, alphas) for path in layers}
    filling = start_named(settings.start)
    if not filling.suits(form_type(settings.form)):
        raise UsageError(f"start {settings.start!r} does not suit form {settings.form!r}")
    statistics = statistics or {}
    for path in layers:
        lacking = filling.needs - set(statistics.get(path, {}))
        if lacking:
            raise UsageError(f"start {settings.start!r} needs statistics of layer {path}: {', '.join(sorted(lacking))}")
    redistributed = filling.ranks(make_sites(model, settings, plan), statistics)
    if redistributed is not None:
        plan = {path: _plan_layer(path, settings, redistributed, alphas) for path in plan}
    if chosen.budget in STATIC:
        total = sum(layer.rank for layer in plan.values())
        shared = share_ranks_of(chosen.budget, make_sites(model, settings, plan), statistics, total)
        plan = {path: rescaled(layer, shared[path], settings.scaling) for path, layer in plan.items()}
    adapter = install(model, settings, plan, trained, name)
    for site in make_sites(model, settings, plan):
        filling.fill(adapter.forms[site.path], site, statistics.get(site.path, {}))
    return adapter


def _plan_layer(
    path: str, settings: Settings, ranks: Mapping[str, int] | None, alphas: Mapping[str, float] | None
) -> LayerPlan:
    rank = pattern_value(ranks, path, settings.rank)
    if not isinstance(rank, int) or rank < 0:
        raise UsageError(f"rank {rank!r} of layer {path} is not an integer from 0 up")
    own = settings.alpha if settings.alpha is not None else default_alpha(settings.scaling, rank)
    return LayerPlan(rank, float(pattern_value(alphas, path, own)))


def rescaled(layer: LayerPlan, rank: int, scaling: str) -> LayerPlan:
    """Return the plan at another rank, with alpha such that the scale stays; from rank 0 it is the default's."""
    if rank == layer.rank:
        return layer
    rule = scaling_rule(scaling)
    if not (rank and layer.rank):
        return LayerPlan(rank, default_alpha(scaling, rank))
    return LayerPlan(rank, layer.alpha * rule(1.0, layer.rank) / rule(1.0, rank))


def make_sites(model: nn.Module, settings: Settings, plan: Mapping[str, LayerPlan]) -> list[Site]:
    """Return the site of each planned layer of ``model``."""
    rule = scaling_rule(settings.scaling)
    sites = []
    for path, layer in plan.items():
        module = model.get_submodule(path)
        base = module.frozen if isinstance(module, Adapted) else BaseLinear(module)
        scaling = rule(layer.alpha, layer.rank)
        sites.append(Site(path, base, layer.rank, layer.alpha, scaling, settings.dropout, settings.seed))
    return sites


def install(
    model: nn.Module, settings: Settings, plan: Mapping[str, LayerPlan], trained: Iterable[str], name: str
) -> Adapter:
    """Put forms at their zero start on the planned layers and freeze the rest of ``model``."""
    if not name or "." in name:
        raise UsageError(f"adapter name {name!r} is empty or holds a dot")
    heads = resolve_modules(model, trained)
    _store_in_few_bits(model, settings.method, plan)
    sites = make_sites(model, settings, plan)
    for site in sites:
        module = model.get_submodule(site.path)
        if isinstance(module, Adapted) and name in module.forms:
            raise UsageError(f"the model already has an adapter called {name!r}; choose another name")
    forms = form_type(settings.form).build(sites, **settings.options)
    was_trained = {id(parameter): parameter.requires_grad for parameter in model.parameters()}
    model.requires_grad_(False)
    layers = {}
    for site, form in zip(sites, forms, strict=True):
        module = model.get_submodule(site.path)
        if not isinstance(module, Adapted):
            module = Adapted(module, site.path)
            replace_module(model, site.path, module)
        module.add(name, form)
        layers[site.path] = module
    for head in heads.values():
        head.requires_grad_(True)
    return Adapter(model, name, settings, layers, heads, was_trained)


def _store_in_few_bits(model: nn.Module, method: str, paths: Iterable[str]) -> None:
    """Quantise the layers at ``paths`` that are dense and without updates, where the method wants them so."""
    from lorank.lowrank.quantised import QuantisedLinear

    brings = PRESETS.get(method) or DYNAMIC.get(method)
    scheme = None if brings is None else brings.base
    if scheme is None:
        return
    for path in paths:
        module = model.get_submodule(path)
        if not isinstance(module, Adapted) and not BaseLinear.quantises(module):
            replace_module(model, path, QuantisedLinear.of(module, scheme))
