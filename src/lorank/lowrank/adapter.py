"""Attach low-rank updates to a model, and what can be done with them afterwards."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from lorank.errors import LorankError, UsageError
from lorank.lowrank.base import BaseLinear
from lorank.lowrank.budgets import STATIC, share_ranks_of
from lorank.lowrank.forms import Form, Site, form_type
from lorank.lowrank.layer import Adapted, replace_module
from lorank.lowrank.presets import PRESETS
from lorank.lowrank.presets import preset as preset_named
from lorank.lowrank.scaling import default_alpha, scaling_rule
from lorank.lowrank.starts import Statistics, start_named
from lorank.lowrank.targets import (
    ALL_LINEAR,
    check_patterns,
    is_within,
    pattern_value,
    resolve_modules,
    select_targets,
)

if TYPE_CHECKING:
    from lorank.lowrank.agreement import Probe
    from lorank.lowrank.export import ExportReport


@dataclass(frozen=True)
class Settings:
    """How an adapter was made; ``alpha`` None means the scaling's own default at each layer's rank."""

    method: str = "lora"
    form: str = "lora"
    start: str = "zero"
    scaling: str = "lora"
    rank: int = 8
    alpha: float | None = None
    dropout: float = 0.0
    seed: int = 0
    options: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.rank, int) or self.rank < 0:
            raise UsageError(f"rank {self.rank!r} is not an integer from 0 up")
        if not 0 <= self.dropout < 1:
            raise UsageError(f"dropout {self.dropout!r} is not in [0, 1)")
        if self.alpha is not None and not self.alpha > 0:
            raise UsageError(f"alpha {self.alpha!r} is not above 0")
        scaling_rule(self.scaling)


@dataclass(frozen=True)
class LayerPlan:
    """The rank and alpha of one layer's update."""

    rank: int
    alpha: float


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
) -> "Adapter":
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
            raise UsageError(
                f"start {settings.start!r} needs statistics of layer {path}: {', '.join(sorted(lacking))}"
            )
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
) -> "Adapter":
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


def named_tensors(modules: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """Return every tensor that ``modules`` save under ``path.key``, each once: live ones, detached."""
    named: dict[str, Tensor] = {}
    seen: set[int] = set()
    for path, module in modules.items():
        for key, tensor in module.state_dict(keep_vars=True).items():
            if id(tensor) not in seen:
                seen.add(id(tensor))
                named[f"{path}.{key}"] = tensor.detach()
    return named


@torch.no_grad()
def copy_tensors(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    """Copy ``state`` into the tensors ``own``; LorankError unless every name and shape fits."""
    missing, unknown = own.keys() - state.keys(), state.keys() - own.keys()
    if missing or unknown:
        raise LorankError(
            f"the state does not fit this adapter: missing {sorted(missing)[:3]}, "
            f"unknown {sorted(unknown)[:3]}; attach with the same method, targets and start"
        )
    for key, tensor in own.items():
        if tensor.shape != state[key].shape:
            raise LorankError(f"{key} has shape {tuple(state[key].shape)}, the adapter has {tuple(tensor.shape)}")
        tensor.copy_(state[key])


def _store_in_few_bits(model: nn.Module, method: str, paths: Iterable[str]) -> None:
    """Quantise the layers at ``paths`` that are dense and without updates, where the method wants them so."""
    from lorank.lowrank.quantised import QuantisedLinear

    scheme = PRESETS[method].base if method in PRESETS else None
    if scheme is None:
        return
    for path in paths:
        module = model.get_submodule(path)
        if not isinstance(module, Adapted) and not BaseLinear.quantises(module):
            replace_module(model, path, QuantisedLinear.of(module, scheme))


class Adapter:
    """The updates that one ``attach`` or ``load`` put on a model, and the modules trained whole with them.

    ``layers`` maps paths to ``Adapted`` layers, ``forms`` paths to this adapter's updates, ``trained`` paths
    to the modules trained whole.
    """

    def __init__(
        self,
        model: nn.Module,
        name: str,
        settings: Settings,
        layers: dict[str, Adapted],
        trained: dict[str, nn.Module],
        was_trained: dict[int, bool],
    ) -> None:
        self.model, self.name, self.settings = model, name, settings
        self.layers, self.trained = layers, trained
        self._was_trained = was_trained

    @property
    def forms(self) -> dict[str, Form]:
        """This adapter's update of each layer, by path."""
        return {path: layer.forms[self.name] for path, layer in self.layers.items()}

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield (path, parameter) of all that is trained: the updates', then the whole modules'; each once."""
        seen: set[int] = set()
        for path, module in (*self.forms.items(), *self.trained.items()):
            for key, parameter in module.named_parameters():
                if id(parameter) not in seen and parameter.requires_grad:
                    seen.add(id(parameter))
                    yield f"{path}.{key}", parameter

    def parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters of ``named_parameters``."""
        for _, parameter in self.named_parameters():
            yield parameter

    def num_parameters(self) -> int:
        """Return how many values are trained, whole modules included."""
        return sum(parameter.numel() for parameter in self.parameters())

    def state(self) -> dict[str, Tensor]:
        """Return every tensor of the adapter under its path: live ones, detached; clone to keep."""
        return named_tensors({**self.forms, **self.trained})

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Copy in what ``state`` gave; every name and shape must fit.

        Raises:
            LorankError: naming the tensors that are missing, unknown or of another shape.
        """
        copy_tensors(self.state(), state)

    def activate(self, *names: str) -> None:
        """Sum the adapters called ``names`` from now on, this one alone where none is named."""
        chosen = names or (self.name,)
        layers = [module for module in self.model.modules() if isinstance(module, Adapted)]
        known = {name for layer in layers for name in layer.forms}
        if not set(chosen) <= known:
            raise UsageError(f"no adapter called {sorted(set(chosen) - known)[0]!r}; there are {sorted(known)}")
        for layer in layers:
            layer.activate(chosen)

    @property
    def merged(self) -> bool:
        """True while the model's own weights hold the update."""
        return any(layer.merged for layer in self.layers.values())

    @property
    def mergeable(self) -> bool:
        """False where an update routes tokens, so that no one matrix stands for it, and on quantised layers."""
        fits = not any(layer.frozen.quantised for layer in self.layers.values())
        return fits and all(form.mergeable for form in self.forms.values())

    def merge(self) -> None:
        """Write W + dW (of all active adapters) into this adapter's layers, added in float32 or better."""
        for layer in self.layers.values():
            layer.merge()

    def unmerge(self) -> None:
        """Put the model's own weights back, bit by bit."""
        for layer in self.layers.values():
            layer.unmerge()

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """Within it this adapter's layers compute with the model's own weights; whole modules stay as trained."""
        merged = self.merged
        self.unmerge()
        enabled = [layer.enabled for layer in self.layers.values()]
        for layer in self.layers.values():
            layer.enabled = False
        try:
            yield
        finally:
            for layer, was in zip(self.layers.values(), enabled, strict=True):
                layer.enabled = was
            if merged:
                self.merge()

    def detach(self) -> nn.Module:
        """Take the updates off the model, which has its own weights again, and return it.

        Modules trained whole keep their values; parameters are trainable as they were before ``attach``.
        """
        for path, layer in self.layers.items():
            layer.remove(self.name)
            if not layer.forms:
                replace_module(self.model, path, layer.base)
        for parameter in self.model.parameters():
            parameter.requires_grad_(self._was_trained.get(id(parameter), parameter.requires_grad))
        return self.model

    def holds(self, path: str) -> bool:
        """Return whether ``path`` lies in a module that is trained whole."""
        return any(is_within(path, head) for head in self.trained)

    def save(
        self,
        folder: str | Path,
        *,
        base_name: str | None = None,
        task_type: str | None = None,
        probe: "Probe | None" = None,
    ) -> list[Path]:
        """Write the adapter folder; see ``folder.save``."""
        from lorank.lowrank import folder as folders

        return folders.save(self, folder, base_name=base_name, task_type=task_type, probe=probe)

    def export(
        self,
        folder: str | Path,
        format: str = "peft",
        *,
        probe: "Probe | None" = None,
        limit: float | None = 1e-4,
        base_name: str | None = None,
        task_type: str | None = None,
        rank: int | None = None,
        energy: float | None = None,
        dtype: torch.dtype = torch.float32,
        tokenizer: object | None = None,
    ) -> "ExportReport":
        """Write the adapter for others to load; see ``export.export``."""
        from lorank.lowrank.export import ExportOptions, export

        options = ExportOptions(base_name, task_type, rank, energy, dtype, tokenizer)
        return export(self, folder, format, probe=probe, limit=limit, options=options)
