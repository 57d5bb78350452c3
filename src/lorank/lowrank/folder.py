"""Save an adapter as a folder, open a folder on a model; the files themselves are ``adapter_files``."""

import copy
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from lorank.errors import DataError, LorankError
from lorank.files import replaced_folder
from lorank.lowrank.adapter_files import FILES, TENSORS, Contents, Tensors, owner_of, read, write
from lorank.lowrank.agreement import Probe, compare_scores, probe_scores
from lorank.lowrank.base import BaseLinear
from lorank.lowrank.derived import Sketch, check_sketches, factors_of, sketches, take_factors
from lorank.lowrank.forms import Form, form_type
from lorank.lowrank.forms.peft_form import PeftForm
from lorank.lowrank.installing import Kind, make_sites, prepare
from lorank.lowrank.layer import Adapted
from lorank.lowrank.matrix_view import is_adaptable
from lorank.lowrank.module_tree import unwrap_model
from lorank.lowrank.offload import refuse_offloaded
from lorank.lowrank.settings import LayerPlan
from lorank.lowrank.updates import Updates, copy_tensors, named_tensors

SAME_SCORES = 1e-6
"""How far scores of up to 1 may be apart that differ by rounding alone; of larger ones the share of the largest."""


def save(
    adapter: Updates,
    folder: str | Path,
    *,
    base_name: str | None = None,
    task_type: str | None = None,
    probe: Probe | None = None,
    factors: bool = False,
) -> list[Path]:
    """Write ``adapter`` as a folder that lorank and, where it has the form, PEFT load on the original base.

    What was written is opened again before the folder appears: every tensor must be bit-equal, and with a
    ``probe`` a fresh copy of the base, its trained modules blanked, must score as the model does.

    Args:
        adapter: the trained updates on their model.
        folder: made if need be; other files in it stay.
        base_name: the base model's name, for ``base_model_name_or_path``.
        task_type: PEFT's task type; None takes SEQ_CLS for a sequence classifier.
        probe: scores a fixed set of inputs with the model it is given.
        factors: whether to write what forms compute from the base's weights too, so that the folder fits copies of
            the base in other dtypes; of quantised layers it is always written.

    Returns:
        The files written.

    Raises:
        LorankError: where what was read back differs; nothing is left behind then.
    """
    contents = contents_of(adapter)
    if factors:
        contents = replace(contents, updates=_with_factors(contents.updates, adapter.forms))
    with replaced_folder(folder, keep_others=True, own=FILES) as stage:
        write(contents, adapter.model, stage, base_name=base_name, task_type=task_type)
        if probe is not None:
            before = probe_scores(probe, adapter.model)
            change = compare_scores(before, reopened_scores(adapter, stage, probe))
            if not change.largest <= SAME_SCORES * max(1.0, float(np.abs(before).max(initial=0.0))):
                raise LorankError(
                    f"the saved adapter scores differently by {change.largest:.3g}; nothing was written. "
                    "Is a new head missing from `trained`?"
                )
        names = sorted(path.name for path in stage.iterdir())
    return [Path(folder) / name for name in names]


def restore(model: nn.Module, folder: Path, kind: type[Kind], *, name: str, trainable: bool = True) -> Kind:
    """Put the adapter in ``folder`` on ``model`` and return it as ``kind``; see ``adapter.load``.

    Args:
        model: The base model that the adapter was trained on.
        folder: The folder that ``save`` wrote, or one of PEFT.
        kind: The class of the result.
        name: The adapter's name on this model.
        trainable: False leaves every tensor of the adapter frozen.
    """
    model = unwrap_model(model)
    contents = read(folder)
    check_fit(contents, model, folder)
    prepared = prepare(model, contents.settings, contents.plan, contents.trained, name)
    named = {place.site.path: form for place, form in zip(prepared.places, prepared.forms, strict=True)}
    _fill_forms(named, {place.site.path: place.site.base for place in prepared.places}, contents, folder)
    updates = prepared.put_on(kind)
    for path, module in updates.trained.items():
        module.load_state_dict(contents.trained[path])
    if not trainable:
        for parameter in updates.parameters():
            parameter.requires_grad_(False)
    return updates


def contents_of(adapter: Updates) -> Contents:
    """Return what a folder of ``adapter`` holds; the tensors are the live ones."""
    forms = adapter.forms
    for path, form in forms.items():
        refuse_offloaded(path, form, "saved")
    plan = {path: LayerPlan(form.rank, form.alpha) for path, form in forms.items()}
    shared = {path: form for path, form in forms.items() if isinstance(form, PeftForm)}
    updates = {path: form.peft_tensors() for path, form in shared.items() if holds_values(form)}
    if not shared:
        updates = {path: {} for path in forms}
        for key, tensor in adapter.state().items():
            owner = owner_of(key, forms)
            if owner is not None:
                updates[owner][key[len(owner) + 1 :]] = tensor
    updates = _with_factors(
        updates, {path: forms[path] for path, layer in adapter.layers.items() if layer.frozen.quantised}
    )
    trained = {path: dict(module.state_dict()) for path, module in adapter.trained.items()}
    return Contents(adapter.settings, plan, updates, trained, _sketches(adapter))


def _with_factors(updates: Mapping[str, Tensors], forms: Mapping[str, Form]) -> dict[str, Tensors]:
    """Return ``updates`` with what ``forms`` computed from the base's weights."""
    return {path: {**own, **(factors_of(forms[path]) if path in forms else {})} for path, own in updates.items()}


def _sketches(adapter: Updates) -> dict[str, Sketch]:
    if not any(form.derived for form in adapter.forms.values()):
        return {}
    merged = adapter.merged
    adapter.unmerge()  # a sketch is of the update of the base's own W
    try:
        return sketches(adapter.forms, {path: layer.frozen for path, layer in adapter.layers.items()})
    finally:
        if merged:
            adapter.merge()


def holds_values(form: Form) -> bool:
    """Return whether ``form`` has anything to save: a LoRA of rank 0 has not, a DoRA of rank 0 has its magnitude."""
    return any(parameter.numel() for parameter in form.parameters())


def reopened_scores(adapter: Updates, folder: Path, probe: Probe) -> object:
    """Return the probe's scores of a copy of the base that only ``folder`` has filled.

    Layers that the method stores in few bits stay so in the copy: the update was trained on them.
    """
    twin = copy.deepcopy(adapter)
    for layer in twin.layers.values():
        layer.keep_quantised()
    model = twin.detach()
    with torch.no_grad():
        for head in twin.trained.values():
            for tensor in head.state_dict().values():
                if tensor.is_floating_point():
                    tensor.fill_(float("nan"))
    restore(model, folder, Updates, name=adapter.name)
    return probe_scores(probe, model)


def open_forms(contents: Contents, model: nn.Module, folder: Path) -> dict[str, Form]:
    """Return the updates that ``contents`` describes by path, built for ``model`` and not put on it."""
    sites = make_sites(model, contents.settings, contents.plan)
    forms = form_type(contents.settings.form).build(sites, **contents.settings.options)
    named = {site.path: form.eval() for site, form in zip(sites, forms, strict=True)}
    _fill_forms(named, {site.path: site.base for site in sites}, contents, folder)
    return named


def check_fit(contents: Contents, model: nn.Module, folder: Path) -> None:
    """Raise DataError where ``model`` lacks a layer or a whole module that ``contents`` brings, or its shape."""
    modules = dict(model.named_modules(remove_duplicate=False))
    for path in contents.plan:
        module = modules.get(path)
        if module is None or not (isinstance(module, Adapted) or is_adaptable(module)):
            found = "no such layer" if module is None else f"a {type(module).__name__}"
            raise DataError(
                folder / TENSORS,
                None,
                f"it adapts {path}, but the model has {found} there",
                "load it on the base model that it was trained on",
            )
    _check_bases(contents, model, folder)
    for path, tensors in contents.trained.items():
        own = modules[path].state_dict() if path in modules else {}
        if own.keys() != tensors.keys():
            lacking = sorted(own.keys() ^ tensors.keys())[:3]
            raise DataError(
                folder / TENSORS,
                None,
                f"module {path} of the model and of the file differ in {lacking}",
                "load it on the base model that it was trained on",
            )
        for key, tensor in tensors.items():
            if own[key].shape != tensor.shape:
                raise DataError(
                    folder / TENSORS,
                    None,
                    f"{path}.{key} has shape {tuple(tensor.shape)}, the model has {tuple(own[key].shape)}",
                    "make the base model with the number of labels that the adapter was trained for",
                )


def _check_bases(contents: Contents, model: nn.Module, folder: Path) -> None:
    """Raise DataError where the folder brings weights of its base that are not those of ``model``."""
    for name, tensor in contents.bases.items():
        path, _, key = name.rpartition(".")
        module = dict(model.named_modules(remove_duplicate=False)).get(path)
        weight = getattr(getattr(module, "base", module), key, None)
        same = weight is not None and weight.shape == tensor.shape
        if not (same and torch.equal(weight.to("cpu", torch.float32), tensor.to("cpu", torch.float32))):
            raise DataError(
                folder / TENSORS,
                None,
                f"it brings a {name} of shape {tuple(tensor.shape)} that the model does not have",
                "load it on the base model that it was trained on, with its rows of the vocabulary",
            )


@torch.no_grad()
def _fill_forms(forms: Mapping[str, Form], bases: Mapping[str, BaseLinear], contents: Contents, folder: Path) -> None:
    shared = {path: form for path, form in forms.items() if isinstance(form, PeftForm)}
    if not shared:
        saved = {path: dict(own) for path, own in contents.updates.items()}
        brought = {path for path, own in saved.items() if path in forms and take_factors(forms[path], own)}
        state = {f"{path}.{key}": tensor for path, own in saved.items() for key, tensor in own.items()}
        copy_tensors(named_tensors(forms), state)
        expected = {path: own for path, own in contents.sketches.items() if path not in brought}
        check_sketches(forms, bases, expected, folder / TENSORS)
    for path, form in shared.items():
        if holds_values(form):
            try:
                form.load_peft_tensors(contents.updates.get(path, {}))
            except (KeyError, ValueError, RuntimeError) as error:
                raise DataError(
                    folder / TENSORS,
                    None,
                    f"layer {path}: {error}",
                    "load it on the base model that it was trained on",
                ) from error
