"""Put updates on a model, all of them or none: everything is made and checked before the first module changes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import nn

from lorank.errors import UsageError
from lorank.lowrank.base import BaseLinear
from lorank.lowrank.budgets import DYNAMIC
from lorank.lowrank.forms import Form, Site, form_type
from lorank.lowrank.freeze import Freeze
from lorank.lowrank.layer import Adapted
from lorank.lowrank.matrix_view import MatrixView, base_of
from lorank.lowrank.module_tree import replace_modules
from lorank.lowrank.presets import PRESETS
from lorank.lowrank.quantised import quantise_layer
from lorank.lowrank.scaling import scaling_rule
from lorank.lowrank.settings import LayerPlan, Settings
from lorank.lowrank.targets import resolve_modules
from lorank.lowrank.updates import Updates
from lorank.lowrank.viewed_layers import adapt

Kind = TypeVar("Kind", bound=Updates)


@dataclass(frozen=True)
class Place:
    """Where one update goes: its site, the module that stands there, and the quantised one that will stand there."""

    site: Site
    module: nn.Module
    quantised: nn.Module | None = None


@dataclass(frozen=True)
class Prepared:
    """Updates that are made for a model and not on it yet."""

    model: nn.Module
    name: str
    settings: Settings
    places: Sequence[Place]
    forms: Sequence[Form]
    trained: Mapping[str, nn.Module]

    def put_on(self, kind: type[Kind]) -> Kind:
        """Put the updates on the model, freeze the rest of it, and return them as ``kind``."""
        freeze = Freeze(self.model)
        layers: dict[str, Adapted] = {}
        fresh: list[tuple[nn.Module, nn.Module]] = []
        try:
            self.model.requires_grad_(False)
            for place, form in zip(self.places, self.forms, strict=True):
                layer = place.module
                if not isinstance(layer, Adapted):
                    layer = _wrap(place, self.model)
                    fresh.append((place.module, layer))
                layers[place.site.path] = layer
                layer.add(self.name, form)
                layer.freezes[self.name] = freeze
            replace_modules(self.model, fresh)
            for head in self.trained.values():
                head.requires_grad_(True)
        except BaseException:  # whatever stopped it, the model goes back as it came
            for layer in layers.values():
                if self.name in layer.forms:
                    layer.remove(self.name)
            replace_modules(self.model, [(layer, layer.give_back()) for _, layer in fresh])
            freeze.undo([])
            raise
        return kind(self.model, self.name, self.settings, layers, dict(self.trained), freeze)


def prepare(
    model: nn.Module,
    settings: Settings,
    plan: Mapping[str, LayerPlan],
    trained: Iterable[str],
    name: str,
    places: Sequence[Place] | None = None,
) -> Prepared:
    """Make forms at their zero start for the planned layers of ``model``, which does not change.

    Args:
        model: without wrappers; see ``unwrap_model``.
        settings: of the adapter.
        plan: rank and alpha of each layer.
        trained: names of modules that are trained whole.
        name: of the adapter.
        places: what ``find_places`` gave for this plan, where it is known.

    Raises:
        UsageError: for a name that is taken or empty, and layers on which no update can stand.
    """
    if not name or "." in name:
        raise UsageError(f"adapter name {name!r} is empty or holds a dot")
    heads = resolve_modules(model, trained)
    places = find_places(model, settings, plan) if places is None else places
    seen: dict[int, str] = {}
    for place in places:
        path, module = place.site.path, place.module
        if id(module) in seen:
            raise UsageError(
                f"layers {seen[id(module)]} and {path} are one module of this model, which takes one update, under one "
                "path"
            )
        seen[id(module)] = path
        if isinstance(module, Adapted):
            module.check_free(name)
    check_kinds(settings, places)
    with torch.inference_mode(False):
        forms = form_type(settings.form).build([place.site for place in places], **settings.options)
    return Prepared(model, name, settings, places, forms, heads)


def find_places(model: nn.Module, settings: Settings, plan: Mapping[str, LayerPlan]) -> list[Place]:
    """Return the place of each planned layer of ``model``; layers that the method stores in few bits are quantised."""
    brings = PRESETS.get(settings.method) or DYNAMIC.get(settings.method)
    scheme = None if brings is None else brings.base
    places = []
    for path, layer in plan.items():
        module = model.get_submodule(path)
        quantised = None
        if scheme is not None and not isinstance(module, Adapted) and not BaseLinear.quantises(module):
            quantised = quantise_layer(path, module, scheme)
        places.append(Place(make_site(path, quantised or module, settings, layer), module, quantised))
    return places


def check_kinds(settings: Settings, places: Sequence[Place]) -> None:
    """Raise UsageError where the form of ``settings`` makes no sense on a layer that is not linear."""
    if form_type(settings.form).mergeable:
        return
    for place in places:
        if isinstance(place.site.base, MatrixView):
            raise UsageError(
                f"form {settings.form!r} routes each input of a linear layer by itself, and {place.site.path} is of "
                f"type {type(place.module).__name__}, which takes forms that change its weight; put another form on "
                "it, such as 'lora', or leave it out of the targets"
            )


def make_site(path: str, module: nn.Module, settings: Settings, layer: LayerPlan) -> Site:
    """Return the site of an update on ``module``.

    Args:
        path: The layer's path in the model.
        module: The linear layer, or one that has adapters already.
        settings: The settings of the adapter, of which the scaling, the dropout and the seed are read.
        layer: The rank and alpha of the update.

    Raises:
        UsageError: If no update can stand on the module; the message has the path.
    """
    try:
        base = module.frozen if isinstance(module, Adapted) else base_of(module)
    except UsageError as error:
        raise UsageError(f"layer {path}: {error}") from error
    scaling = scaling_rule(settings.scaling)(layer.alpha, layer.rank)
    return Site(path, base, layer.rank, layer.alpha, scaling, settings.dropout, settings.seed)


def make_sites(model: nn.Module, settings: Settings, plan: Mapping[str, LayerPlan]) -> list[Site]:
    """Return the site of each planned layer of ``model`` as it is."""
    return [make_site(path, model.get_submodule(path), settings, layer) for path, layer in plan.items()]


def _wrap(place: Place, model: nn.Module) -> Adapted:
    """Return the layer of ``place`` wrapped; the dense weight of one that is quantised is kept on the CPU."""
    if place.quantised is None:
        return adapt(place.module, place.site.path)
    layer = Adapted(place.quantised, place.site.path, dense=place.module)
    own = {id(parameter) for parameter in place.module.parameters()}
    holders = [part for part in model.modules() if own & {id(held) for held in part._parameters.values()}]
    if holders == [place.module]:
        place.module.to("cpu")
    return layer
