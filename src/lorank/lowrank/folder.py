"""The adapter folder: PEFT's two files, and beside them what PEFT has no place for.

    adapter_config.json         PEFT's configuration, for forms that PEFT has
    adapter_model.safetensors   the updates, unscaled, and the modules trained whole, under PEFT's names
    lorank.json                 method, start, seed, rank and alpha of every layer, number of labels

Always against the model's original weights. Layers of rank 0 are in lorank.json alone, but
for DoRA's, whose magnitude is written beside factors of rank 1 that are 0.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lorank import __version__
from lorank.errors import DataError, LorankError
from lorank.lowrank import peft_config
from lorank.lowrank.adapter import Adapter, copy_tensors, named_tensors
from lorank.lowrank.agreement import Probe, compare_scores, probe_scores
from lorank.lowrank.attaching import install, make_sites
from lorank.lowrank.base import weight_reader
from lorank.lowrank.forms import Form, form_type
from lorank.lowrank.forms.peft_form import PeftForm
from lorank.lowrank.layer import Adapted
from lorank.lowrank.settings import LayerPlan, Settings
from lorank.lowrank.staging import staged

CONFIG, TENSORS, OWN, HEAD = "adapter_config.json", "adapter_model.safetensors", "lorank.json", "head.safetensors"
PREFIX = "base_model.model."
SAME_SCORES = 1e-6

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Contents:
    """What a folder holds: how it was made, each layer's rank, alpha and tensors, each whole module's tensors."""

    settings: Settings
    plan: Mapping[str, LayerPlan]
    updates: Mapping[str, Tensors]
    trained: Mapping[str, Tensors]


def save(
    adapter: Adapter,
    folder: str | Path,
    *,
    base_name: str | None = None,
    task_type: str | None = None,
    probe: Probe | None = None,
) -> list[Path]:
    """Write ``adapter`` as a folder that lorank and, where it has the form, PEFT load on the original base.

    What was written is opened again before the folder appears: every tensor must be bit-equal, and with a
    ``probe`` a fresh copy of the base, its trained modules blanked, must score as the model does.

    Args:
        folder: made if need be; see ``staging.staged``.
        base_name: the base model's name, for ``base_model_name_or_path``.
        task_type: PEFT's task type; None takes SEQ_CLS for a sequence classifier.
        probe: scores a fixed set of inputs with the model it is given.

    Returns:
        The files written.

    Raises:
        LorankError: where what was read back differs; nothing is left behind then.
    """
    contents = contents_of(adapter)
    with staged(folder) as stage:
        write(contents, adapter.model, stage, base_name=base_name, task_type=task_type)
        if probe is not None:
            change = compare_scores(probe_scores(probe, adapter.model), reopened_scores(adapter, stage, probe))
            if not change.largest <= SAME_SCORES:
                raise LorankError(
                    f"the saved adapter scores differently by {change.largest:.3g}; nothing was written. "
                    "Is a new head missing from `trained`?"
                )
        names = sorted(path.name for path in stage.iterdir())
    return [Path(folder) / name for name in names]


def load(model: nn.Module, folder: str | Path, *, name: str = "default", trainable: bool = True) -> Adapter:
    """Put the adapter in ``folder``, written by lorank or by PEFT (type LORA), on ``model``.

    Args:
        model: the original base, with the number of labels that the adapter was trained for.
        folder: an adapter folder; safetensors only.
        name: of the adapter on this model.
        trainable: whether its parameters may be trained on, or are frozen.

    Returns:
        The adapter, active. Modules trained whole are overwritten by the folder's.

    Raises:
        DataError: for a folder that does not fit the model; UsageError: for PEFT types and options that
        lorank does not know.
    """
    contents = read(Path(folder))
    check_fit(contents, model, Path(folder))
    adapter = install(model, contents.settings, contents.plan, contents.trained, name)
    try:
        _fill(adapter, contents, Path(folder))
    except BaseException:  # whatever stopped it, the model goes back as it came
        adapter.detach()
        raise
    if not trainable:
        for parameter in adapter.parameters():
            parameter.requires_grad_(False)
    return adapter


def contents_of(adapter: Adapter) -> Contents:
    """Return what a folder of ``adapter`` holds; the tensors are the live ones."""
    forms = adapter.forms
    plan = {path: LayerPlan(form.rank, form.alpha) for path, form in forms.items()}
    shared = {path: form for path, form in forms.items() if isinstance(form, PeftForm)}
    updates = {path: form.peft_tensors() for path, form in shared.items() if holds_values(form)}
    if not shared:
        updates = {path: {} for path in forms}
        owners = sorted(forms, key=len, reverse=True)
        for key, tensor in adapter.state().items():
            owner = next((path for path in owners if key.startswith(path + ".")), None)
            if owner is not None:
                updates[owner][key[len(owner) + 1 :]] = tensor
    trained = {path: dict(module.state_dict()) for path, module in adapter.trained.items()}
    return Contents(adapter.settings, plan, updates, trained)


def holds_values(form: Form) -> bool:
    """Return whether ``form`` has anything to save: a LoRA of rank 0 has not, a DoRA of rank 0 has its magnitude."""
    return any(parameter.numel() for parameter in form.parameters())


def write(
    contents: Contents,
    model: nn.Module,
    folder: Path,
    *,
    base_name: str | None,
    task_type: str | None,
    head_beside: bool = False,
) -> None:
    """Write ``contents`` into ``folder``, open the files again and compare every tensor."""
    task_type = task_type or _task_type(model)
    updates = {
        f"{PREFIX}{path}.{key}": tensor for path, tensors in contents.updates.items() for key, tensor in tensors.items()
    }
    heads = {f"{path}.{key}": tensor for path, tensors in contents.trained.items() for key, tensor in tensors.items()}
    if head_beside:
        _write_tensors(updates, folder / TENSORS)
        if heads:
            _write_tensors(heads, folder / HEAD)
    else:
        _write_tensors(updates | {PREFIX + key: tensor for key, tensor in heads.items()}, folder / TENSORS)
    if issubclass(form_type(contents.settings.form), PeftForm) and updates:
        trained = [] if head_beside else list(contents.trained)
        config = peft_config.build(
            contents.settings,
            contents.plan,
            contents.updates,
            trained,
            model,
            base_name,
            None if head_beside else task_type,
        )
        _write_json(config, folder / CONFIG)
    _write_json(_description(contents, model, base_name, task_type), folder / OWN)


def read(folder: Path) -> Contents:
    """Return the contents of an adapter folder."""
    if (folder / OWN).is_file():
        return _read_own(folder)
    if (folder / CONFIG).is_file():
        config = read_json(folder / CONFIG)
        return Contents(*peft_config.parse(config, read_tensors(folder / TENSORS), folder))
    raise DataError(folder, None, f"no adapter here: neither {OWN} nor {CONFIG}", "give a folder that `save` wrote")


def read_tensors(path: Path) -> Tensors:
    """Return the tensors of a safetensors file."""
    if not path.is_file():
        pickled = path.with_suffix(".bin")
        if pickled.is_file():
            raise DataError(
                pickled, None, "pickled tensors are not read", "save the adapter again with safe_serialization=True"
            )
        raise DataError(path, None, "the file is missing", "give a folder with a complete adapter")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise DataError(path, None, f"not a whole safetensors file ({error})", "copy or save it again") from error


def read_json(path: Path) -> dict[str, object]:
    """Return the object in a JSON file."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(
            path, getattr(error, "lineno", None), f"not JSON ({error})", "save the adapter again"
        ) from error
    if not isinstance(value, dict):
        raise DataError(path, 1, "not a JSON object", "save the adapter again")
    return value


def reopened_scores(adapter: Adapter, folder: Path, probe: Probe) -> object:
    """Return the probe's scores of a copy of the base that only ``folder`` has filled."""
    import copy

    twin = copy.deepcopy(adapter)
    model = twin.detach()
    with torch.no_grad():
        for head in twin.trained.values():
            for tensor in head.state_dict().values():
                if tensor.is_floating_point():
                    tensor.fill_(float("nan"))
    load(model, folder, name=adapter.name)
    return probe_scores(probe, model)


def _read_own(folder: Path) -> Contents:
    about = read_json(folder / OWN)
    try:
        layers = about["layers"]
        settings = Settings(**about["settings"])
        plan = {path: LayerPlan(int(layer["rank"]), float(layer["alpha"])) for path, layer in layers.items()}
        heads = list(about["trained"])
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(folder / OWN, None, f"not what lorank writes ({error!r})", "save the adapter again") from error
    tensors = {_unprefixed(key, folder): tensor for key, tensor in read_tensors(folder / TENSORS).items()}
    if (folder / HEAD).is_file():
        tensors |= read_tensors(folder / HEAD)
    updates: dict[str, Tensors] = {}
    trained: dict[str, Tensors] = {path: {} for path in heads}
    owners = sorted([*plan, *heads], key=len, reverse=True)
    for key, tensor in tensors.items():
        owner = next((path for path in owners if key.startswith(path + ".")), None)
        if owner is None:
            raise DataError(
                folder / TENSORS, None, f"{key} belongs to no layer named in {OWN}", "save the adapter again"
            )
        place = trained if owner in trained else updates
        place.setdefault(owner, {})[key[len(owner) + 1 :]] = tensor
    return Contents(settings, plan, updates, trained)


def _unprefixed(key: str, folder: Path) -> str:
    if not key.startswith(PREFIX):
        raise DataError(folder / TENSORS, None, f"key {key!r} does not start with {PREFIX!r}", "save the adapter again")
    return key[len(PREFIX) :]


def open_forms(contents: Contents, model: nn.Module, folder: Path) -> dict[str, Form]:
    """Return the updates that ``contents`` describes by path, built for ``model`` and not put on it."""
    sites = make_sites(model, contents.settings, contents.plan)
    forms = form_type(contents.settings.form).build(sites, **contents.settings.options)
    named = {site.path: form.eval() for site, form in zip(sites, forms, strict=True)}
    _fill_forms(named, contents, folder)
    return named


def check_fit(contents: Contents, model: nn.Module, folder: Path) -> None:
    """Raise DataError where ``model`` lacks a layer or a whole module that ``contents`` brings, or its shape."""
    modules = dict(model.named_modules())
    for path in contents.plan:
        module = modules.get(path)
        if module is None or not (isinstance(module, Adapted) or weight_reader(module)):
            found = "no such layer" if module is None else f"a {type(module).__name__}"
            raise DataError(
                folder / TENSORS,
                None,
                f"it adapts {path}, but the model has {found} there",
                "load it on the base model that it was trained on",
            )
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


def _fill(adapter: Adapter, contents: Contents, folder: Path) -> None:
    _fill_forms(adapter.forms, contents, folder)
    for path, module in adapter.trained.items():
        module.load_state_dict(contents.trained[path])


@torch.no_grad()
def _fill_forms(forms: Mapping[str, Form], contents: Contents, folder: Path) -> None:
    shared = {path: form for path, form in forms.items() if isinstance(form, PeftForm)}
    if not shared:
        state = {f"{path}.{key}": tensor for path, own in contents.updates.items() for key, tensor in own.items()}
        copy_tensors(named_tensors(forms), state)
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


def _description(
    contents: Contents, model: nn.Module, base_name: str | None, task_type: str | None
) -> dict[str, object]:
    config = getattr(model, "config", None)
    settings = asdict(replace(contents.settings, options=dict(contents.settings.options)))
    return {
        "lorank": __version__,
        "settings": settings,
        "layers": {path: asdict(layer) for path, layer in contents.plan.items()},
        "trained": list(contents.trained),
        "base": base_name,
        "architecture": type(model).__name__,
        "task_type": task_type,
        "num_labels": getattr(config, "num_labels", None),
    }


def _task_type(model: nn.Module) -> str | None:
    return "SEQ_CLS" if type(model).__name__.endswith("ForSequenceClassification") else None


def _write_tensors(tensors: Tensors, path: Path) -> None:
    plain = torch.contiguous_format
    copies = {key: tensor.detach().cpu().clone(memory_format=plain) for key, tensor in tensors.items()}
    save_file(copies, path, metadata={"format": "pt"})
    again = read_tensors(path)
    changed = [
        key
        for key, tensor in copies.items()
        if key not in again or again[key].dtype != tensor.dtype or not _bit_equal(again[key], tensor)
    ]
    if changed or len(again) != len(copies):
        raise LorankError(
            f"{path.name}: {changed[:3]} were not written as they are; nothing was kept, is the disk full?"
        )


def _bit_equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.equal(
        a.reshape(-1).contiguous().view(torch.uint8), b.reshape(-1).contiguous().view(torch.uint8)
    )


def _write_json(value: dict[str, object], path: Path) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
